// What instances on one store owe to each other: whole daemons of this process on a real Redis, and the odd
// moments with parts that do as they are told.

import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { createRevocations } from '../../src/auth/revocations.ts'
import { askDaemon } from '../../src/cli/control-client.ts'
import { createLog } from '../../src/log.ts'
import { alone, createPeers, type PeersParts } from '../../src/daemon/peers.ts'
import type { StateChange } from '../../src/store/shared-store.ts'
import { type EndedSession, StoreError } from '../../src/store/store.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import {
  bearer,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  type TestDaemon,
  V1,
} from '../fixtures/daemon.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../fixtures/redis.ts'

const SUBSCRIBE = {
  'X-Auth-Accept': 'header',
  'X-Auth-Action': 'subscribe',
  resource: 'users-state',
}
const WEBSOCKET = { ...SUBSCRIBE, 'X-Original-Upgrade': 'websocket' }
const STREAM: Subscription = {
  kick: 'kick-x',
  sid: 's',
  username: '201',
  userId: 1,
  role: 'user',
  resource: 'users-state',
  startedAt: NOW,
  until: NOW + 60,
  address: '192.0.2.1',
  agent: 'test',
  kid: 'k1',
  worker: '',
}
const SOON = 20 // seconds: the machine may be busy

const store = (redis: RedisServer, more = ''): string =>
  `url = "${redis.url}"\ntimeout = 2\n${more}` // a busy machine is no outage

/** Two instances that share a Redis and their keys; `beside`: each other, and the same nginx. */
const startPair = async (
  t: Test,
  more = '',
  beside = false,
): Promise<[RedisServer, TestDaemon, TestDaemon]> => {
  const redis = await startRedis(t)
  const one = await startTestDaemon(t, { sections: { store: store(redis, more) } })
  const state = `directory = "${one.place.at('state')}"`
  const together = {
    listen: `control = "${one.place.at('2.control.sock')}"`,
    streams: `kick_socket = "${one.place.at('kick.sock')}"`,
  }
  const sections = { store: store(redis, more), state, ...(beside && together) }
  const two = await startTestDaemon(t, { sections, alone: beside })
  return [redis, one, two]
}

const logout = async (daemon: TestDaemon, token: string): Promise<number> =>
  (await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(token) })).status

const refresh = async (daemon: TestDaemon, token: string): Promise<number> =>
  (await daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(token) })).status

const reason = async (daemon: TestDaemon, token: string): Promise<string> => {
  const answer = await daemon.check(token)
  return answer.header('x-auth-reason') ?? String(answer.status)
}

const live = (daemon: TestDaemon): Promise<number> => daemon.metric('postern_subscriptions')

void t.test('an end is an end on every instance', NEEDS_REDIS, async (t) => {
  const [, one, two] = await startPair(t)
  const { kicked } = two
  const { access, refresh: token } = await one.softphone()
  t.equal(await reason(two, access), '204', 'a login there is a login here')
  t.equal((await two.check(access, SUBSCRIBE)).status, 204)
  t.equal(await live(two), 1)
  t.equal(await logout(one, access), 200)
  await until(async () => (await reason(two, access)) === 'session_ended', SOON)
  await until(() => kicked.length > 0, SOON)
  t.equal(await live(two), 0, 'and its stream is closed by whose nginx holds it')
  t.equal(await refresh(two, token), 401)
  t.equal(await refresh(one, token), 401)
})

void t.test('a logout waits for its own streams, whoever says it first', NEEDS_REDIS, async (t) => {
  const [, one] = await startPair(t)
  const { kicked } = one
  const { access } = await one.softphone()
  const kick = (await one.check(access, WEBSOCKET)).header('x-auth-kick') ?? ''
  t.equal(await logout(one, access), 200)
  t.same(kicked, [kick])
})

void t.test('a refresh elsewhere keeps a stream open', NEEDS_REDIS, async (t) => {
  const [redis, one, two] = await startPair(t)
  const renewed = await one.softphone('201')
  const forgotten = await one.softphone('202')
  for (const { access } of [renewed, forgotten]) {
    t.equal((await two.check(access, SUBSCRIBE)).status, 204)
  }
  t.equal(await live(two), 2)
  for (const { clock } of [one, two]) clock.advance(3590)
  t.equal(await refresh(one, renewed.refresh), 200)
  for (const { clock } of [one, two]) clock.advance(20)
  await until(async () => (await live(two)) === 1, SOON)
  await pause(500) // two more looks
  t.equal(await live(two), 1, 'that of the session which went on')
  for (const { clock } of [one, two]) clock.advance(3600)
  await redis.kill()
  await until(async () => (await live(two)) === 0, SOON)
})

