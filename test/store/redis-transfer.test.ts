// Redis as source and as target: who else is there, what stands there already, and what a copy leaves behind
// that was cut off: by a crash of the server, by another copy, or a step before its end.

import { join } from 'node:path'
import t, { type Test } from 'tap'

import { createLayout, FORMAT } from '../../src/store/redis-layout.ts'
import { DRAFT } from '../../src/store/redis-transfer-scripts.ts'
import { openRedisSource, openRedisTarget } from '../../src/store/redis-transfer.ts'
import { openSqliteSource, openSqliteTarget } from '../../src/store/sqlite-transfer.ts'
import { StoreError } from '../../src/store/store.ts'
import { copyStore, type Reader, type Slice, type Writer } from '../../src/store/transfer.ts'
import { NOW } from '../fixtures/clock.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../fixtures/redis.ts'
import {
  closeShared,
  copy,
  makeFolder,
  NGINX,
  opened,
  openFile,
  openShared,
  refusalOf,
  sideOf,
  toFile,
  toRedis,
} from './copying.ts'
import { hashOf, renewalAt, sessionOf, subscriptionOf, successor } from './sessions.ts'

const DAY = 86_400

/** A file with some of everything; `count` users of one session each. */
const fill = async (folder: string, count = 40): Promise<string> => {
  const file = join(folder, `full-${count}.db`)
  const store = openFile(file)
  for (let at = 0; at < count; at++) {
    const username = `user ${at}`
    const userId = await store.identify(username)
    await store.openSession(sessionOf(`s${at}`, { username, userId }), hashOf(`s${at}/0`))
    if (at % 2 === 0) {
      await store.rotate(hashOf(`s${at}/0`), successor(`s${at}/1`), renewalAt(1), 30)
    }
    if (at % 5 === 0) await store.endSession(`s${at}`, 'user_disabled', NOW + 1)
    if (at % 7 === 0) await store.useTicket(`t${at}`, 'r', NOW, NOW + 60)
  }
  await store.openSubscription(subscriptionOf('k', { sid: 's1', username: 'user 1' }))
  await store.moveEpoch(NOW - 100)
  await store.close()
  return file
}

const draftOf = (server: RedisServer) => server.cli('GET', 'postern:{users}')
const isClean = (server: RedisServer) => server.cli('DBSIZE') === '0'

/** Each key under the prefix, what is in it, and hundreds of seconds to live; in one step, as it takes thousands. */
const DUMP = `
local function readable(text) return (text:gsub('[^ -~]', function(c) return '\\\\' .. c:byte() end)) end
local all = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind, content = redis.call('TYPE', key).ok, {}
  if kind == 'string' then content = { redis.call('GET', key) } end
  if kind == 'zset' then content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  if kind == 'list' then content = redis.call('LRANGE', key, 0, -1) end
  if kind == 'hash' then
    local fields = redis.call('HGETALL', key)
    for at = 1, #fields, 2 do table.insert(content, fields[at] .. '=' .. fields[at + 1]) end
    table.sort(content)
  end
  local ttl = math.floor(redis.call('TTL', key) / 100 + 0.5)
  table.insert(all, readable(key:sub(#ARGV[1] + 1) .. ' ' .. ttl .. ' ' .. table.concat(content, ' ')))
end
table.sort(all)
return all`

const dump = (server: RedisServer, prefix: string): string[] =>
  server.cli('EVAL', DUMP, '0', prefix).split('\n')

