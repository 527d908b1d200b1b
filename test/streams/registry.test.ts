// What is live, by a clock and a tick of the test's own and an nginx that does as it is told. No waiting.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'

import type { Cutter } from '../../src/streams/cutter.ts'
import type { KickObservation } from '../../src/streams/kicks.ts'
import { createLiveList, type LiveStream } from '../../src/streams/live-list.ts'
import type { Kicker } from '../../src/streams/kicker.ts'
import type { Limits } from '../../src/streams/limits.ts'
import type { Admission } from '../../src/streams/places.ts'
import { createRegistry } from '../../src/streams/registry.ts'
import type { Ending } from '../../src/streams/stream-ender.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

const YEAR = 365 * 86_400

/** An nginx that holds streams by id, and can be away. */
const createNginx = () => {
  const streams = new Map<string, number>()
  const known = new Set<string>()
  let miscounts = false
  const deleted: string[] = []
  let away: Error | undefined
  let gate: Promise<void> = Promise.resolve()
  let counted = 0
  const end = async (kick: string): Promise<'ended' | 'nobody'> => {
    deleted.push(kick)
    await gate
    if (away) throw away
    if (!known.has(kick)) return 'nobody'
    streams.delete(kick)
    return 'ended'
  }
  const kicker: Pick<Kicker, 'end' | 'count'> = {
    end: (asked) => asked.map(({ kick }) => end(kick)),
    async count({ kick }) {
      counted++
      await gate
      if (away) throw away
      if (!known.has(kick)) return 'unknown'
      return miscounts ? 0 : (streams.get(kick) ?? 0)
    },
  }
  return {
    kicker,
    deleted,
    counted: () => counted,
    deletes: (kick: string) => deleted.filter((one) => one === kick).length,
    open(kick: string) {
      known.add(kick)
      streams.set(kick, (streams.get(kick) ?? 0) + 1)
    },
    close(kick: string) {
      streams.delete(kick)
    },
    /** As after its restart, or once it has tidied up. */
    forget(kick: string) {
      known.delete(kick)
      streams.delete(kick)
    },
    /** From now on it counts nobody, whoever is there. */
    miscount(from: boolean) {
      miscounts = from
    },
    isLive: (kick: string) => streams.has(kick),
    leave(error = new Error('nginx is away')) {
      away = error
    },
    comeBack() {
      away = undefined
    },
    /** Answers wait until the returned function is called. */
    hang() {
      const { promise, resolve } = Promise.withResolvers<void>()
      gate = promise
      return resolve
    },
  }
}

/** Sockets by their connection, as the cutter finds them. */
const createKernel = () => {
  const sockets = new Map<string, string>()
  const queued = new Map<string, number>()
  const looked: string[] = []
  const cut: string[] = []
  let away: Error | undefined
  let refuses = false
  let cookies = 0
  const end = async ({
    connection = '',
    cookie,
  }: Pick<Subscription, 'connection' | 'cookie'>): Promise<Ending> => {
    cut.push(connection)
    if (away) throw away
    if (refuses) return 'refused'
    if (sockets.get(connection) !== cookie) return 'nobody'
    sockets.delete(connection)
    return 'ended'
  }
  const cutter: Pick<Cutter, 'end' | 'look'> = {
    end: (streams) => streams.map(end),
    async look(connection) {
      looked.push(connection)
      if (away) throw away
      const cookie = sockets.get(connection)
      if (refuses) return { refused: 'rate' }
      return cookie === undefined ? 'gone' : { cookie, queued: queued.get(connection) ?? 0 }
    },
  }
  return {
    cutter,
    looked,
    cut,
    queued,
    /** A client connects from this port. */
    connect(port: number) {
      const connection = `192.0.2.1 ${port} 192.0.2.2 443`
      const cookie = (++cookies).toString(16)
      sockets.set(connection, cookie)
      return { connection, cookie }
    },
    close: (connection: string) => void sockets.delete(connection),
    isOpen: (connection: string) => sockets.has(connection),
    leave(error?: Error) {
      away = error
    },
    refuse(from: boolean) {
      refuses = from
    },
  }
}

const createFile = () => {
  const rows = new Map<string, Subscription>()
  let broken: Error | undefined
  return {
    file: {
      open(stream: Subscription): void {
        if (broken) throw broken
        rows.set(stream.kick, stream)
      },
      close: (kick: string): void => void rows.delete(kick),
    },
    rows,
    break(error?: Error) {
      broken = error
    },
  }
}

const setUp = (t: Test, options: Partial<Limits> = {}) => {
  const nginx = createNginx()
  const kernel = createKernel()
  const written = createFile()
  const clock = createTestClock()
  const seen: KickObservation[] = []
  const faults: unknown[] = []
  const limits = { perSession: 16, streamsPerSession: 64, ...options }
  const ended = new Set<string>()
  const right = { stillAllowed: (_subscription: Subscription): boolean => true }
  const told: string[] = []
  let reloadDue = false
  /** What is done how often. */
  const beats: { every: number; beat(): void }[] = []
  let stopped = 0
  const create = () =>
    createRegistry({
      file: written.file,
      kicker: nginx.kicker,
      cutter: kernel.cutter,
      workers: {
        asks: (pid) => void told.push(`asks ${pid}`),
        foundNobody: (pid) => void told.push(`nobody ${pid}`),
        mayLinger: ({ worker }) => reloadDue && worker !== 'dead',
        reloadDue: () => reloadDue,
      },
      clock: {
        ...clock,
        every(seconds, beat) {
          beats.push({ every: seconds, beat })
          return () => void stopped++
        },
      },
      limits: () => limits,
      observe: (kick) => void seen.push(kick),
      onFault: (error) => void faults.push(error),
      onCrowd: (connection) => void told.push(`crowd ${connection}`),
      isEnded: (sid) => ended.has(sid),
      stillAllowed: (subscription) => right.stillAllowed(subscription),
    })
  const registry = create()
  t.teardown(() => {
    registry.close()
  })
  /** All that is promised by now comes to pass. */
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve()
  }
  const admission = (changes: Partial<Admission> = {}): Admission => ({
    sid: 's1',
    username: '201',
    userId: 7,
    role: 'user',
    resource: 'users-state',
    until: NOW + 60,
    address: '192.0.2.1',
    agent: 'a page',
    exclusive: false,
    worker: '',
    kid: 'k1',
    ...changes,
  })
  let step = 0
  const admit = async (changes: Partial<Admission> = {}): Promise<string> => {
    const kick = registry.admit(admission(changes))
    if (kick === undefined) throw new Error('refused')
    return kick
  }
  return {
    right,
    ended,
    registry,
    create,
    nginx,
    kernel,
    written,
    clock,
    seen,
    faults,
    limits,
    settle,
    /** What the workers' watcher was told. */
    told,
    /** A worker of nginx died, or it was reloaded. */
    needReload(isNeeded: boolean) {
      reloadDue = isNeeded
    },
    isStopped: () => stopped === beats.length,
    /** Time goes by in steps of 0.1 s. */
    async pass(seconds: number): Promise<void> {
      for (let left = seconds; left > 1e-9; left -= 0.1) {
        clock.advance(Math.min(left, 0.1))
        step++
        for (const { every, beat } of beats) if (step % Math.round(every * 10) === 0) beat()
        await settle()
      }
    },
    async tick(): Promise<void> {
      for (const { beat } of beats) beat()
      await settle()
    },
    admission,
    admit,
    /** Admitted, and the stream is open. */
    async listen(changes: Partial<Admission> = {}): Promise<string> {
      const kick = await admit(changes)
      nginx.open(kick)
      return kick
    },
  }
}

