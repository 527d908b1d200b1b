// The store on real Redis: the contract, what a dump of it shows, and several hosts at once.
import { createHash } from 'node:crypto'
import t, { type Test } from 'tap'

import { MOST_TICKETS } from '../../../src/store/store.ts'
import { openRedisStore, type RedisSettings } from '../../../src/store/redis/redis.ts'
import type { Store } from '../../../src/store/store.ts'
import { createLayout } from '../../../src/store/redis/layout.ts'
import { NOW } from '../../fixtures/clock.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../../fixtures/redis.ts'
import { runStoreContract } from '../contract.ts'
import { hashOf, renewalAt, sessionOf, subscriptionOf, successor } from '../sessions.ts'

const DAY = 86_400

const openAt = async (t: Test, url: string, given: Partial<RedisSettings> = {}) => {
  const store = await openRedisStore({ url, timeout: 2, ...given })
  t.teardown(() => store.close())
  return store
}

if (NEEDS_REDIS.skip === false) {
  const servers = new WeakMap<Store, RedisServer>()
  runStoreContract({
    async open(t) {
      const server = await startRedis(t)
      const store = await openAt(t, server.socketUrl)
      servers.set(store, server)
      return store
    },
    async reopen(t, store) {
      await store.close()
      const server = servers.get(store)
      if (!server) throw new Error('a store of this suite has a server')
      const reopened = await openAt(t, server.socketUrl)
      servers.set(reopened, server)
      return reopened
    },
    async leave(store, streams) {
      const server = servers.get(store)
      const root = createLayout('postern:').subscriptionsRoot('')
      for (const stream of streams) {
        const by = { by: 'an-instance:/run/postern/1.control.sock', ...stream }
        server?.cli('HSET', root, stream.kick, JSON.stringify(by))
      }
    },
  })
}

void t.test(
  'fifty parallel rotations over three hosts, a hundred rounds',
  NEEDS_REDIS,
  async (t) => {
    const { url } = await startRedis(t)
    const hosts = await Promise.all([openAt(t, url), openAt(t, url), openAt(t, url)])
    const host = (index: number) => hosts[index % 3] as Store
    const wrong: unknown[] = []
    for (let round = 0; round < 100; round++) {
      const sid = `r${round}`
      await host(round).openSession(sessionOf(sid), hashOf(sid))
      const all = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          host(index).rotate(hashOf(sid), successor(`${sid}/${index}`), renewalAt(0), 30),
        ),
      )
      const winners = all.flatMap(({ outcome }, index) => (outcome === 'rotated' ? [index] : []))
      const sealed = String(successor(`${sid}/${winners[0]}`).sealed)
      const others = all.filter(
        (one) => one.outcome === 'replayed' && String(one.sealed) === sealed,
      )
      const states = await Promise.all(
        all.map((_, index) => host(index + 1).findByRefresh(hashOf(`${sid}/${index}`), NOW)),
      )
      const alive = states.flatMap(({ state }, index) => (state === 'live' ? [index] : []))
      if (winners.length !== 1 || others.length !== 49 || String(alive) !== String(winners)) {
        wrong.push({ round, winners, others: others.length, alive })
      }
    }
    t.same(wrong, [])
  },
)

void t.test('a dump shows no token, and no name in a key', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await store.identify('somebody')
  await store.openSession(sessionOf('a', { username: 'somebody' }), hashOf('secret-0'))
  await store.rotate(hashOf('secret-0'), successor('secret-1'), renewalAt(0), 30)
  await store.throttle.begin([{ key: 'somebody', failures: 5, spacing: 0 }], 900)
  const keys = server.cli('KEYS', '*').split('\n')
  t.ok(keys.length > 10)
  t.notMatch(keys.filter((key) => !key.includes(':c:')).join('\n'), /somebody/)
  for (const key of keys) t.notMatch(server.cli('DUMP', key), /secret-/, key)
})

void t.test('what an older version rotated is not unseen', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  const unseen = () => server.cli('KEYS', '*:w:*')
  for (const leaves of ['nothing', 'the one before']) {
    const sid = `after ${leaves}`
    await store.openSession(sessionOf(sid), hashOf(`${sid}/0`))
    const rotate = (step: number, after: number) =>
      store.rotate(
        hashOf(`${sid}/${step}`),
        successor(`${sid}/${step + 1}`),
        renewalAt(after),
        30,
        DAY,
      )
    await rotate(0, 0)
    const before = server.cli('GET', unseen())
    await rotate(1, 0)
    if (leaves === 'nothing') server.cli('DEL', unseen())
    else server.cli('SET', unseen(), before)
    t.match(await rotate(1, 60), { outcome: 'reused' }, sid)
    t.equal(unseen(), '', 'and what it left goes')
  }
})