void t.test('a copy has the same keys as a store that lived here', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const store = await openShared(server, { prefix: 'a:', trustSince: 0 })
  for (const [at, username] of ['ann', 'bob', 'Zoë "x"', 'dan'].entries()) {
    const userId = await store.identify(username)
    const given = { username, userId, ...(at === 3 ? { expiresAt: NOW + 1000 } : {}) }
    await store.openSession(sessionOf(`s${at}`, given), hashOf(`${at}/0`))
    await store.openSession(sessionOf(`also ${at}`, given), hashOf(`${at}/also`))
    await store.rotate(hashOf(`${at}/0`), successor(`${at}/1`), renewalAt(0), 30)
    await store.useTicket(`t${at}`, 'r', NOW, NOW + 60)
  }
  await store.renew(hashOf('3/1'), renewalAt(5, { accessUntil: NOW + 5000, role: 'admin' }))
  await store.openSubscription(subscriptionOf('k', { sid: 's0', username: 'ann' }))
  await store.openSubscription(subscriptionOf('l', { sid: 's1', username: 'bob' }))
  await store.endSession('s0', 'operator', NOW + 1)
  await store.endSession('s1', 'user_disabled', NOW + 2)
  await store.moveEpoch(NOW - 5)
  await closeShared(server, store, 'a:')
  await toFile(server, join(folder, 'b.db'), { prefix: 'a:' })
  await toRedis(join(folder, 'b.db'), server, { prefix: 'b:' })
  // Roots differ by what each run makes of its own. What only points or lists may stay longer than at first:
  // it is written when it is known already that a token outlives its session.
  const comparable = (prefix: string) =>
    dump(server, prefix)
      .filter((line) => !/^\{\w+\} /.test(line))
      .map((line) => line.replace(/^((?:token|sid|\{\d+\}:[uc]):\S+) \d+( \d+ \d+)?/, '$1'))
  t.ok(comparable('a:').length > 40)
  t.same(comparable('b:'), comparable('a:'))
})

void t.test('of the ended ones as well, and the feed tells of them', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  await toRedis(await fill(makeFolder(t)), server)
  const [one, two] = [await openShared(server), await openShared(server)]
  t.teardown(() => Promise.all([one.close(), two.close()]))
  t.equal(one.feed.state(), 'ok')
  t.equal(one.feed.trustedSince(), NOW - 100, 'older tokens of the source stay valid')
  t.equal((await one.listEnded(NOW)).length, 8)
  const told: string[] = []
  two.feed.onEnded(({ sid }) => told.push(sid))
  await one.endSession('s1', 'logout', NOW)
  await two.feed.resync()
  t.same(told, ['s1'], 'numbers of ends go on behind those that were copied')
  t.equal(one.feed.state(), 'ok')
  t.equal(two.feed.state(), 'ok')
})

void t.test(
  'while a daemon is at work nothing is read and nothing written',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const daemon = await openShared(server)
    const busy = /is in use: stop the daemon of every host/
    t.match(await refusalOf(openRedisSource(sideOf(server))), busy)
    t.match(await refusalOf(openRedisTarget(sideOf(server))), busy)
    t.notMatch(draftOf(server), DRAFT)
    await closeShared(server, daemon)
    const target = await opened(openRedisTarget(sideOf(server)))
    t.match(draftOf(server), DRAFT, 'a store without anything in it is taken')
    target.close()
  },
)

void t.test('a source that is none is refused', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  t.match(await refusalOf(openRedisSource(sideOf(server))), /no store under postern:.*--prefix/)
  const target = await opened(openRedisTarget(sideOf(server)))
  t.match(await refusalOf(openRedisSource(sideOf(server))), /never finished: copy into it again/)
  await target.abandon()
  target.close()
  t.ok(isClean(server), 'what is given up leaves nothing')
  const gone = sideOf(server, { url: 'unix:///nonexistent/socket' })
  await t.rejects(openRedisSource(gone), { name: 'StoreError', message: /no such socket/ })
  await t.rejects(openRedisTarget(gone), { name: 'StoreError', message: /no such socket/ })
  server.cli('REPLICAOF', '127.0.0.1', '1')
  await t.rejects(openRedisSource(sideOf(server)), { message: /read-only replica/ })
  await t.rejects(openRedisTarget(sideOf(server)), { message: /read-only replica/ })
})