void t.test('an id is random, written down before it is given, and shared', async (t) => {
  const { registry, written, admission, admit } = setUp(t)
  const kick = String(registry.admit(admission()))
  t.match(kick, /^kick-[A-Za-z0-9_-]{22}$/)
  const { exclusive: _exclusive, ...rest } = admission()
  t.match(written.rows.get(kick), { ...rest, until: NOW + 60, kick, startedAt: NOW })
  t.equal(registry.admit(admission({ until: NOW + 90, address: '192.0.2.9' })), kick)
  t.match(registry.list(), [{ kick, until: NOW + 90 }])

  const ids = new Set([
    kick,
    await admit({ resource: 'contacts' }),
    await admit({ sid: 's2' }),
    await admit({ sid: 's2', resource: 'contacts' }),
    await admit({ kid: 'k2' }),
  ])
  t.equal(ids.size, 5, 'another session, resource or key has its own')
  t.equal(registry.count(), 5)
})

void t.test('what cannot be written down is not given, and ends nobody', async (t) => {
  const { registry, written, admission, listen, nginx, pass } = setUp(t, { perSession: 1 })
  const old = await listen({ until: NOW + YEAR, worker: '1' })
  await pass(61)
  written.break(new Error('no room'))
  t.throws(() => registry.admit(admission({ resource: 'contacts' })), /no room/)
  t.throws(() => registry.admit(admission({ worker: '2' })), /no room/)
  t.match(registry.list(), [{ kick: old }])
  t.same(nginx.deleted, [])
  written.break()
  await pass(61)
  t.not(registry.admit(admission({ resource: 'contacts' })), undefined)
})

void t.test('a stream is closed within half a second of its end, and only it', async (t) => {
  const { listen, pass, nginx, registry, seen, written, clock } = setUp(t)
  const short = await listen({ until: NOW + 2 })
  const long = await listen({ sid: 's2', until: NOW + 60 })
  await pass(1.8)
  t.ok(nginx.isLive(short))
  t.equal(nginx.deleted.length, 0)
  await pass(0.6)
  t.notOk(nginx.isLive(short))
  t.ok(nginx.isLive(long))
  t.match(seen, [{ cause: 'expired', result: 'ended' }])
  t.match(registry.list(), [{ kick: long }])
  t.ok(written.rows.has(short), 'kept while a check under way could bring another')
  await pass(9)
  t.notOk(written.rows.has(short))
  const asked = nginx.deleted.length
  await pass(5)
  t.equal(nginx.deleted.length, asked, 'then nobody asks for it any more')
  t.ok(clock.now() > NOW)
})

void t.test('a refresh extends and never kicks, nor does it shorten', async (t) => {
  const { listen, pass, nginx, registry } = setUp(t)
  const kick = await listen({ until: NOW + 2 })
  registry.extend({ sid: 's1', role: 'user', until: NOW + 30 })
  registry.extend({ sid: 's1', role: 'user', until: NOW + 3 })
  registry.extend({ sid: 'nobody', role: 'user', until: NOW + 3 })
  await pass(29)
  t.ok(nginx.isLive(kick))
  await pass(1.4)
  t.notOk(nginx.isLive(kick))
})

void t.test('a refresh under a role that may less ends what it may no longer', async (t) => {
  const { listen, nginx, registry, settle, seen, right } = setUp(t)
  const kept = await listen()
  const lost = await listen({ resource: 'event-bus' })
  const roles: string[] = []
  right.stillAllowed = ({ role, resource }) => {
    roles.push(role)
    return resource === 'users-state'
  }
  registry.extend({ sid: 's1', role: 'guest', until: NOW + 99 })
  await settle()
  t.same(roles, ['guest', 'guest'])
  t.ok(nginx.isLive(kept))
  t.notOk(nginx.isLive(lost))
  t.match(seen, [{ cause: 'grant_removed', result: 'ended' }])
  t.match(registry.list(), [{ kick: kept, role: 'guest', until: NOW + 99 }])
})

void t.test(
  'deadlines years away fire when they come, and a clock that jumps moves them',
  async (t) => {
    const { listen, pass, tick, nginx, clock } = setUp(t)
    const far = await listen({ until: NOW + 3 * YEAR })
    await pass(1)
    clock.advance(3 * YEAR - 10)
    await tick()
    t.ok(nginx.isLive(far), 'ten seconds before')
    clock.advance(10)
    await tick()
    t.notOk(nginx.isLive(far))

    const kick = await listen({ sid: 's2', until: clock.now() + 60 })
    clock.jump(-2 * YEAR)
    await pass(30)
    t.ok(nginx.isLive(kick), 'set back: its token lives as much longer')
    clock.jump(2 * YEAR)
    await pass(20)
    t.ok(nginx.isLive(kick), 'and right again')
    clock.jump(YEAR)
    await pass(0.4)
    t.notOk(nginx.isLive(kick), 'set forward: its token is over as well')
  },
)

void t.test('an id is never given again after a kick, whatever the kick finds', async (t) => {
  const { listen, admit, registry, nginx, settle, pass } = setUp(t)
  const given = new Set<string>()
  for (let round = 0; round < 20; round++) {
    const kick = round % 2 === 0 ? await listen() : await admit()
    t.notOk(given.has(kick))
    given.add(kick)
    void registry.kickSession('s1', 'operator')
    t.equal(registry.count(), 0, 'at once')
    await settle()
    if (round % 5 === 0) await pass(1)
  }
  nginx.leave()
  const first = await admit()
  await registry.kickSession('s1', 'operator')
  t.not(await admit(), first, 'also where nginx could not be told')
})

void t.test('a kick that comes before its stream is repeated until none can come', async (t) => {
  const { admit, registry, nginx, pass, seen, written, clock } = setUp(t)
  const kick = await admit() // its check is still under way
  await pass(1)
  const issued = clock.monotonic() - 1
  const told = registry.kickSession('s1', 'session_ended')
  await pass(3)
  t.ok(
    [8, 9, 10].includes(nginx.deletes(kick)),
    `${nginx.deletes(kick)} tries: 100, 200, then 400 ms`,
  )
  t.same(seen, [], 'nobody there is not yet an end')
  nginx.open(kick)
  await pass(0.4)
  t.notOk(nginx.isLive(kick))
  t.match(seen, [{ cause: 'session_ended', result: 'ended' }])
  t.ok((seen[0]?.took ?? 0) > 3)
  await told

  nginx.open(kick) // a second tab, whose check was the slower one
  await pass(0.4)
  t.notOk(nginx.isLive(kick), 'that one too')
  t.equal(seen.length, 1, 'one kick is counted once')
  t.ok(written.rows.has(kick))
  await pass(10 - (clock.monotonic() - issued) + 0.4)
  t.notOk(written.rows.has(kick))
  const tries = nginx.deletes(kick)
  await pass(3)
  t.equal(nginx.deletes(kick), tries, 'ten seconds after its last check it is over')
})