void t.test(
  'the end of a stream and the operator’s kick find who knows it',
  NEEDS_REDIS,
  async (t) => {
    const [, one, two] = await startPair(t)
    const { kicked } = two
    const { access } = await one.softphone()
    const id = async (): Promise<string> =>
      (await two.check(access, WEBSOCKET)).header('x-auth-kick') ?? ''
    const [gone, other] = [await id(), await id()]
    t.equal(await live(two), 2)
    const told = await one.ask('/subscription-ended', { headers: { 'X-Auth-Kick': gone } })
    t.equal(told.status, 204)
    await until(async () => (await live(two)) === 1, SOON)
    t.same(kicked, [], 'nobody was kicked')
    await askDaemon(one.controlSocket, 'POST', '/sessions/kick?user=201')
    await until(async () => (await live(two)) === 0, SOON)
    t.same(kicked, [other])
    t.equal(await reason(two, access), '204', 'and the session goes on')
  },
)

void t.test('all that was issued before counts no more, anywhere', NEEDS_REDIS, async (t) => {
  const [, one, two] = await startPair(t)
  const { kicked } = two
  const { access } = await one.softphone()
  // As a trusted issuer's user would hold one: no session of the store stands behind it.
  const other = one.forge({ ...one.claimsOf(access), sid: 'nobodys-session', jti: 'x' })
  t.equal((await two.check(other, SUBSCRIBE)).status, 204)
  await askDaemon(one.controlSocket, 'POST', '/sessions/end?all=true')
  await until(async () => (await reason(two, other)) === 'session_ended', SOON)
  await until(() => kicked.length > 0, SOON)
  t.equal(await live(two), 0)
})

void t.test('whoever may try no more may not try elsewhere', NEEDS_REDIS, async (t) => {
  const [, one, two] = await startPair(t)
  const attempt = (daemon: TestDaemon, password: string) =>
    daemon.ask(`${V1}/auth/login`, {
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ username: '201', password }),
    })
  for (const daemon of [one, two, one, two, one]) {
    t.equal((await attempt(daemon, 'wrong')).status, 401)
  }
  const answer = await attempt(two, 'correct horse')
  t.equal(answer.status, 429)
  t.ok(Number(answer.header('retry-after')) > 800)
  t.equal((await attempt(one, 'correct horse')).status, 429)
  t.equal(
    ((await one.securityLog()) + (await two.securityLog())).split('[BANNED]').length,
    2,
    'said once',
  )
})

void t.test('while the store is away', NEEDS_REDIS, async (t) => {
  const [redis, one, two] = await startPair(t, 'stale_seconds = 1')
  const { access, refresh: token } = await one.softphone()
  const { access: ended } = await one.softphone()
  await logout(one, ended)
  await until(async () => (await reason(two, ended)) === 'session_ended', SOON)
  await redis.kill()
  const says = async (what: RegExp) => what.test((await two.operator('/readyz')).body)
  await until(() => says(/^not ready: .*ECONNREFUSED: nothing listens there/), SOON)
  t.equal((await two.operator('/readyz')).status, 503)
  t.equal(await two.metric('postern_store_state{state="away"}'), 1)
  t.equal(await two.metric('postern_ready'), 0)

  await until(async () => (await reason(two, access)) === '503', SOON)
  t.equal(await reason(two, ended), 'session_ended', 'what is known stays known')
  t.ok((await two.metric('postern_store_age_seconds')) >= 1)
  const login = await two.ask(`${V1}/auth/login`, {
    headers: { 'Content-Type': 'application/json' },
    body: '{"username":"201","password":"correct horse"}',
  })
  t.same([login.status, login.header('retry-after')], [503, '1'])
  t.equal(await refresh(two, token), 503)
  t.equal(await logout(two, access), 503)
  for (let count = 0; count < 25; count++) await two.check(access)
  const undecided = two.log().filter(({ msg }) => msg === 'a request could not be decided')
  t.ok(undecided.length <= 20, `${undecided.length} lines of a flood`)
  t.match(undecided[0], { problem: /nothing is decided any more|ECONN/ })
  const away = two.log().filter(({ msg }) => /^the shared store: .*ECONN/.test(String(msg)))
  t.ok(away.length >= 1 && away.length <= 3, `said ${away.length} times`)

  await redis.start() // with nothing: no append-only file was kept
  await until(async () => (await two.operator('/readyz')).status === 200, SOON)
  t.equal(await reason(two, access), 'session_ended', 'it has lost what it knew')
  t.equal(await refresh(two, token), 401)
  t.ok((await two.metric('postern_store_losses_total')) > 0)
  await until(async () => (await one.operator('/readyz')).status === 200, SOON)
  for (const { clock } of [one, two]) clock.advance(2)
  t.equal(await reason(two, (await one.softphone()).access), '204')
})

