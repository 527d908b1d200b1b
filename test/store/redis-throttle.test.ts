import t, { type Test } from 'tap'

import { createSharedThrottle } from '../../src/store/redis-throttle.ts'
import { openLink } from '../../src/store/redis-link.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'

const open = async (t: Test) => {
  const server = await startRedis(t)
  const events = {
    up: () => undefined,
    down: () => undefined,
    listening: () => undefined,
    message: () => undefined,
  }
  const hosts = await Promise.all(
    ['a', 'b', 'c'].map(async () => {
      const link = await openLink({ url: server.url, timeout: 1, channels: ['x'] }, events)
      t.teardown(() => link.close())
      return createSharedThrottle(link, 'p:{throttle}')
    }),
  )
  const host = (index: number) => hosts[index % 3] ?? Promise.reject(new Error('no host'))
  return { server, host: host as (index: number) => (typeof hosts)[number] }
}

void t.test(
  'three hosts together let five tries through, and one of them hears it first',
  NEEDS_REDIS,
  async (t) => {
    const { host } = await open(t)
    const limits = [
      { key: 'pair', failures: 5, spacing: 0 },
      { key: 'address', failures: 100, spacing: 0 },
    ]
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, index) => host(index).begin(limits, 900)),
    )
    const refused = all.flatMap((one) => (one.refused === undefined ? [] : [one]))
    t.equal(refused.length, 55)
    t.equal(refused.filter(({ first }) => first).length, 1)
    t.match(refused[0], { refused: 'pair', retryAfter: 900 })
    await host(0).takeBack(['pair', 'address'])
    t.same(
      await host(1).begin(limits, 900),
      { refused: undefined },
      'a refused try was not counted',
    )
    t.match(await host(2).begin(limits, 900), { refused: 'pair', first: false })
    await host(0).takeBack(['pair', 'address'], ['pair'])
    for (let index = 0; index < 5; index++) {
      t.same(await host(index).begin(limits, 900), { refused: undefined }, 'the owner is in')
    }
    t.match(await host(0).begin(limits, 900), { refused: 'pair' })
    await host(0).takeBack(['never counted'])
  },
)

void t.test('an account is slowed down, never locked', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t)
  const limits = [{ key: 'account', failures: 2, spacing: 1 }]
  for (let index = 0; index < 2; index++) await host(index).begin(limits, 900)
  t.match(await host(2).begin(limits, 900), { refused: 'account', retryAfter: 1 })
  server.cli('DEL', ...server.cli('KEYS', '*:last').split('\n')) // a second goes by
  t.same(await host(0).begin(limits, 900), { refused: undefined })
})

void t.test('a window ends by itself', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t)
  await host(0).begin([{ key: 'pair', failures: 5, spacing: 0 }], 900)
  const ttl = Number(server.cli('TTL', server.cli('KEYS', '*')))
  t.ok(ttl > 800 && ttl <= 900)
  t.notMatch(server.cli('KEYS', '*'), /pair/)
})