void t.test('the ten seconds run from the last check that got the id', async (t) => {
  const { admit, registry, nginx, pass, seen } = setUp(t)
  const kick = await admit()
  await pass(9)
  t.equal(await admit(), kick)
  void registry.kickSession('s1', 'session_ended')
  await pass(5)
  t.same(seen, [])
  nginx.open(kick)
  await pass(0.4)
  t.notOk(nginx.isLive(kick))
})

void t.test('a kick that finds nobody is over as soon as no stream can come', async (t) => {
  const { admit, registry, pass, seen, written, settle, nginx } = setUp(t)
  const kick = await admit()
  await pass(11)
  t.equal(await registry.kickSession('s1', 'operator'), 1)
  await settle()
  t.match(seen, [{ cause: 'operator', result: 'nobody' }])
  t.notOk(written.rows.has(kick))
  t.equal(nginx.deletes(kick), 1)
})

void t.test('a WebSocket has an id of its own, and one end is enough for it', async (t) => {
  const { listen, registry, nginx, settle, seen, written, pass } = setUp(t)
  const shared = await listen()
  const first = await listen({ exclusive: true })
  const second = await listen({ exclusive: true })
  t.equal(new Set([shared, first, second]).size, 3)
  t.same(registry.countByKind(), { cut: 0, websocket: 2, shared: 1, adopted: 0 })
  t.equal(await listen(), shared)
  t.equal(registry.count(), 3)

  t.equal(await registry.kickSession('s1', 'session_ended'), 3)
  await settle()
  t.same(
    [shared, first, second].map((kick) => nginx.isLive(kick)),
    [false, false, false],
  )
  t.equal(seen.length, 3)
  await pass(2)
  t.equal(nginx.deletes(first), 1)
  t.ok(nginx.deletes(shared) > 5, 'where another could come it is repeated')
  t.same([...written.rows.keys()], [shared])
})

void t.test('a WebSocket that is not there yet is waited for, and ends as it comes', async (t) => {
  const { admit, registry, nginx, pass, written } = setUp(t)
  const kick = await admit({ exclusive: true })
  void registry.kickSession('s1', 'session_ended')
  await pass(3)
  nginx.open(kick)
  await pass(0.4)
  t.notOk(nginx.isLive(kick))
  t.equal(written.rows.size, 0)
})

void t.test('the end of a WebSocket is the end of its id', async (t) => {
  const { listen, registry, nginx, written, settle } = setUp(t)
  const kick = await listen({ exclusive: true })
  const other = await listen({ exclusive: true })
  nginx.close(kick)
  registry.streamEnded(kick)
  await settle()
  t.match(registry.list(), [{ kick: other }])
  t.same([...written.rows.keys()], [other])
  t.equal(nginx.deleted.length, 0)
})

void t.test('a logout waits for its streams, and for no more than 0.2 s', async (t) => {
  const { listen, registry, nginx, seen } = setUp(t)
  t.equal(await registry.kickSession('s1', 'session_ended'), 0, 'nothing to wait for')
  await listen()
  await listen({ resource: 'contacts' })
  await listen({ sid: 's2' })
  t.equal(await registry.kickSession('s1', 'session_ended'), 2)
  t.equal(seen.length, 2)
  t.equal(registry.count(), 1)

  const go = nginx.hang()
  const elapsed = startStopwatch()
  t.equal(await registry.kickSession('s2', 'session_ended'), 1)
  const { took, ours } = elapsed()
  t.ok(took > 150 && ours < 400, `${Math.round(took)} ms`)
  go()
})

void t.test('two ends at once are one kick', async (t) => {
  const { listen, registry, nginx, seen, tick, clock } = setUp(t)
  const kick = await listen({ until: NOW + 1 })
  const go = nginx.hang()
  const both = [
    registry.kickSession('s1', 'session_ended'),
    registry.kickSession('s1', 'session_ended'),
  ]
  registry.review(() => false)
  clock.advance(2)
  await tick()
  await tick()
  t.equal(nginx.deletes(kick), 1, 'while one is under way no other starts')
  go()
  await Promise.all(both)
  t.match(seen, [{ cause: 'session_ended', result: 'ended' }])
})

void t.test('nginx away: said once, counted once a stream, tried until it answers', async (t) => {
  const { listen, registry, nginx, pass, seen, faults, written, admit } = setUp(t)
  const first = await listen()
  const second = await listen({ sid: 's2' })
  await listen({ sid: 's3', until: NOW + YEAR })
  nginx.leave()
  await registry.kickSession('s1', 'session_ended')
  await registry.kickSession('s2', 'session_ended')
  t.match(seen, [{ result: 'failed' }], 'of the second it is not known')
  t.match(faults, [/nginx is away/])
  await pass(90)
  t.match(seen, [{ result: 'failed' }, { result: 'failed' }], 'each once')
  t.equal(faults.length, 1, 'the sweep says nothing new either')
  const asked = nginx.deleted.length + nginx.counted()
  t.ok(asked >= 80 && asked <= 100, `${asked}: about once a second, whatever there is to ask`)
  t.ok(nginx.isLive(first))
  t.ok(written.rows.has(first), 'a crash now would not orphan it')

  nginx.comeBack()
  await pass(1.4)
  t.notOk(nginx.isLive(first))
  t.notOk(nginx.isLive(second))
  t.equal(seen.length, 2)
  t.notOk(written.rows.has(first))

  nginx.leave()
  await admit()
  await registry.kickSession('s1', 'session_ended')
  t.equal(faults.length, 2, 'the next outage is another')
})

void t.test('a sweep that works ends an outage as well', async (t) => {
  const { listen, nginx, pass, faults } = setUp(t)
  await listen({ until: NOW + YEAR })
  nginx.leave()
  await pass(61)
  t.equal(faults.length, 1)
  nginx.comeBack()
  await pass(60)
  nginx.leave()
  await pass(60)
  t.equal(faults.length, 2)
})

void t.test('at the limit of a session the oldest goes', async (t) => {
  const { listen, registry, nginx, pass, settle, seen, limits } = setUp(t, { perSession: 3 })
  const kicks: string[] = []
  for (const resource of ['a', 'b', 'c', 'd']) {
    kicks.push(await listen({ resource, until: NOW + YEAR }))
    await pass(30)
  }
  await listen({ sid: 's2' })
  t.same(
    kicks.map((kick) => nginx.isLive(kick)),
    [false, true, true, true],
  )
  t.match(seen, [{ cause: 'limit', result: 'ended' }])

  limits.perSession = 1 // by a reload
  await pass(60)
  const last = await listen({ resource: 'e', until: NOW + YEAR })
  await settle()
  t.match(
    registry.list().filter(({ sid }) => sid === 's1'),
    [{ kick: last }],
  )
  t.equal(seen.filter(({ cause }) => cause === 'limit').length, 4)
})

void t.test('many tabs on one channel are one resource, and end nobody', async (t) => {
  const { listen, nginx, pass, registry } = setUp(t)
  for (let tab = 0; tab < 17; tab++) await listen({ exclusive: true, until: NOW + YEAR })
  for (let round = 0; round < 50; round++) {
    await pass(2)
    // Whoever was ended comes back.
    while (registry.count() < 17) await listen({ exclusive: true, until: NOW + YEAR })
  }
  t.same(nginx.deleted, [])
})