void t.test('a store that is away at the start', NEEDS_REDIS, async (t) => {
  const [redis, one] = await startPair(t)
  const { access } = await one.softphone()
  redis.cli('SAVE')
  await redis.kill()
  const state = `directory = "${one.place.at('state')}"`
  const late = await startTestDaemon(t, { sections: { store: store(redis), state } })
  t.equal(await reason(late, access), '503')
  t.match((await late.operator('/readyz')).body, /not ready: the store is away: redis:/)
  await redis.start()
  await until(async () => (await late.operator('/readyz')).status === 200, SOON)
  t.equal(await reason(late, access), '204')
})

void t.test('keys are made by the first instance alone', NEEDS_REDIS, async (t) => {
  const [redis, one] = await startPair(t)
  const keys = one.place.at('state', 'keys.json')
  t.ok(existsSync(keys))
  await t.rejects(startTestDaemon(t, { sections: { store: store(redis) } }), {
    message: `copy keys.json from ${hostname()}:${keys}`,
  })
  await one.softphone()
  await t.rejects(startTestDaemon(t, { sections: { store: store(redis) } }), {
    message: /copy keys.json from another instance/,
  })
  await redis.kill()
  await t.rejects(startTestDaemon(t, { sections: { store: store(redis) } }), {
    message: /ECONNREFUSED/,
  })
})

void t.test('its password comes from a file', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t, { requirepass: 'hunter2' })
  const folder = t.testdir({ right: 'hunter2\n', empty: '\n' })
  const start = (file: string) =>
    startTestDaemon(t, { sections: { store: store(redis, `password_file = "${file}"`) } })
  const daemon = await start(`${folder}/right`)
  t.equal((await daemon.operator('/readyz')).status, 200)
  t.notMatch(daemon.logText(), /hunter2/)
  await t.rejects(start(`${folder}/none`), {
    message: /none cannot be read \(ENOENT\)/,
  })
  await t.rejects(start(`${folder}/empty`), {
    message: /store\.password_file: .*empty is empty: write the secret into it/,
  })
  const strange = store(redis, `ca_file = "${folder}/none"`)
  await t.rejects(startTestDaemon(t, { sections: { store: strange } }), {
    message: /store\.ca_file: cannot be read \(ENOENT\)/,
  })
})

void t.test('alone there is nothing to hear and nobody to tell', async (t) => {
  let learned = 0
  const peers = alone({ learn: async () => void learned++ })
  await peers.join()
  t.equal(learned, 1)
  t.same(
    [peers.obstacle(), peers.trouble(), peers.standing(), peers.state()],
    [undefined, undefined, 'deciding', 'ok'],
  )
  t.same([peers.age(), peers.losses()], [0, 0])
  peers.streamEnded('kick-x')
  await peers.kick({})
  peers.close()
})