void t.test('a target with anything in it is refused', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const ways: Record<string, (prefix: string) => Promise<void>> = {
    async user(prefix) {
      const store = await openShared(server, { prefix })
      await store.identify('a')
      await closeShared(server, store, prefix)
    },
    async ticket(prefix) {
      const store = await openShared(server, { prefix })
      await store.useTicket('a', '', NOW, NOW + 60)
      await closeShared(server, store, prefix)
    },
    async epoch(prefix) {
      const store = await openShared(server, { prefix })
      await store.moveEpoch(NOW)
      await closeShared(server, store, prefix)
    },
    async stream(prefix) {
      const store = await openShared(server, { prefix })
      await store.openSubscription(subscriptionOf('a'))
      await closeShared(server, store, prefix)
    },
    async foreign(prefix) {
      server.cli('LPUSH', `${prefix}{3}`, 'x')
    },
    async 'text of another'(prefix) {
      server.cli('SET', `${prefix}{3}`, 'x')
    },
    async 'users beside a draft'(prefix) {
      const store = await openShared(server, { prefix })
      await store.identify('a')
      await closeShared(server, store, prefix)
      server.cli('DEL', `${prefix}{3}`)
      server.cli('SET', `${prefix}{3}`, `${DRAFT}x x`)
    },
  }
  for (const [name, put] of Object.entries(ways)) {
    const prefix = `${name.replaceAll(' ', '-')}:`
    await put(prefix)
    const before = dump(server, prefix)
    const refusal = await refusalOf(openRedisTarget(sideOf(server, { prefix })))
    t.match(refusal, /holds a store already under .*another --prefix/, name)
    t.same(dump(server, prefix), before, `${name}: as it was`)
  }
})

/** Copies until `stop` says so, and leaves the rest undone. */
const copyPart = async (source: Reader, target: Writer, stop: (slice: Slice) => boolean) => {
  for await (const slice of source.slices()) {
    await target.write(slice)
    if (stop(slice)) return
  }
}

/** Not even at the very end, when all but the users' numbers is in place: it learns nothing, and opens nothing. */
const draftIsNoStore = async (t: Test, server: RedisServer): Promise<void> => {
  const daemon = await openShared(server)
  t.equal(daemon.feed.state(), 'away')
  t.match(daemon.feed.change().message, /WRONGTYPE/)
  await t.rejects(daemon.identify('somebody'), StoreError)
  await closeShared(server, daemon)
}

void t.test(
  'half a copy is no store for a daemon, and the next one clears it',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const file = await fill(makeFolder(t), 700)
    await toRedis(file, server, { prefix: 'whole:' })
    const size = Number(server.cli('DBSIZE'))
    const source = await opened(openSqliteSource(file))
    const target = await opened(openRedisTarget(sideOf(server, { nginx: 'another' })))
    await copyPart(source, target, ({ kind }) => kind === 'sessions')
    await target.write({ kind: 'subscriptions', records: [subscriptionOf('k')] })
    target.close()
    source.close()
    t.ok(Number(server.cli('DBSIZE')) > size, 'something was copied')
    await draftIsNoStore(t, server)
    await toRedis(file, server)
    t.equal(Number(server.cli('DBSIZE')), 2 * size, 'and nothing of the first is left')
    t.same(
      dump(server, 'postern:').length,
      dump(server, 'whole:').length,
      'the same under each prefix',
    )
  },
)

void t.test(
  'a copy that was cut off at its very last step is no store either',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const file = await fill(makeFolder(t))
    await toRedis(file, server)
    const size = server.cli('DBSIZE')
    // Every shard is there; the users' root comes last.
    server.cli('DEL', 'postern:{users}')
    server.cli(
      'SET',
      'postern:{users}',
      `${DRAFT}id ${createLayout('postern:').subscriptionsRoot(NGINX)}`,
    )
    await draftIsNoStore(t, server)
    await toRedis(file, server)
    t.equal(server.cli('DBSIZE'), size)
    const daemon = await openShared(server)
    t.equal(await daemon.countSessions(NOW), 32)
    await daemon.close()
  },
)

void t.test('a daemon that waits for the end of a copy begins with it', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const file = await fill(makeFolder(t))
  const source = await opened(openSqliteSource(file))
  const target = await opened(openRedisTarget(sideOf(server)))
  const daemon = await openShared(server)
  t.teardown(() => daemon.close())
  t.equal(daemon.feed.state(), 'away')
  const busy = /stop the daemon of every host/
  t.match(await refusalOf(openRedisTarget(sideOf(server))), busy, 'it is in the way of another')
  await copyStore(source, target, NOW)
  target.close()
  source.close()
  await until(() => daemon.feed.state() === 'ok', 20)
  t.equal(daemon.feed.trustedSince(), NOW - 100)
  t.match(await daemon.findByRefresh(hashOf('s1/0'), NOW), { state: 'live' })
})