void t.test(
  "no end hangs on the server's clock, and tokens do not stay",
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const store = await openAt(t, server.url)
    const life = { createdAt: NOW, expiresAt: NOW + 3600, accessUntil: NOW + 900 }
    await store.openSession(sessionOf('a', life), hashOf('a'))
    await store.rotate(hashOf('a'), successor('b'), renewalAt(0), 30)
    await store.useTicket('ticket', 'r', NOW, NOW + 60, 'a')
    const ttl = (pattern: string) => {
      const keys = server.cli('KEYS', pattern).split('\n')
      return keys.map((key) => Number(server.cli('TTL', key)))
    }
    const near = (seconds: number) => (each: number) => each <= seconds && each > seconds - 60
    const stays = (pattern: string) => ttl(pattern).every((each) => each === -1)
    t.ok(stays('*:s:*'), 'sessions')
    t.ok(stays('*:u:*') && stays('*:c:*'), 'indexes')
    t.ok(ttl('*:k:*').every(near(3600 + DAY)), 'tokens')
    t.ok(ttl('*token:*').every(near(3600 + DAY)), 'pointers to tokens')
    t.ok(stays('*sid:*'), 'pointers to sessions')
    t.ok(ttl('*:p:*').every(near(600)), 'sealed successors')
    t.ok(ttl('*:w:*').every(near(DAY + 3600)), 'those that nobody has seen')
    await store.seeSuccessor('a', 1)
    t.equal(server.cli('KEYS', '*:w:*'), '', 'which a sight removes')
    t.ok(stays('*:t:*'), 'tickets')
    // As an older version leaves it.
    const expire = (pattern: string) =>
      server.cli('EXPIRE', server.cli('KEYS', pattern).split('\n')[0] ?? '', '9')
    expire('*:s:a')
    await store.endSession('a', 'logout', NOW)
    t.ok(stays('*:s:a'), 'an end')
    await store.openSession(sessionOf('c', { ...life, username: 'x' }), hashOf('c'))
    expire('*:s:c')
    expire('*sid:c')
    expire('*:u:*')
    await store.renew(hashOf('c'), renewalAt(0, { accessUntil: NOW + 2 * DAY }))
    t.ok(stays('*:s:c') && stays('*sid:c'), 'a session that goes on')
    t.ok(ttl('*:k:c').every(near(3 * DAY)), 'its tokens are kept longer for a longer one')
    await store.openSession(sessionOf('d', { ...life, username: 'x' }), hashOf('d'))
    t.ok(stays('*:u:*'), 'an index that is written again')
    server.cli('DEL', ...server.cli('KEYS', '*:s:*').split('\n'))
    t.same(await store.listSessions(NOW), [], 'an index may outlive what it names')
    t.same(await store.listSessions(NOW, 'x'), [])
    t.same(await store.endSessionsOf('x', 'operator', NOW), [])
    t.equal(await store.prune(NOW, NOW + 3 * DAY), 5) // what a session has of tickets is one more
    t.equal(await store.countSessions(NOW), 0)
    t.equal(server.cli('KEYS', '*sid:*'), '')
    t.equal(server.cli('KEYS', '*:t:*'), '')
  },
)

void t.test('a pointer is never believed', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await store.openSession(sessionOf('a'), hashOf('a'))
  const pointer = (token: string) =>
    `postern:token:${Buffer.from(hashOf(token)).toString('base64url')}`
  server.cli('SET', pointer('forged'), server.cli('GET', pointer('a')))
  t.same(await store.findByRefresh(hashOf('forged'), NOW), { state: 'unknown' })
  t.same(await store.renew(hashOf('forged'), renewalAt(0)), { state: 'unknown' })
  t.same(await store.rotate(hashOf('forged'), successor('x'), renewalAt(0), 30), {
    outcome: 'unknown',
  })
  server.cli('DEL', 'postern:sid:a')
  await t.rejects(store.openSession(sessionOf('a'), hashOf('b')), /there already/)
})

void t.test(
  'each nginx has its own streams, and each deployment its own keys',
  NEEDS_REDIS,
  async (t) => {
    const { url, cli } = await startRedis(t)
    const one = await openAt(t, url, { nginx: 'one' })
    const two = await openAt(t, url, { nginx: 'two' })
    const other = await openAt(t, url, { prefix: 'other:' })
    const root = createLayout('postern:').subscriptionsRoot('one')
    cli('HSET', root, 'kick', JSON.stringify(subscriptionOf('kick')))
    t.same(await two.listSubscriptions(), [])
    t.equal((await one.listSubscriptions()).length, 1)
    await one.openSession(sessionOf('a'), hashOf('a'))
    t.equal(await two.countSessions(NOW), 1)
    t.equal(await other.countSessions(NOW), 0)
  },
)

void t.test(
  'a number is never given twice, also where the count was lost',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const store = await openAt(t, server.url, { now: () => NOW })
    const first = await store.identify('201')
    server.cli('FLUSHALL')
    t.ok((await store.identify('202')) > first)
    t.ok((await store.identify('201')) > NOW)
  },
)