/** Peers on a feed that the test moves. */
const createRig = (more: Partial<PeersParts> = {}) => {
  let change: StateChange = { state: 'ok', message: 'in step' }
  let age = 0
  let trusted = 0
  const heard: {
    onState(change: StateChange): void
    onEnded(ended: EndedSession): void
    onTrustedSince(since: number): void
    onTold(text: string): void
  } = { onState() {}, onEnded() {}, onTrustedSince() {}, onTold() {} }
  const clock = createTestClock()
  const revocations = createRevocations()
  const [lines, standing, kicked, ended]: string[][] = [[], [], [], []]
  const failing: Error[] = []
  let silent: string[] = []
  let look = (): void => undefined
  const peers = createPeers({
    shared: {
      label: 'redis://a',
      inspect: async () => {
        if (age > 0) throw new Error('away')
        return ['Redis forgets']
      },
      feed: {
        state: () => change.state,
        change: () => change,
        age: () => age,
        losses: () => 0,
        bound: 1.5,
        trustedSince: () => trusted,
        onTrustedSince: (listener) => void (heard.onTrustedSince = listener),
        onEnded: (listener) => void (heard.onEnded = listener),
        onState: (listener) => void (heard.onState = listener),
        resync: async () => undefined,
      },
      signals: {
        tell: async () => {
          throw new Error('away')
        },
        onTold: (listener) => void (heard.onTold = listener),
      },
    },
    revocations,
    registry: {
      kickSession: async (sid) => {
        kicked?.push(sid)
        return 1
      },
      review: () => undefined,
      streamEnded: (kick) => {
        ended?.push(kick)
        return true
      },
    },
    kick: async ({ user = '' }) => kicked?.push(user),
    machineKeys: {
      age: () => age,
      async read() {
        kicked?.push('read keys')
        throw new Error('away')
      },
    },
    streamFile: {
      neighbours: {
        isThere: () => false,
        silent: () =>
          silent.map((file) => ({
            file,
            streams: file === 'empty' ? [] : [{ ...STREAM, kick: file }],
            taken: () => void kicked?.push(`took ${file}`),
          })),
      },
    },
    learner: {
      learn: async () => {
        const error = failing.pop()
        if (error) throw error
      },
      takeOver: async ([stream]) => {
        if (stream?.kick === 'odd') throw new SyntaxError('odd')
        if (stream?.kick === 'away') throw new StoreError('unavailable', 'away')
      },
    },
    staleSeconds: () => 0,
    log: createLog('trace', { write: (line: string) => void lines?.push(line) }),
    allows: () => true,
    clock: {
      ...clock,
      every(_seconds, job) {
        look = job
        return () => undefined
      },
    },
    onStanding: (line) => void standing?.push(line),
    ...more,
  })
  return {
    peers,
    heard,
    revocations,
    lines,
    standing,
    kicked,
    ended,
    failing,
    /** It finds these silent. */
    async look(...files: string[]) {
      silent = files
      look()
      await pause(1)
    },
    become(next: StateChange) {
      change = next
      heard.onState(next)
    },
    setAge: (seconds: number) => void (age = seconds),
    setTrusted: (since: number) => void (trusted = since),
  }
}

void t.test('nothing is decided before everything is known', async (t) => {
  const rig = createRig()
  rig.failing.push(new Error('busy'))
  t.match(rig.peers.obstacle(), { code: 'unavailable', message: /reading the shared store/ })
  t.equal(rig.peers.trouble(), 'reading the shared store')
  await rig.peers.join()
  t.match(rig.lines?.join(''), /could not be read: tried again/)
  t.ok(rig.peers.obstacle())
  t.notMatch(rig.lines?.join(''), /Redis forgets/)
  await until(() => rig.peers.obstacle() === undefined, SOON)
  t.same(rig.standing, ['reading the shared store', 'deciding'])
  await until(() => /Redis forgets/.test(String(rig.lines)), SOON)
  rig.peers.close()
})

void t.test('a reading is not too old before the next one is due', async (t) => {
  const rig = createRig()
  rig.setAge(1.4)
  t.equal(rig.peers.keyObstacle(), undefined)
  await rig.peers.join()
  t.equal(rig.peers.obstacle(), undefined)
  rig.setAge(1.6)
  t.match(rig.peers.obstacle(), { message: /nothing is decided any more/ })
  t.match(
    rig.peers.keyObstacle(),
    { message: /nothing is decided any more/ },
    'nor of machine keys',
  )
  await rig.peers.machineKeysChanged() // lost, and found by the next reading
  rig.peers.close()
})

void t.test('what is said of a state is said once, and to systemd', async (t) => {
  const rig = createRig({ allows: () => false })
  await rig.peers.join()
  rig.become({ state: 'away', message: 'redis://a: ECONNREFUSED' })
  rig.become({ state: 'ok', message: 'in step' })
  t.same(rig.standing, ['deciding', 'the store is away: redis://a: ECONNREFUSED', 'deciding'])
  t.notMatch(rig.lines?.join(''), /ECONNREFUSED/, 'where the log is full')
  rig.failing.push(new Error('busy'))
  rig.peers.close()
})

