// Ends of sessions on several hosts, with the server failing in every way we know: real servers, real faults.
import { mkdirSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { evictingPolicy } from '../../../src/store/redis/feed.ts'
import { toEndedSession } from '../../../src/store/redis/journal.ts'
import { openRedisStore, type RedisSettings } from '../../../src/store/redis/redis.ts'
import type { SharedStore, StateChange } from '../../../src/store/shared-store.ts'
import { type EndedSession, HOUR, HOURS_TO_PASS } from '../../../src/store/store.ts'
import { NOW } from '../../fixtures/clock.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../../fixtures/redis.ts'
import { startStopwatch } from '../../fixtures/stopwatch.ts'
import { hashOf, renewalAt, sessionOf, successor } from '../sessions.ts'

const POLL = 0.2

const openAt = async (t: Test, url: string, given: Partial<RedisSettings> = {}) => {
  const store = await openRedisStore({
    url,
    pollSeconds: POLL,
    timeout: 1, // a busy machine is no outage
    now: () => NOW,
    ...given,
  })
  t.teardown(() => store.close())
  return store
}

const login = async (store: SharedStore, sid: string): Promise<void> => {
  await store.openSession(sessionOf(sid), hashOf(sid))
}

const collect = (store: SharedStore) => {
  const ended: EndedSession[] = []
  const changes: StateChange[] = []
  store.feed.onEnded((one) => ended.push(one))
  store.feed.onState((one) => changes.push(one))
  const has = (sid: string) => () => ended.some((one) => one.sid === sid)
  return { ended, changes, has }
}

void t.test(
  'a host that says a session is over knows it, also where another ended it',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    // Nobody hears a message, and nobody reads in time.
    server.cli('ACL', 'SETUSER', 'deaf', 'on', '>x', '~*', '+@all', 'resetchannels')
    const url = `redis://deaf:x@127.0.0.1:${server.port}`
    const one = await openAt(t, url, { pollSeconds: 60 })
    const two = await openAt(t, url, { pollSeconds: 60 })
    const there = collect(two)
    for (const sid of ['a', 'b', 'c']) await login(one, sid)
    await one.endSession('a', 'logout', NOW)
    t.notOk(there.has('a')())
    t.equal(await two.endSession('a', 'operator', NOW), undefined, 'it ended nothing')
    t.match(there.ended, [{ sid: 'a', cause: 'logout', until: NOW + 900 }], 'and knows')
    await one.endSession('b', 'logout', NOW)
    t.match(await two.endSessionsOf('201', 'operator', NOW), [{ sid: 'c' }])
    t.same(there.ended.map(({ sid }) => sid).sort(), ['a', 'b', 'c'])
  },
)

void t.test(
  'an end reaches the other hosts within 100 ms, and each host once',
  NEEDS_REDIS,
  async (t) => {
    const { url } = await startRedis(t)
    const [one, two] = [await openAt(t, url), await openAt(t, url)]
    const [here, there] = [collect(one), collect(two)]
    const took: number[] = []
    for (let index = 0; index < 200; index++) {
      await login(one, `s${index}`)
      await one.endSession(`s${index}`, 'logout', NOW)
      t.ok(here.has(`s${index}`)(), 'at home before the caller knows')
      took.push(await until(there.has(`s${index}`)))
    }
    const p99 = took.sort((a, b) => a - b)[197] ?? 0
    t.ok(p99 < 0.1, `p99 ${p99} s`)
    await Promise.all([one.feed.resync(), two.feed.resync()])
    t.equal(here.ended.length, 200)
    t.equal(there.ended.length, 200)
    t.same(there.ended[0], { sid: 's0', username: '201', cause: 'logout', until: NOW + 900 })
    const late = collect(await openAt(t, url))
    t.same(late.changes, [])
  },
)

void t.test('a host that starts knows every end there was', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const one = await openAt(t, url, { timeout: 5 }) // 700 at once
  await Promise.all(Array.from({ length: 700 }, (_, index) => login(one, `s${index}`)))
  t.equal((await one.endSessionsOf('201', 'operator', NOW)).length, 700)
  t.equal((await one.listEnded()).length, 700)
  const two = await openAt(t, url)
  const heard = collect(two)
  await one.feed.resync()
  t.equal(one.feed.state(), 'ok', 'its own ends were read back, page by page')
  t.equal(heard.ended.length, 0, 'before anybody listened')
  t.equal(two.feed.state(), 'ok')
  t.ok(two.feed.age() < 5)
  t.equal((await two.listEnded()).length, 700)
  t.equal(two.feed.bound, POLL + 2)
})