void t.test('the server dies in the middle', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t, { appendonly: 'yes', appendfsync: 'always' })
  const file = await fill(makeFolder(t), 700)
  const source = await opened(openSqliteSource(file))
  const target = await opened(openRedisTarget(sideOf(server)))
  const dying = {
    ...target,
    async write(slice: Slice) {
      await target.write(slice)
      if (slice.kind === 'sessions') await server.kill()
    },
  }
  await t.rejects(copyStore(source, dying, NOW), { name: 'StoreError', code: 'unavailable' })
  target.close()
  source.close()
  await server.start()
  await until(() => draftOf(server).startsWith(DRAFT), 20) // when it has read its log again
  await draftIsNoStore(t, server)
  t.match(await toRedis(file, server), { users: 700 })
})

void t.test('the server forgets everything in the middle', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const source = await opened(openSqliteSource(await fill(makeFolder(t))))
  const target = await opened(openRedisTarget(sideOf(server)))
  const forgetting = {
    ...target,
    async write(slice: Slice) {
      if (slice.kind === 'sessions') server.cli('FLUSHALL')
      await target.write(slice)
    },
  }
  const lost = { name: 'StoreError', message: /has lost what was copied.*appendonly yes/ }
  await t.rejects(copyStore(source, forgetting, NOW), lost)
  target.close()
  source.close()
  t.notOk(draftOf(server))
})

void t.test('what is given up leaves nothing behind', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const source = await opened(openSqliteSource(await fill(makeFolder(t), 20)))
  const target = await opened(openRedisTarget(sideOf(server)))
  await copyPart(source, target, ({ kind }) => kind === 'subscriptions')
  t.notOk(isClean(server))
  await target.abandon()
  t.ok(isClean(server), server.cli('KEYS', '*'))
  target.close()
  source.close()
})

void t.test('of two copies at once the later one counts', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const [few, many] = [await fill(folder, 20), await fill(folder, 40)]
  const first = await opened(openSqliteSource(few))
  const early = await opened(openRedisTarget(sideOf(server)))
  await copyPart(first, early, ({ kind }) => kind === 'tickets')
  await toRedis(many, server)
  const size = server.cli('DBSIZE')
  await t.rejects(copyStore(first, early, NOW), { message: /another copy goes on there/ })
  t.equal(server.cli('DBSIZE'), size, 'the earlier one touches nothing any more')
  early.close()
  first.close()
})

void t.test('what is past its life is not copied, and no longer missed', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  await toRedis(await fill(folder), server)
  // As the server forgets it by itself: the lists still have it.
  for (const pattern of ['*:s:s1', '*:k:s2', '*:t:t7']) {
    server.cli('DEL', ...server.cli('KEYS', pattern).split('\n'))
  }
  const copied = await toFile(server, join(folder, 'back.db'))
  t.match(copied, { live: 31, ended: 8, tickets: 5 })
})

void t.test('a session of many tokens comes whole', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const target = await opened(openRedisTarget(sideOf(server)))
  const session = (sid: string) => sessionOf(sid, { username: '201' })
  const tokens = (sid: string, count: number) =>
    Array.from({ length: count }, (_, at) => hashOf(`${sid}/${at}`))
  const sids = [6000, 6000, 1].map((count, at) => ({ sid: `s${at}`, count }))
  await target.write({
    kind: 'sessions',
    records: sids.map(({ sid, count }) => ({
      session: session(sid),
      tokens: tokens(sid, count),
      rotatedAt: count > 1 ? NOW : undefined,
      sealed: undefined,
      ended: undefined,
    })),
  })
  await target.finish({ epoch: 0, lastUser: 4 })
  target.close()
  t.match(await toFile(server, join(folder, 'a.db')), { live: 3 })
  const store = openFile(join(folder, 'a.db'))
  for (const { sid, count } of sids) {
    t.match(await store.findByRefresh(hashOf(`${sid}/${count - 1}`), NOW), { session: { sid } })
    const rotation = await store.rotate(
      hashOf(`${sid}/${count - 1}`),
      successor(`${sid}/x`),
      renewalAt(0),
      30,
    )
    t.match(rotation, { outcome: 'rotated' }, 'the last one is the one that lives')
  }
  t.match(await store.rotate(hashOf('s0/3000'), successor('y'), renewalAt(0), 30), {
    outcome: 'reused',
  })
  t.ok((await store.identify('a')) > 4, 'and no number is given twice')
  await store.close()
})