void t.test('a hint that is not understood does nothing', async (t) => {
  const rig = createRig()
  const odd = [
    '',
    'null',
    '[]',
    '{"stream":1}',
    '{"kick":"all"}',
    '{"kick":null}',
    '{"kick":{}}',
    '{"machineKeys":1}',
    'x',
  ]
  for (const text of odd) rig.heard.onTold(text)
  t.same([rig.kicked, rig.ended], [[], []])
  rig.heard.onTold('{"stream":"kick-x"}')
  rig.heard.onTold('{"kick":{"user":"201"}}')
  rig.heard.onTold('{"kick":{"id":"s"}}')
  rig.heard.onTold('{"kick":{"all":true}}')
  rig.heard.onTold('{"machineKeys":true}')
  t.same([rig.kicked, rig.ended], [['201', '', '', 'read keys'], ['kick-x']])
  for (const which of [{}, { id: 's' }, { user: '201' }]) {
    await t.rejects(rig.peers.kick(which), { message: 'away' }, 'the operator is told')
  }
  rig.peers.streamEnded('kick-y') // nobody hears it, and nothing breaks
  rig.heard.onEnded({ sid: 's', username: '201', cause: 'logout', until: NOW + 60 })
  t.ok(rig.revocations.has('s'))
  const before = rig.kicked?.length
  t.equal(rig.kicked?.at(-1), 'read keys', 'its streams outlast the answer')
  await pause(400)
  t.same(rig.kicked?.slice(before), ['s'])
  rig.setTrusted(NOW)
  await rig.peers.join()
  t.ok(rig.revocations.isBeforeEpoch(NOW - 1))
  rig.heard.onTrustedSince(NOW + 5)
  t.ok(rig.revocations.isBeforeEpoch(NOW + 4))
  t.notMatch(String(rig.lines), /clock is ahead/)
  rig.heard.onTrustedSince(NOW + 300)
  t.match(String(rig.lines), /clock is ahead/)
  rig.heard.onEnded({ sid: 'late', username: '201', cause: 'logout', until: NOW + 60 })
  rig.peers.close()
  await pause(400)
  t.notOk(rig.kicked?.includes('late'), 'the next start does it')
})

void t.test('a stop while it is being read is no fault', async (t) => {
  const rig = createRig()
  rig.failing.push(new Error('closed'))
  const failed = rig.peers.join()
  rig.peers.close()
  await failed
  rig.become({ state: 'away', message: 'the store is closed' })
  await rig.peers.join()
  t.same(rig.lines, [])
  const late = createRig()
  const joined = late.peers.join()
  late.peers.close()
  await joined
  t.same([late.lines, late.standing], [[], []], 'what was read too late counts no more')
})

void t.test('the streams of an instance that is gone are taken over', async (t) => {
  const rig = createRig()
  await rig.look('b')
  t.same(rig.kicked, [], 'not before everything is known')
  await rig.peers.join()
  await rig.look('b', 'empty')
  t.same(rig.kicked, ['took b', 'took empty'])
  t.equal(String(rig.lines).split('its streams are ours').length, 2, 'of none nothing is said')
  await rig.look('away')
  t.notMatch(String(rig.lines), /were not taken over/, 'that is said elsewhere')
  await rig.look('odd', 'c')
  t.match(String(rig.lines), /were not taken over/)
  t.same(rig.kicked, ['took b', 'took empty'], 'each is found again until it could be')
  rig.peers.close()
  await rig.look('d')
  t.same(rig.kicked, ['took b', 'took empty'])
})

void t.test('a stream outlives its instance, and not its session', NEEDS_REDIS, async (t) => {
  const [, one, two] = await startPair(t, '', true)
  const { kicked } = one
  const { access, refresh: token } = await one.softphone()
  const kick = (await two.check(access, SUBSCRIBE)).header('x-auth-kick') ?? ''
  await two.stop()
  t.equal(await live(one), 0)
  await until(async () => (await live(one)) === 1, SOON)
  t.same(kicked, [])
  t.equal(await logout(one, token), 200)
  t.ok(kicked.includes(kick))
  await two.start()
})

/** Somebody else asks for the account until it is slowed to one try a second; then its owner comes. */
const enterBesideStrangers = async (daemon: TestDaemon): Promise<readonly number[]> => {
  const enter = async (from: number, password: string): Promise<number> => {
    const body = JSON.stringify({ username: '201', password })
    const headers = { ...JSON_TYPE, 'X-Real-IP': `192.0.2.${from}` }
    return (await daemon.ask(`${V1}/auth/login`, { headers, body })).status
  }
  const strangers = []
  for (const from of [7, 8, 9]) strangers.push(await enter(from, 'a wrong one'))
  return [...strangers, await enter(1, PASSWORD)]
}

void t.test('after a restart an owner is no stranger: a store of its own', async (t) => {
  const daemon = await startTestDaemon(t, { sections: { throttle: 'account_failures = 2' } })
  await daemon.softphone()
  await daemon.restart()
  t.same(await enterBesideStrangers(daemon), [401, 401, 429, 200])
})

void t.test('after a restart an owner is no stranger: Redis', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t)
  const sections = { throttle: 'account_failures = 2', store: store(redis) }
  const daemon = await startTestDaemon(t, { sections })
  await daemon.softphone()
  await daemon.restart()
  t.same(await enterBesideStrangers(daemon), [401, 401, 429, 200])
})