void t.test(
  'with its message connection killed again and again an end arrives within the bound',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const [one, two] = [await openAt(t, server.url), await openAt(t, server.url)]
    const heard = collect(two)
    const killing = setInterval(() => server.cli('CLIENT', 'KILL', 'TYPE', 'pubsub'), 50)
    t.teardown(() => clearInterval(killing))
    const late: number[] = []
    for (let index = 0; index < 30; index++) {
      await login(one, `s${index}`)
      await one.endSession(`s${index}`, 'logout', NOW)
      const took = await until(heard.has(`s${index}`))
      if (took > two.feed.bound) late.push(took)
    }
    t.same(late, [])
    t.same(heard.changes, [], 'and nobody calls that a fault')
  },
)

void t.test('without the right to publish the poll brings it', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  server.cli('ACL', 'SETUSER', 'p', 'on', '>secret', '~*', 'resetchannels', '+@all')
  const url = server.url.replace('://', '://p:secret@')
  const [one, two] = [await openAt(t, url), await openAt(t, url)]
  const heard = collect(two)
  await login(one, 'a')
  t.match(await one.endSession('a', 'logout', NOW), { sid: 'a' })
  t.ok((await until(heard.has('a'))) <= two.feed.bound)
})

void t.test(
  'where the server may not be asked for its memory the feed goes on',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    server.cli('ACL', 'SETUSER', 'p', 'on', '>secret', '~*', '&*', '+@all', '-info')
    const store = await openAt(t, server.url.replace('://', '://p:secret@'))
    t.equal(store.feed.state(), 'ok')
    await t.rejects(store.inspect(), { code: 'unavailable', message: /ACL refuses/ })
  },
)

const runScript = (server: RedisServer, text: string): void => {
  spawn('redis-cli', ['-s', server.socket, 'EVAL', text, '0'], { stdio: 'ignore' })
}

const FAULTS: readonly {
  name: string
  options?: Record<string, string>
  strike(server: RedisServer): unknown
  heal(server: RedisServer): unknown
  says: RegExp
}[] = [
  {
    name: 'killed',
    strike: (server) => server.kill(),
    heal: (server) => server.start(),
    says: /nothing listens|broke|closed/i,
    options: { appendonly: 'yes', appendfsync: 'always' },
  },
  {
    name: 'stopped',
    strike: (server) => server.signal('SIGSTOP'),
    heal: (server) => server.signal('SIGCONT'),
    says: /does not answer/,
  },
  {
    name: 'paused',
    strike: (server) => server.cli('CLIENT', 'PAUSE', '1500', 'ALL'),
    heal: (server) => server.cli('PING'), // waits for the end of the pause
    says: /does not answer/,
  },
  {
    name: 'a replica',
    strike: (server) => server.cli('REPLICAOF', '127.0.0.1', '1'),
    heal: (server) => server.cli('REPLICAOF', 'NO', 'ONE'),
    says: /read-only replica/,
  },
  {
    name: 'a replica that serves nothing stale',
    options: { 'replica-serve-stale-data': 'no' },
    strike: (server) => server.cli('REPLICAOF', '127.0.0.1', '1'),
    heal: (server) => server.cli('REPLICAOF', 'NO', 'ONE'),
    says: /lost its primary/,
  },
  {
    name: 'full',
    strike: (server) => server.cli('CONFIG', 'SET', 'maxmemory', '1'),
    heal: (server) => server.cli('CONFIG', 'SET', 'maxmemory', '0'),
    says: /memory is full/,
  },
  {
    name: 'evicting',
    strike(server) {
      server.cli('CONFIG', 'SET', 'maxmemory', '500mb')
      server.cli('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru')
    },
    heal: (server) => server.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction'),
    says: /may evict/,
  },
  {
    name: 'behind a password',
    strike(server) {
      server.cli('CONFIG', 'SET', 'requirepass', 'secret')
      server.cli('-a', 'secret', 'CLIENT', 'KILL', 'TYPE', 'normal')
    },
    heal: (server) => server.cli('-a', 'secret', 'CONFIG', 'SET', 'requirepass', ''),
    says: /asks for a password/,
  },
  {
    name: 'unable to write its disk',
    options: { dbfilename: 'dump' },
    strike(server) {
      mkdirSync(join(server.folder, 'dump'))
      server.cli('CONFIG', 'SET', 'save', '3600 1')
      server.cli('BGSAVE')
    },
    heal: (server) => server.cli('CONFIG', 'SET', 'save', ''),
    says: /cannot write to its disk/,
  },
  {
    name: 'without the replicas it needs',
    strike: (server) => server.cli('CONFIG', 'SET', 'min-replicas-to-write', '1'),
    heal: (server) => server.cli('CONFIG', 'SET', 'min-replicas-to-write', '0'),
    says: /too few replicas/,
  },
  {
    name: 'busy with a script',
    options: { 'busy-reply-threshold': '50' },
    strike: (server) => runScript(server, 'while true do end'),
    heal: (server) => until(() => server.cli('SCRIPT', 'KILL') === 'OK'),
    says: /script keeps it busy/,
  },
]