void t.test('where all are young the new one is refused, and nobody ends', async (t) => {
  const limits = { perSession: 2, streamsPerSession: 5 }
  const { listen, admit, admission, nginx, pass, registry } = setUp(t, limits)
  const year = { exclusive: true, until: NOW + YEAR }
  for (let tab = 0; tab < 5; tab++) {
    await listen(year).catch(async () => {
      await pass(0.4) // until nginx has shown the ones before
      return listen(year)
    })
  }
  for (let tab = 0; tab < 200; tab++) await t.rejects(admit(year), /refused/)
  await t.rejects(admit({ until: NOW + YEAR }), /refused/, 'of whatever kind')
  t.equal(registry.hasRoom(admission()), false)
  t.equal(registry.count(), 5)
  t.same(nginx.deleted, [])
  await pass(59)
  await t.rejects(admit(year), /refused/)
  await pass(1.2)
  t.equal(registry.hasRoom(admission()), true)
  t.same(nginx.deleted, [], 'whoever only asks ends nobody')
  await listen({ until: NOW + YEAR })
  t.equal(registry.count(), 5)
  t.equal(registry.hasRoom(admission()), true, 'one id for both')
  t.equal(new Set(nginx.deleted).size, 1, 'one gave way')
  await listen({ ...year, sid: 's2' })
})

void t.test('handshakes that are dropped cost little, and keep nobody else waiting', async (t) => {
  const { registry, admission, listen, nginx, pass, seen } = setUp(t)
  const other = await listen({ sid: 's2' })
  let admitted = 0
  for (let second = 0; second < 10; second++) {
    for (let handshake = 0; handshake < 800; handshake++) {
      const given = registry.admit(admission({ exclusive: true }))
      if (given !== undefined) admitted++
    }
    await pass(1)
  }
  t.equal(admitted, 32, 'half of what the session may have')
  t.same(nginx.deleted, [], 'nobody is kicked for it')
  t.ok(nginx.counted() <= 70, `${nginx.counted()} questions`)
  void registry.kickSession('s2', 'session_ended')
  await pass(0.1)
  t.notOk(nginx.isLive(other))
  await pass(2)
  t.equal(registry.count(), 0, 'what never came is forgotten')
  t.equal(seen.length, 1)
})

void t.test('tabs of which nginx has shown enough are followed by more', async (t) => {
  const { listen, registry, pass } = setUp(t)
  const tab = { exclusive: true, until: NOW + YEAR }
  for (let at = 0; at < 32; at++) await listen(tab)
  await t.rejects(listen(tab), /refused/)
  await pass(0.4)
  for (let at = 0; at < 32; at++) await listen(tab)
  t.equal(registry.count(), 64)
  await pass(12)
  t.equal(registry.count(), 64)
})

void t.test('an end of a session goes before the streams of whoever opens too many', async (t) => {
  const { listen, registry, nginx, settle } = setUp(t, { perSession: 2 })
  for (let at = 0; at < 300; at++) await listen({ sid: `s${at}` })
  const last = await listen({ sid: 'pressing' })
  const go = nginx.hang()
  registry.review(({ sid }) => sid === 'pressing')
  t.equal(nginx.deleted.length, 64, 'so many at once')
  void registry.kickSession('pressing', 'session_ended')
  t.equal(nginx.deletes(last), 0)
  go()
  await settle()
  t.equal(nginx.deleted.indexOf(last), 64, 'as soon as there is room')
  t.equal(new Set(nginx.deleted).size, 301, 'and then the others')
})

void t.test('while nginx is away one probe a second is all, however much is due', async (t) => {
  const { listen, registry, nginx, pass, faults, seen } = setUp(t)
  for (let at = 0; at < 3000; at++) await listen({ sid: `s${at}`, until: NOW + 1 })
  await listen({ sid: 'other' })
  nginx.leave()
  await pass(10)
  t.ok(nginx.deleted.length <= 64 + 11, `${nginx.deleted.length} tries`)
  t.equal(faults.length, 1)
  t.ok(seen.length <= 64 + 11, 'nobody says of the others what is not known')
  t.equal(await registry.kickSession('other', 'session_ended'), 1, 'and nobody waits for them')
  nginx.comeBack()
  await pass(1.4)
  t.equal(seen.length, 3001, 'each once')
  const streams = new Set(nginx.deleted)
  t.equal([...streams].filter((kick) => nginx.isLive(kick)).length, 0)
  t.equal(streams.size, 3001)
})

void t.test('a review ends what is no longer allowed, and nothing else', async (t) => {
  const { listen, registry, nginx, settle, seen } = setUp(t)
  const kept = await listen()
  const lost = await listen({ resource: 'contacts' })
  registry.review(({ resource, role, userId }) => {
    t.match({ role, userId }, { role: 'user', userId: 7 })
    return resource !== 'contacts'
  })
  await settle()
  t.ok(nginx.isLive(kept))
  t.notOk(nginx.isLive(lost))
  t.match(seen, [{ cause: 'grant_removed' }])
})

void t.test('what nginx does not know is forgotten by the sweep', async (t) => {
  const { listen, registry, nginx, pass, written } = setUp(t)
  const gone = await listen({ until: NOW + YEAR })
  const live = await listen({ sid: 's2', until: NOW + YEAR })
  nginx.forget(gone)
  await pass(59)
  t.equal(registry.count(), 2)
  await pass(2)
  t.match(registry.list(), [{ kick: live }])
  t.notOk(written.rows.has(gone))
  t.equal(nginx.deletes(gone), 0)
  await pass(600)
  t.match(registry.list(), [{ kick: live }])
})

void t.test('a count of nobody is believed only in a row, and never without a kick', async (t) => {
  const { listen, registry, nginx, pass, written, seen } = setUp(t)
  const gone = await listen({ until: NOW + YEAR })
  const live = await listen({ sid: 's2', until: NOW + YEAR })
  nginx.close(gone)
  await pass(7 * 60 + 1)
  t.equal(registry.count(), 2)
  await pass(62)
  t.match(registry.list(), [{ kick: live }])
  t.match(seen, [{ cause: 'swept' }])
  t.notOk(written.rows.has(gone))

  nginx.miscount(true)
  await pass(6 * 60)
  nginx.miscount(false)
  await pass(60)
  nginx.miscount(true)
  await pass(6 * 60)
  t.ok(nginx.isLive(live), 'one right count, and it begins anew')
  await pass(3 * 60)
  t.notOk(nginx.isLive(live), 'rather closed than forgotten alive: its client comes back')
  t.equal(registry.count(), 0)
})

void t.test('a sweep asks for so many at a time', async (t) => {
  const { admit, nginx, pass, tick, clock, registry } = setUp(t)
  for (let at = 0; at < 200; at++) await admit({ sid: `s${at}`, until: NOW + YEAR })
  clock.advance(61)
  await tick()
  t.equal(nginx.counted(), 64)
  await pass(0.6)
  t.equal(nginx.counted(), 200)
  t.equal(registry.count(), 0)
})