void t.test('a file holds the streams of one nginx', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  for (const nginx of [NGINX, 'other']) {
    const store = await openShared(server, { nginx, instance: 'a' })
    await store.openSubscription(subscriptionOf(`of ${nginx}`))
    await closeShared(server, store)
  }
  await toFile(server, join(folder, 'a.db'), { nginx: 'other' })
  const store = openFile(join(folder, 'a.db'))
  t.match(await store.listSubscriptions(), [{ kick: 'of other' }])
  t.equal((await store.listSubscriptions()).length, 1)
  t.ok((await store.epoch()) > 0, 'where Redis began afresh, older tokens stay refused')
  await store.close()
})

void t.test('what a newer version wrote is left to it', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  await toRedis(await fill(makeFolder(t)), server)
  t.equal(server.cli('HGET', 'postern:{users}', 'format'), String(FORMAT))
  server.cli('HSET', 'postern:{users}', 'format', String(FORMAT + 1))
  const newer = { name: 'StoreError', code: 'newer', message: /newer version/ }
  await t.rejects(openRedisSource(sideOf(server)), newer)
  await t.rejects(openRedisTarget(sideOf(server)), newer)
})

void t.test('it warns of a server that forgets', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const target = await opened(openRedisTarget(sideOf(server, { prefix: 'a:' })))
  t.match(target.warnings, [/appendonly yes/])
  target.close()
  server.cli('ACL', 'SETUSER', 'default', '-info')
  const blind = await opened(openRedisTarget(sideOf(server, { prefix: 'b:' })))
  t.same(blind.warnings, [], 'unless it may not ask')
  blind.close()
})

void t.test('on a cluster', { ...NEEDS_REDIS, timeout: 600_000 }, async (t) => {
  const options = { 'cluster-enabled': 'yes', 'cluster-node-timeout': '2000' }
  const nodes = await Promise.all([startRedis(t, options), startRedis(t, options)])
  const [one, two] = nodes
  one.cli('CLUSTER', 'ADDSLOTSRANGE', '0', '8191')
  two.cli('CLUSTER', 'ADDSLOTSRANGE', '8192', '16383')
  one.cli('CLUSTER', 'SET-CONFIG-EPOCH', '1')
  two.cli('CLUSTER', 'SET-CONFIG-EPOCH', '2')
  one.cli('CLUSTER', 'MEET', '127.0.0.1', String(two.port))
  await until(() => nodes.every((node) => node.cli('CLUSTER', 'INFO').includes('state:ok')), 30)
  const url = `redis+cluster://127.0.0.1:${one.port},127.0.0.1:${two.port}`
  const folder = makeFolder(t)
  const file = await fill(folder)
  const there = sideOf(one, { url })
  const size = () => nodes.reduce((sum, node) => sum + Number(node.cli('DBSIZE')), 0)
  const cut = await opened(openRedisTarget(there))
  const source = await opened(openSqliteSource(file))
  await copyPart(source, cut, ({ kind }) => kind === 'tickets')
  source.close()
  cut.close()
  const copied = await copy(openSqliteSource(file), () => openRedisTarget(there))
  const whole = size()
  t.match(copied, { live: 32, ended: 8, users: 40 })
  t.same(
    await copy(openRedisSource(there), () => openSqliteTarget(join(folder, 'back.db'))),
    copied,
  )

  const daemon = await openShared(one, { url })
  t.match(await refusalOf(openRedisSource(there)), /stop the daemon/)
  t.equal(await daemon.countSessions(NOW), 32)
  await daemon.close()
  t.ok(size() >= whole)
})

void t.test(
  'what Redis still remembers a day later is forgotten there too',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const folder = makeFolder(t)
    await toRedis(await fill(folder), server)
    const later = await toFile(server, join(folder, 'later.db'), { now: NOW + 901 + DAY })
    t.match(later, { live: 32, ended: 0, tickets: 0 })
  },
)