for (const { name, options, strike, heal, says } of FAULTS) {
  void t.test(`a server that is ${name} is away, and back within 2 s`, NEEDS_REDIS, async (t) => {
    const server = await startRedis(t, options)
    const store = await openAt(t, server.socketUrl)
    await login(store, 'a')
    const { changes } = collect(store)
    await strike(server)
    await until(() => changes.some(({ state, message }) => state === 'away' && says.test(message)))
    t.equal(store.feed.state(), 'away')
    const elapsed = startStopwatch()
    await t.rejects(login(store, 'b'), { code: 'unavailable' })
    await t.rejects(store.rotate(hashOf('a'), successor('x'), renewalAt(0), 30), {
      code: 'unavailable',
    })
    t.ok(elapsed().ours < 1500, 'nobody waits')
    t.ok(changes.length <= 3, `said once: ${JSON.stringify(changes)}`)
    await heal(server)
    t.ok((await until(() => store.feed.state() === 'ok')) < 2)
    t.match(await store.findByRefresh(hashOf('a'), NOW), { state: 'live' })
    t.same(
      changes.filter(({ state }) => state === 'lost'),
      [],
    )
  })
}

void t.test('a server that is loading is away', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t, {
    'key-load-delay': '20000',
    'loading-process-events-interval-bytes': '1024',
  })
  const store = await openAt(t, server.socketUrl)
  for (let index = 0; index < 60; index++) await login(store, `s${index}`)
  server.cli('SAVE')
  const { changes } = collect(store)
  await server.kill()
  await server.start()
  await until(() => changes.some(({ message }) => message.includes('still loading')))
  await until(() => store.feed.state() === 'ok', 20)
  t.equal(await store.countSessions(NOW), 60)
})

void t.test(
  'when everything is lost every host refuses the tokens of before',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    let now = NOW
    const given = { now: () => now }
    const [one, two] = [await openAt(t, server.url, given), await openAt(t, server.url, given)]
    const [here, there] = [collect(one), collect(two)]
    const since: number[] = []
    two.feed.onTrustedSince((instant) => since.push(instant))
    t.equal(one.feed.trustedSince(), NOW)
    await login(one, 'a')
    await one.endSession('a', 'logout', NOW)
    now = NOW + 100
    server.cli('FLUSHALL')
    await until(() => one.feed.trustedSince() > NOW && two.feed.trustedSince() > NOW)
    await until(() => one.feed.state() === 'ok' && two.feed.state() === 'ok')
    t.equal(one.feed.trustedSince(), NOW + 101)
    t.same(since, [NOW + 101])
    for (const { changes } of [here, there]) {
      t.equal(changes.filter(({ state }) => state === 'lost').length, 1, 'said once')
      t.match(changes.at(0)?.message, /appendfsync always/)
    }
    t.same(await one.findByRefresh(hashOf('a'), NOW), { state: 'unknown' })
    const late = await openAt(t, server.url, { now: () => NOW + 500 })
    t.equal(late.feed.trustedSince(), NOW + 101, 'also a host that starts later')
  },
)

void t.test(
  'a primary that comes back without the last ends is told of them again',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const [one, two] = [await openAt(t, server.url), await openAt(t, server.url)]
    const heard = collect(two)
    await login(one, 'before')
    await one.endSession('before', 'logout', NOW)
    await login(one, 'a')
    server.cli('SAVE')
    await one.endSession('a', 'logout', NOW)
    await one.moveEpoch(NOW - 500)
    await until(heard.has('a'))
    await server.kill()
    await server.start()
    await until(() => heard.changes.some(({ state }) => state === 'lost'))
    await until(() => one.feed.state() === 'ok' && two.feed.state() === 'ok')
    await one.feed.resync()
    t.match(await one.findByRefresh(hashOf('a'), NOW), { state: 'ended' })
    t.equal(one.feed.trustedSince(), NOW + 1)
    t.equal(await one.epoch(), NOW - 500, 'and of the epoch')
  },
)