void t.test('the end of a stream that may share is a hint: nginx is asked', async (t) => {
  const { listen, registry, nginx, pass, admit } = setUp(t)
  const kick = await listen({ until: NOW + YEAR })
  nginx.open(kick) // a second tab
  registry.streamEnded(kick)
  registry.streamEnded('kick-that-nobody-knows')
  await pass(11)
  t.equal(nginx.counted(), 1)
  t.equal(registry.count(), 1, 'the second tab is there')
  nginx.forget(kick)
  registry.streamEnded(kick)
  await pass(0.4)
  t.equal(registry.count(), 0)

  const next = await listen({ until: NOW + YEAR })
  nginx.forget(next)
  registry.streamEnded(next)
  await pass(5)
  t.equal(registry.count(), 1, 'not while a check under way could bring another')
  t.equal(await admit({ until: NOW + YEAR }), next)
  await pass(5.4)
  t.equal(registry.count(), 1, 'a check in between got the id: it counts from there')
})

void t.test('a check while nginx is asked keeps the id', async (t) => {
  const { listen, admit, registry, nginx, pass, settle, clock, tick } = setUp(t)
  const kick = await listen({ until: NOW + YEAR })
  nginx.forget(kick)
  await pass(59)
  const go = nginx.hang()
  clock.advance(2)
  await tick()
  t.equal(await admit({ until: NOW + YEAR }), kick)
  go()
  await settle()
  t.equal(registry.count(), 1)

  // And where it is kicked in that moment, the sweep leaves it to the kick.
  clock.advance(61)
  const goOn = nginx.hang()
  await tick()
  const told = registry.kickSession('s1', 'operator')
  goOn()
  await told
  await settle()
  t.equal(registry.count(), 0)
})

void t.test('what an earlier process handed out is ended like any other', async (t) => {
  const { registry, nginx, pass, seen, written, admit, settle } = setUp(t)
  const old = (kick: string, changes: Partial<Subscription> = {}): Subscription => ({
    kick: `kick-${kick}`,
    sid: 's1',
    username: '201',
    userId: 7,
    role: 'user',
    resource: 'users-state',
    startedAt: NOW - 100,
    until: NOW + 60,
    address: '192.0.2.1',
    agent: '',
    kid: 'k1',
    worker: '',
    ...changes,
  })
  const rows = [
    old('kicked-before-the-crash'),
    old('the-one-after-it'),
    old('expired-meanwhile', { sid: 's2', until: NOW - 1 }),
    old('gone-meanwhile', { sid: 's3', until: NOW + YEAR }),
    old('lives-on', { sid: 's4', until: NOW + YEAR }),
  ]
  for (const row of rows) {
    written.rows.set(row.kick, row)
    if (row.kick !== 'kick-gone-meanwhile') nginx.open(row.kick)
  }
  registry.adopt(rows, () => true)
  registry.adopt(rows, () => true)
  t.same(registry.countByKind(), { cut: 0, websocket: 0, shared: 0, adopted: 5 }, 'each once')
  const fresh = await admit()
  t.notOk(
    rows.some(({ kick }) => kick === fresh),
    'none of them is given again',
  )
  nginx.open(fresh)

  await pass(0.4)
  t.notOk(nginx.isLive('kick-expired-meanwhile'))
  await pass(11)
  t.equal(await registry.kickSession('s1', 'session_ended'), 3)
  await settle()
  t.equal(seen.filter(({ result }) => result === 'ended').length, 4)
  t.notOk(nginx.isLive('kick-kicked-before-the-crash'))
  t.notOk(nginx.isLive('kick-the-one-after-it'))
  t.notOk(nginx.isLive(fresh))
  await pass(75)
  t.match(registry.list(), [{ kick: 'kick-lives-on' }], 'within 70 s nginx was asked for each')
  t.same([...written.rows.keys()], ['kick-lives-on'])
})

void t.test('what is adopted without a right to it any more ends at once', async (t) => {
  const { registry, nginx, seen, settle, right, ended } = setUp(t)
  const rows = ['of-an-ended-session', 'of-no-session', 'of-a-lost-grant', 'of-today'].map(
    (resource) => ({
      kick: `kick-${resource}`,
      sid: resource,
      username: '201',
      userId: 7,
      role: 'user',
      resource,
      startedAt: NOW - 100,
      until: NOW + 60,
      address: '192.0.2.1',
      agent: '',
      kid: 'k1',
      worker: '',
    }),
  )
  for (const { kick } of rows) nginx.open(kick)
  ended.add('of-an-ended-session')
  right.stillAllowed = ({ resource }) => resource !== 'of-a-lost-grant'
  registry.adopt(rows, ({ sid }) => sid !== 'of-no-session')
  await settle()
  t.match(registry.list(), [{ resource: 'of-today' }])
  t.match(
    seen.map(({ cause }) => cause),
    ['session_ended', 'session_ended', 'grant_removed'],
  )
})

void t.test('the operator ends those of a session, of a user, or all', async (t) => {
  const { registry, listen, seen } = setUp(t)
  await listen()
  await listen({ resource: 'contacts' })
  await listen({ sid: 's2' })
  await listen({ sid: 's3', username: '202' })
  t.equal(await registry.kickSelected({ id: 's1' }), 2)
  t.equal(await registry.kickSelected({ id: 's1' }), 0)
  t.equal(await registry.kickSelected({ user: '201' }), 1)
  t.equal(await registry.kickSelected({}), 1)
  t.same(new Set(seen.map(({ cause }) => cause)), new Set(['operator']))
})

void t.test('after the death of a worker nobody found is not nobody there', async (t) => {
  const { registry, nginx, written, clock, admit, listen, needReload, pass, settle, told } =
    setUp(t)
  const open = { exclusive: true, until: NOW + YEAR }
  const zombies = [
    await listen({ ...open, sid: 'kicked', worker: '7' }),
    await listen({ ...open, sid: 'told later', worker: '7' }),
    await listen({ sid: 'told before', until: NOW + YEAR, worker: '7' }),
    await listen({ ...open, sid: 'of the dead', worker: 'dead' }),
    await listen({ ...open, sid: 'stays', worker: '7' }),
  ]
  await pass(20)
  needReload(true)
  for (const kick of zombies) nginx.forget(kick) // it knows nothing of them, and they go on
  t.ok(registry.streamEnded(String(zombies[2])))
  for (const sid of ['kicked', 'told later', 'told before', 'of the dead']) {
    await registry.kickSession(sid, 'session_ended')
  }
  await settle()
  t.equal(registry.countUnsure(), 2, 'but what was told to have ended, and what the dead one held')
  t.same([...written.rows.keys()], [zombies[0], zombies[1], zombies[4]], 'they stay on the list')
  t.same(
    told.filter((line) => line.startsWith('nobody')),
    ['nobody 7', 'nobody 7', 'nobody dead'],
  )
  t.ok(registry.streamEnded(String(zombies[1])), 'its client went')
  t.notOk(registry.streamEnded(String(zombies[1])), 'once')
  t.equal(registry.countUnsure(), 1)
  await pass(120)
  t.equal(registry.count(), 1, 'nor is one forgotten that was not to be ended')

  needReload(false)
  await pass(0.2)
  t.equal(registry.countUnsure(), 0, 'a reload ends them all')
  t.same([...written.rows.keys()], [zombies[4]])
  await pass(120)
  t.equal(registry.count(), 0)
  t.equal(await admit({ sid: 'new' }), await admit({ sid: 'new' }))
  clock.advance(1)
})

