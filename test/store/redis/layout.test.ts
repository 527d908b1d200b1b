// The names of keys, against a store that was filled by its own verbs.
import t from 'tap'

import { createLayout, FORMAT, SHARDS } from '../../../src/store/redis/layout.ts'
import { openRedisStore } from '../../../src/store/redis/redis.ts'
import { NOW } from '../../fixtures/clock.ts'
import { NEEDS_REDIS, startRedis } from '../../fixtures/redis.ts'
import { hashOf, sessionOf, subscriptionOf } from '../sessions.ts'

void t.test('every key is where the store itself puts it', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const url = server.socketUrl
  const nginx = 'gate'
  const store = await openRedisStore({ url, nginx, prefix: 'x:', timeout: 5, now: () => NOW })
  t.teardown(() => store.close())
  const layout = createLayout('x:')
  const there = (key: string) => server.cli('EXISTS', key) === '1'
  const session = sessionOf('a', { username: 'Zoë "x"' })
  await store.identify(session.username)
  await store.openSession(session, hashOf('a'))
  t.equal(layout.roots.length, SHARDS)
  t.ok(layout.roots.every(there))
  t.ok(there(layout.usersRoot))
  t.equal(server.cli('HGET', layout.usersRoot, 'format'), String(FORMAT))
  server.cli('HSET', layout.subscriptionsRoot(nginx), 'k', JSON.stringify(subscriptionOf('k')))
  t.match(await store.listSubscriptions(), [{ kick: 'k' }])
  const root = layout.rootOf(session.username)
  t.ok(there(`${root}:s:a`))
  t.ok(there(`${root}:u:${layout.userHash(session.username)}`))
  t.ok(there(`${root}:c:${layout.pair(session.username, session.credential)}`))
  const pointer = layout.pointer(session.username, session.expiresAt, 'a')
  t.equal(`x:{${pointer.split(' ')[0]}}`, root)
  t.equal(server.cli('GET', layout.tokenKey(hashOf('a'))), pointer)
  t.equal(server.cli('GET', layout.sidKey('a')), pointer)
  await store.useTicket('ticket', 'r', NOW, NOW + 60, 'a')
  t.ok(there(`${layout.rootOf('ticket')}:t:ticket`))
})