void t.test('the epoch moves on every host, and never back', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const [one, two] = [await openAt(t, url), await openAt(t, url)]
  const heard: number[] = []
  two.feed.onTrustedSince((since) => heard.push(since))
  t.equal(await one.epoch(), 0)
  await one.moveEpoch(NOW)
  await one.moveEpoch(NOW - 1)
  t.equal(await two.epoch(), NOW)
  t.equal(one.feed.trustedSince(), NOW)
  await two.feed.resync()
  t.same(heard, [NOW])
})

void t.test('rotations go on while the script cache is flushed', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await store.openSession(sessionOf('a'), hashOf('a/0'))
  let step = 0
  const flushing = setInterval(() => server.cli('SCRIPT', 'FLUSH'), 100)
  t.teardown(() => clearInterval(flushing))
  const until = performance.now() + 1500
  while (performance.now() < until) {
    const next = successor(`a/${step + 1}`)
    const { outcome } = await store.rotate(hashOf(`a/${step}`), next, renewalAt(0), 0)
    if (outcome !== 'rotated') t.fail(outcome)
    step++
  }
  t.ok(step > 50, `${step} rotations`)
})

void t.test(
  'it opens while the server is away, and serves when it is back',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    await server.kill()
    const store = await openAt(t, server.url)
    await t.rejects(store.ping(), { code: 'unavailable', message: /nothing listens/ })
    await server.start()
    t.ok((await until(() => store.feed.state() === 'ok')) < 2)
    await t.resolves(store.ping())
  },
)

void t.test('of a refused login nothing stays behind', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await store.openSession(sessionOf('a'), hashOf('a'))
  await t.rejects(store.openSession(sessionOf('a'), hashOf('b')))
  const b = createHash('sha256').update('b').digest('base64url')
  t.equal(server.cli('EXISTS', `postern:token:${b}`), '0')
  server.cli('CONFIG', 'SET', 'maxmemory', '1')
  await t.rejects(store.openSession(sessionOf('c'), hashOf('c')), { code: 'unavailable' })
})

void t.test('a full server ends sessions, and adds nothing', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await store.openSession(sessionOf('a'), hashOf('a'))
  server.cli('CONFIG', 'SET', 'maxmemory', '1')
  const rotation = store.rotate(hashOf('a'), successor('b'), renewalAt(0), 30)
  await t.rejects(rotation, { code: 'unavailable', message: /memory is full/ })
  t.match(await store.findByRefresh(hashOf('a'), NOW), { state: 'live' })
  t.match(await store.endSession('a', 'logout', NOW), { sid: 'a' })
  server.cli('CONFIG', 'SET', 'maxmemory', '0')
  const again = await store.rotate(hashOf('a'), successor('b'), renewalAt(0), 30)
  t.match(again, { outcome: 'ended' })
  await until(() => server.cli('KEYS', '*token:*').split('\n').length === 1)
})

void t.test('no token is given twice', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const store = await openAt(t, url)
  await store.openSession(sessionOf('a'), hashOf('a'))
  await store.openSession(sessionOf('b'), hashOf('b'))
  const rotation = store.rotate(hashOf('a'), successor('b'), renewalAt(0), 30)
  await t.rejects(rotation, { code: 'unavailable', message: /there already/ })
  t.match(await store.findByRefresh(hashOf('b'), NOW), { session: { sid: 'b' } })
})

void t.test('what is of one second is listed in one order', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const store = await openAt(t, url)
  const names = ['c', 'a', 'e', 'b', 'd']
  for (const name of names) {
    await store.openSession(sessionOf(name, { username: name }), hashOf(name))
  }
  const sids = (await store.listSessions(NOW)).map(({ sid }) => sid)
  t.same(sids, names.toSorted())
})

void t.test('what one session can make grow is bounded', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const store = await openAt(t, server.url)
  await store.openSession(sessionOf('a'), hashOf('0'))
  const rotate = async (n: number) =>
    store.rotate(hashOf(`${n}`), successor(`${n + 1}`, 'family'), renewalAt(n), 30)
  for (let n = 0; n < 300; n++) await rotate(n)
  t.match(await rotate(300), { outcome: 'rotated' })
  const pointers = server.cli('KEYS', '*token:*').split('\n')
  t.equal(pointers.filter((key) => !key.endsWith(':room')).length, 3, 'tokens')
  t.equal(server.cli('HLEN', server.cli('KEYS', '*:k:a')), '3')

  for (let n = 0; n < 600; n++) await store.useTicket(`t${n}`, 'r', NOW, NOW + n, 'a')
  t.equal(server.cli('KEYS', '*:t:t*').split('\n').length, MOST_TICKETS, 'tickets')
  t.equal(
    server.cli('ZCARD', server.cli('KEYS', '*:t:a')),
    String(MOST_TICKETS + 1),
    'and what was forgotten',
  )
})