void t.test('an end that is told while its kick is under way is one', async (t) => {
  const { registry, nginx, written, listen, needReload, pass, settle } = setUp(t)
  const kick = await listen({ exclusive: true, until: NOW + YEAR, worker: '7' })
  await pass(20)
  needReload(true)
  nginx.forget(kick)
  const go = nginx.hang()
  void registry.kickSession('s1', 'session_ended')
  t.ok(registry.streamEnded(kick))
  go()
  await settle()
  t.equal(registry.countUnsure(), 0)
  t.notOk(written.rows.has(kick))
  t.notOk(registry.streamEnded(kick), 'nothing is known of it any more')
})

void t.test('a death is noticed up to 5 s late', async (t) => {
  const { registry, nginx, written, listen, needReload, pass } = setUp(t)
  const first = await listen({ sid: 'long ago', exclusive: true, until: NOW + YEAR })
  await pass(20)
  nginx.forget(first)
  await registry.kickSession('long ago', 'session_ended')
  await pass(5)
  const second = await listen({ sid: 'just now', exclusive: true, until: NOW + YEAR })
  await pass(20)
  nginx.forget(second)
  await registry.kickSession('just now', 'session_ended')
  t.equal(registry.countUnsure(), 0)
  await pass(2)
  needReload(true)
  await pass(0.2)
  t.equal(registry.countUnsure(), 1)
  needReload(false)
  await pass(0.2)
  t.equal(registry.countUnsure(), 0)
  t.equal(written.rows.size, 0)
})

void t.test('an id that streams of several workers share is of none', async (t) => {
  const { registry, admit, needReload, pass, told } = setUp(t)
  await admit({ worker: 'dead' })
  await admit({ worker: 'dead' })
  await pass(20)
  needReload(true)
  await registry.kickSession('s1', 'session_ended')
  t.equal(registry.countUnsure(), 0)
  await admit({ worker: 'dead', until: NOW + YEAR })
  await admit({ worker: '7', until: NOW + YEAR })
  await pass(20)
  await registry.kickSession('s1', 'session_ended')
  t.equal(registry.countUnsure(), 1)
  t.same(told, ['asks dead', 'asks dead', 'nobody dead', 'asks dead', 'asks 7', 'nobody '])
})

void t.test('a fault of the observer stops no kick', async (t) => {
  const nginx = createNginx()
  const clock = createTestClock()
  const faults: unknown[] = []
  const registry = createRegistry({
    file: createFile().file,
    kicker: nginx.kicker,
    cutter: createKernel().cutter,
    workers: { asks() {}, foundNobody() {}, mayLinger: () => false, reloadDue: () => false },
    clock,
    limits: () => ({ perSession: 16, streamsPerSession: 64 }),
    observe() {
      throw new Error('no metric')
    },
    onFault: (error) => void faults.push(error),
    onCrowd() {},
    isEnded: () => false,
    stillAllowed: () => true,
  })
  const admission = {
    sid: 's1',
    username: '201',
    userId: 7,
    role: 'user',
    resource: 'users-state',
    until: NOW + 60,
    address: '',
    agent: '',
    exclusive: false,
    worker: '',
    kid: 'k1',
  }
  const kick = String(registry.admit(admission))
  nginx.open(kick)
  const told = registry.kickSession('s1', 'operator')
  await told
  t.notOk(nginx.isLive(kick))
  t.match(faults[0], /no metric/)
  registry.close()
})

void t.test('closing waits for nobody, and nothing is said afterwards', async (t) => {
  const { registry, nginx, listen, faults, isStopped, settle } = setUp(t)
  await listen()
  const go = nginx.hang()
  const told = registry.kickSession('s1', 'operator')
  nginx.leave()
  registry.close()
  t.equal(await told, 1)
  t.ok(isStopped())
  go()
  await settle()
  t.same(faults, [])
})

void t.test('10,000 subscriptions fit into a few MiB', async (t) => {
  const { registry, admission } = setUp(t)
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  gc()
  const before = process.memoryUsage().heapUsed
  for (let at = 0; at < 10_000; at++) {
    registry.admit(admission({ sid: `session-${at >> 2}-abcdefghij`, resource: `r-${at & 3}` }))
  }
  await new Promise((resolve) => setImmediate(resolve)) // what waits for the list to be written is done
  gc()
  const each = (process.memoryUsage().heapUsed - before) / 10_000
  t.comment(`${Math.round(each)} bytes a subscription`)
  t.ok(each < 1024, `${Math.round(each)} bytes`)
  t.equal(registry.count(), 10_000)
})

void t.test('what is not in the list is taken out of no count', (t) => {
  const list = createLiveList()
  const stream = { kick: 'k', sid: 's', place: 'p' } as LiveStream
  list.add(stream)
  for (const left of [0, 0]) {
    list.delete(stream)
    t.equal(list.countByKind().shared, left)
  }
  t.end()
})

void t.test('a cut stream ends with its connection, in one order', async (t) => {
  const { admit, registry, kernel, nginx, settle, seen, written, pass } = setUp(t)
  const at = kernel.connect(1)
  const kick = await admit({ ...at, action: 'connect', resource: 'sip', exclusive: true })
  t.match(
    written.rows.get(kick),
    { ...at, action: 'connect' },
    'with its cookie, before it is let in',
  )
  t.same(registry.countByKind(), { cut: 1, websocket: 0, shared: 0, adopted: 0 })
  t.equal(await registry.kickSession('s1', 'session_ended'), 1)
  t.notOk(kernel.isOpen(at.connection))
  t.match(seen, [{ cause: 'session_ended', result: 'ended', means: 'cut' }])
  await settle()
  t.equal(written.rows.size, 0)
  await pass(11)
  t.equal(kernel.cut.length, 1, 'whatever its check was still to bring is gone with it')
  t.same(nginx.deleted, [], 'Nchan hears nothing of it')
})

void t.test('each way to end a right cuts', async (t) => {
  const { admit, registry, kernel, right, pass, seen, settle } = setUp(t)
  const open = async (port: number, changes: Partial<Admission> = {}): Promise<string> => {
    const at = kernel.connect(port)
    await admit({ ...at, action: 'connect', resource: 'sip', sid: `s${port}`, ...changes })
    return at.connection
  }
  const expires = await open(1, { until: NOW + 2 })
  const goesOn = await open(2, { until: NOW + 2 })
  const [kicked, denied] = [await open(3), await open(4, { resource: 'app' })]
  registry.extend({ sid: 's2', role: 'user', until: NOW + 90 })
  await pass(2.4)
  t.same([expires, goesOn].map(kernel.isOpen), [false, true])
  await registry.kickSelected({ id: 's3' })
  right.stillAllowed = ({ action, resource }) => action === 'connect' && resource === 'sip'
  registry.review()
  await settle()
  t.same([kicked, denied, goesOn].map(kernel.isOpen), [false, false, true])
  right.stillAllowed = ({ role }) => role === 'user'
  registry.extend({ sid: 's2', role: 'guest', until: NOW + 99 })
  await settle()
  t.notOk(kernel.isOpen(goesOn))
  t.same(
    seen.map(({ cause, means }) => `${cause} ${means}`),
    ['expired cut', 'operator cut', 'grant_removed cut', 'grant_removed cut'],
  )
})