void t.test('an end that only its own host knew is missed too', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url, { pollSeconds: 3600 })
  const { changes } = collect(store)
  await login(store, 'a')
  server.cli('SAVE')
  await store.endSession('a', 'logout', NOW) // acknowledged, and never read back
  await server.kill()
  await server.start()
  await until(() => changes.some(({ state }) => state === 'lost'))
  await until(() => store.feed.state() === 'ok')
  t.match(await store.findByRefresh(hashOf('a'), NOW), { state: 'ended' })
})

void t.test('a chain that was pruned is no loss', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const store = await openAt(t, url, { pollSeconds: 3600 })
  const { changes } = collect(store)
  await login(store, 'a')
  await store.endSession('a', 'logout', NOW)
  await store.feed.resync()
  t.equal(await store.prune(NOW, NOW + 30 * 86_400), 1)
  await store.feed.resync()
  t.same(changes, [])
})

void t.test('an end whose session is gone already is passed over', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const one = await openAt(t, server.url)
  await login(one, 'a')
  await one.endSession('a', 'logout', NOW)
  server.cli('DEL', ...server.cli('KEYS', '*:s:a').split('\n'))
  const two = await openAt(t, server.url)
  t.equal(two.feed.state(), 'ok')
})

void t.test('what is known is forgotten when it is past for certain', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const store = await openAt(t, url, { pollSeconds: 3600 })
  const { ended } = collect(store)
  await login(store, 'a')
  await store.endSession('a', 'logout', NOW)
  let past = 0
  for (let hour = 0; hour <= HOURS_TO_PASS; hour++) past = await store.countTime(NOW + 2000, HOUR)
  await store.prune(NOW + 2000, past)
  await store.feed.resync()
  t.equal(ended.length, 1)
  t.equal(store.feed.state(), 'ok')
})

void t.test('readings that are asked for together share one', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const store = await openAt(t, url, { pollSeconds: 3600 })
  await store.feed.resync() // the one of the start, if it is under way
  const first = store.feed.resync()
  const [second, third] = [store.feed.resync(), store.feed.resync()]
  t.not(first, second, 'the first may have read too early')
  t.equal(second, third)
  await second
})

void t.test('a fault in the middle of a rotation is never an answer', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await login(store, 'a')
  server.signal('SIGSTOP')
  const elapsed = startStopwatch()
  await t.rejects(store.rotate(hashOf('a'), successor('b'), renewalAt(0), 30), {
    code: 'unavailable',
  })
  t.ok(elapsed().ours < 1500)
  server.signal('SIGCONT')
  await until(() => store.feed.state() === 'ok')
  t.match(await store.rotate(hashOf('a'), successor('c'), renewalAt(1), 30), {
    outcome: /rotated|replayed/,
  })
})

void t.test('whose memory is limited, and whose keys may go', (t) => {
  const cases = [
    ['maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n', ''],
    ['maxmemory:1000\r\nmaxmemory_policy:noeviction\r\n', ''],
    ['maxmemory:1000\r\nmaxmemory_policy:volatile-ttl\r\n', 'volatile-ttl'],
    ['', ''],
    ['maxmemory_policy:allkeys-lru', ''],
  ] as const
  for (const [memory, policy] of cases) t.equal(evictingPolicy(memory), policy, memory)
  t.end()
})

void t.test('a cause that a newer version wrote is an end all the same', (t) => {
  t.match(toEndedSession(['a', '201', 'invented', '5', '1']), { cause: 'operator', until: 5 })
  t.end()
})

void t.test('data of a newer version are refused, and left as they are', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t)
  const old = await openAt(t, redis.socketUrl)
  await login(old, 's1')
  t.equal(redis.cli('hget', 'postern:{users}', 'format'), '1')
  const { changes } = collect(old)
  redis.cli('hset', 'postern:{users}', 'format', '2') // what a newer version does first
  await until(() => old.feed.state() === 'away')
  t.match(changes.at(-1)?.message, /has data of format 2, this Postern knows 1: install the newer/)
  await t.rejects(old.endSession('s1', 'logout', NOW), { code: 'newer' })

  redis.cli('flushall')
  redis.cli('hset', 'postern:{users}', 'format', '3')
  const late = await openAt(t, redis.socketUrl)
  t.equal(late.feed.state(), 'away')
  await t.rejects(login(late, 's2'), { code: 'newer' })

  redis.cli('hset', 'postern:{users}', 'format', '1')
  await until(() => late.feed.state() === 'ok')
  await login(late, 's2')
})