void t.test('one connection, session, key, action and resource are one stream', async (t) => {
  const { admit, registry, kernel } = setUp(t)
  const [one, other] = [kernel.connect(1), kernel.connect(2)]
  const read = { action: 'read', resource: 'app' }
  const kick = await admit({ ...one, ...read })
  t.equal(await admit({ ...one, ...read, until: NOW + 90 }), kick)
  t.match(registry.list(), [{ kick, until: NOW + 90 }])
  const ids = [
    kick,
    await admit({ ...other, ...read }),
    await admit({ ...one, ...read, sid: 's2' }),
    await admit({ ...one, ...read, kid: 'k2' }),
    await admit({ ...one, ...read, action: 'write' }),
    await admit({ ...one, ...read, resource: 'other' }),
    await admit({ resource: 'app' }),
  ]
  t.equal(new Set(ids).size, 7)
})

void t.test('over one connection no client grows the memory', async (t) => {
  const { admit, registry, kernel, right, settle, limits } = setUp(t)
  limits.perSession = 2
  const at = kernel.connect(1)
  for (let one = 0; one < 1000; one++) {
    await admit({ ...at, action: 'read', resource: `files/${one}`, until: NOW + one })
  }
  t.equal(registry.count(), 65)
  t.match(registry.list().at(-1), { action: '', resource: '', until: NOW + 999 })
  await admit({ ...at, action: 'read', resource: 'files/1', sid: 's2' })
  t.equal(registry.count(), 66, 'another session is told apart')

  right.stillAllowed = ({ action }) => action === 'read'
  registry.extend({ sid: 's1', role: 'user', until: NOW + 2000 })
  await settle()
  t.ok(kernel.isOpen(at.connection), 'a refresh takes nothing away')
  registry.review()
  await settle()
  t.notOk(kernel.isOpen(at.connection), 'any change may concern what is not told apart')
})

void t.test('the limits are those of subscriptions', async (t) => {
  const { admit, registry, kernel, pass, settle } = setUp(t, { perSession: 2 })
  const at = kernel.connect(1)
  for (const resource of ['a', 'b', 'c']) await admit({ ...at, action: 'read', resource })
  const old = kernel.connect(2)
  await admit({ ...old, action: 'subscribe', resource: 'a', until: NOW + YEAR })
  await admit({ ...kernel.connect(3), action: 'subscribe', resource: 'b', until: NOW + YEAR })
  await t.rejects(admit({ ...kernel.connect(4), action: 'subscribe', resource: 'c' }), /refused/)
  t.equal(registry.count(), 5)
  await pass(61)
  await admit({ ...kernel.connect(5), action: 'subscribe', resource: 'c', until: NOW + YEAR })
  await settle()
  t.notOk(kernel.isOpen(old.connection), 'the oldest gave way')
})

void t.test('a page that goes from channel to channel never ends itself', async (t) => {
  const { admit, registry, kernel, pass } = setUp(t, { perSession: 2 })
  const at = kernel.connect(1)
  const listens = { ...at, action: 'subscribe', until: NOW + YEAR }
  for (let one = 0; one < 20; one++) {
    const kick = await admit({ ...listens, resource: `r-${one}` })
    t.ok(registry.streamEnded(kick), 'nginx tells of the last one')
  }
  await admit({ ...listens, resource: 'a' })
  await admit({ ...listens, resource: 'b' })
  await t.rejects(admit({ ...listens, resource: 'c' }), /refused/)
  await pass(61)
  await admit({ ...listens, resource: 'c' })
  t.ok(kernel.isOpen(at.connection), 'what gives way is not the connection of the newcomer')
})

void t.test('an honest long-poll never meets the limit', async (t) => {
  const { admit, admission, registry, kernel, limits, pass } = setUp(t, {
    perSession: 3,
    streamsPerSession: 4,
  })
  for (let poll = 0; poll < 200; poll++) {
    const at = kernel.connect(1000 + poll)
    const one = { ...at, action: 'subscribe', resource: `r-${poll % 3}`, until: NOW + YEAR }
    if (!registry.hasRoom(admission(one))) await registry.lookAgain('s1')
    await admit(one)
    if (poll < 100) await pass(0.3) // and then as fast as messages come
    kernel.close(at.connection)
    if (poll < 100) await pass(0.3)
  }
  t.ok(kernel.looked.length < 1200, `${kernel.looked.length} looks`)
  t.ok(registry.count() <= 8)

  limits.perSession = 1
  limits.streamsPerSession = 1
  await pass(6)
  const at = kernel.connect(1)
  await admit({ ...at, action: 'subscribe', until: NOW + YEAR })
  const before = kernel.looked.length
  for (let look = 0; look < 5; look++) await registry.lookAgain('s1')
  t.equal(kernel.looked.length, before + 1)
  await pass(0.2)
  await registry.lookAgain('s1')
  t.equal(kernel.looked.length, before + 2, 'at most fifty times a second')

  await pass(0.2)
  kernel.close(at.connection)
  const looks = [1, 2].map(async () => {
    await registry.lookAgain('s1')
    return registry.count()
  })
  t.same(await Promise.all(looks), [0, 0], 'who comes meanwhile waits for the same look')
})

void t.test('the kernel is asked who is left, and silence is no answer', async (t) => {
  const { admit, registry, kernel, pass, written } = setUp(t)
  const open = (port: number) => {
    const at = kernel.connect(port)
    return admit({ ...at, action: 'connect', sid: `s${port}`, until: NOW + YEAR }).then(() => at)
  }
  const [gone, lives] = [await open(1), await open(2)]
  kernel.close(gone.connection)
  kernel.leave(new Error('no cutter'))
  await pass(70)
  kernel.leave()
  kernel.refuse(true)
  await pass(70)
  t.equal(registry.count(), 2)
  kernel.refuse(false)
  await pass(60)
  t.match(registry.list(), [{ sid: 's2' }])
  t.equal(written.rows.size, 1)

  const looked = kernel.looked.length
  kernel.connect(2) // a stranger, from the same port
  await pass(60)
  t.equal(kernel.looked.length, looked + 1)
  t.equal(registry.count(), 0)
  t.same(kernel.cut, [])
  t.ok(kernel.isOpen(lives.connection), 'nobody harms the stranger')
})

void t.test('a check that took long forgets nothing of whoever has its port by now', async (t) => {
  const { admit, registry, kernel, pass } = setUp(t)
  const before = kernel.connect(1)
  const now = kernel.connect(1)
  const listens = { action: 'connect', resource: 'sip', until: NOW + YEAR }
  await admit({ ...now, ...listens })
  await admit({ ...before, ...listens }) // the store was slow about its ticket
  await pass(6)
  t.match(registry.list(), [now], 'what is gone is forgotten')
  t.equal(registry.count(), 1)
  await registry.kickSession('s1', 'session_ended')
  t.notOk(kernel.isOpen(now.connection))
})

void t.test('whoever opens connection after connection has none remembered for long', async (t) => {
  const { admit, registry, kernel, pass } = setUp(t)
  let port = 0
  const flood = async (seconds: number): Promise<void> => {
    for (let tick = 0; tick < seconds * 5; tick++) {
      for (let one = 0; one < 400; one++) {
        const at = kernel.connect(++port)
        await admit({ ...at, action: 'read', resource: 'app', until: NOW + YEAR })
        kernel.close(at.connection)
      }
      await pass(0.2)
    }
  }
  await flood(7)
  const count = registry.count()
  await flood(3)
  t.ok(registry.count() < count * 1.1, `${count}, then ${registry.count()}`)
})

void t.test('what nginx tells of an end is a hint: the kernel may go on sending', async (t) => {
  const { admit, registry, kernel, pass } = setUp(t)
  const at = kernel.connect(1)
  const kick = await admit({ ...at, action: 'subscribe', until: NOW + YEAR })
  t.ok(registry.streamEnded(kick))
  t.ok(registry.streamEnded(kick))
  await pass(1)
  t.equal(registry.count(), 1)
  kernel.close(at.connection)
  t.ok(registry.streamEnded(kick))
  await pass(0.2)
  t.equal(registry.count(), 0)
  t.notOk(registry.streamEnded(kick))
})

void t.test('addresses that come again are another connection', async (t) => {
  const { admit, registry, kernel, written, pass } = setUp(t)
  const first = await admit({ ...kernel.connect(1), action: 'connect' })
  const second = await admit({ ...kernel.connect(1), action: 'connect', sid: 's2' })
  await pass(0.2)
  t.match(registry.list(), [{ kick: second }], 'the one before is gone')
  t.notOk(written.rows.has(first))
  await registry.kickSession('s1', 'session_ended')
  t.same(kernel.cut, [])
})

void t.test('one means away keeps the other from nothing', async (t) => {
  const { admit, listen, registry, kernel, nginx, pass, seen, faults } = setUp(t)
  const at = kernel.connect(1)
  await admit({ ...at, action: 'connect', until: NOW + YEAR })
  const kick = await listen({ until: NOW + YEAR })
  kernel.leave(new Error('no cutter'))
  await registry.kickSession('s1', 'session_ended')
  t.notOk(nginx.isLive(kick))
  t.ok(kernel.isOpen(at.connection))
  await pass(3)
  kernel.leave()
  await pass(1.4)
  t.notOk(kernel.isOpen(at.connection))
  t.match(
    seen.map(({ means, result }) => `${means} ${result}`),
    ['cut failed', 'kick ended'],
    'counted once',
  )
  t.same(faults, [], 'the cutter says itself that it is away')

  nginx.leave()
  const next = kernel.connect(2)
  await admit({ ...next, action: 'connect', sid: 's2' })
  await listen({ sid: 's2' })
  await registry.kickSession('s2', 'session_ended')
  t.notOk(kernel.isOpen(next.connection))
})

void t.test('what the cutter refuses is tried again, ever more slowly', async (t) => {
  const { admit, registry, kernel, pass, seen } = setUp(t)
  const at = kernel.connect(1)
  await admit({ ...at, action: 'connect', until: NOW + YEAR })
  const other = kernel.connect(2)
  await admit({ ...other, action: 'connect', sid: 's2', until: NOW + YEAR })
  kernel.refuse(true)
  await registry.kickSession('s1', 'session_ended')
  t.match(seen, [{ result: 'failed', means: 'cut' }])
  await pass(60)
  t.ok(kernel.cut.length < 12, `${kernel.cut.length} tries`)
  kernel.refuse(false)
  await registry.kickSession('s2', 'session_ended')
  t.notOk(kernel.isOpen(other.connection), 'it is no outage')
  await pass(61)
  t.notOk(kernel.isOpen(at.connection))
  t.equal(seen.length, 2)
})

void t.test('a sweep looks for so many at a time, and for none that ends', async (t) => {
  const { admit, registry, kernel, clock, tick, nginx } = setUp(t)
  for (let at = 0; at < 1100; at++) {
    await admit({ ...kernel.connect(at), action: 'connect', sid: `s${at}`, until: NOW + YEAR })
  }
  await admit({ sid: 'ends', until: NOW + 61 })
  clock.advance(61)
  await tick()
  t.equal(kernel.looked.length, 1000)
  t.equal(nginx.counted(), 0)
  await tick()
  t.equal(kernel.looked.length, 1100)
  t.equal(registry.count(), 1100)
})

void t.test('the connection that carries the order is cut after its answer', async (t) => {
  const { admit, registry, kernel, seen, written } = setUp(t)
  const [own, other] = [kernel.connect(1), kernel.connect(2)]
  await admit({ ...own, action: 'connect' })
  await admit({ ...other, action: 'connect' })
  const answered = registry.hold(own.connection)
  await registry.kickSession('s1', 'session_ended')
  t.same(
    [own, other].map(({ connection }) => kernel.isOpen(connection)),
    [true, false],
  )
  t.equal(written.rows.size, 1, 'it stays on the list')
  kernel.queued.set(own.connection, 0)
  answered()
  await new Promise((resolve) => setTimeout(resolve, 200))
  t.notOk(kernel.isOpen(own.connection))
  t.equal(written.rows.size, 0)
  t.equal(seen.length, 2)
})

void t.test('10,000 ends are a few batches', async (t) => {
  const { admit, registry, kernel, settle } = setUp(t)
  for (let at = 0; at < 10_000; at++) {
    await admit({ ...kernel.connect(at), action: 'connect', sid: `s${at}` })
  }
  registry.review(() => false)
  t.equal(kernel.cut.length, 2048, 'without a wait')
  for (let turn = 0; turn < 50; turn++) await settle()
  t.equal(kernel.cut.length, 10_000)
  t.equal(registry.count(), 0)
})

void t.test(
  'cut streams of an earlier process are looked up, and end like any other',
  async (t) => {
    const { registry, kernel, pass, seen, written, admit } = setUp(t)
    const old = (port: number, sid: string): Subscription => ({
      kick: `kick-${port}`,
      sid,
      username: '201',
      userId: 7,
      role: 'user',
      resource: 'sip',
      startedAt: NOW - 100,
      until: NOW + YEAR,
      address: '192.0.2.1',
      agent: '',
      kid: 'k1',
      worker: '',
      action: 'connect',
      ...kernel.connect(port),
    })
    const rows = [old(1, 'ended'), old(2, 'gone'), old(3, 'reused'), old(4, 'lives')]
    for (const row of rows) written.rows.set(row.kick, row)
    kernel.close('192.0.2.1 2 192.0.2.2 443')
    kernel.connect(3)
    registry.adopt(rows, ({ sid }) => sid !== 'ended')
    t.equal(registry.countByKind().cut, 3)
    await pass(0.2)
    t.match(registry.list(), [{ sid: 'lives' }])
    t.same(kernel.cut, ['192.0.2.1 1 192.0.2.2 443'])
    t.match(seen, [{ cause: 'session_ended', result: 'ended' }])
    t.same([...written.rows.keys()], ['kick-4'])
    const { connection = '', cookie = '' } = rows[3] as Subscription
    await admit({ connection, cookie, action: 'connect', resource: 'sip', sid: 'lives' })
    t.equal(await registry.kickSession('lives', 'session_ended'), 2)
    t.same(
      seen.map(({ result }) => result),
      ['ended', 'ended', 'nobody'],
    )
  },
)
