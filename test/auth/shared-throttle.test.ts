// Three hosts that share their counts: what one sees holds for all, and an honest crowd gets in.

import { setTimeout as pause } from 'node:timers/promises'
import * as fc from 'fast-check'
import t, { type Test } from 'tap'

import { createSharedThrottle } from '../../src/auth/shared-throttle.ts'
import { type Attempt, createThrottle, type Throttle } from '../../src/auth/throttle.ts'
import { systemClock } from '../../src/clock.ts'
import { openLink } from '../../src/store/redis/link.ts'
import { createRedisThrottle } from '../../src/store/redis/throttle.ts'
import type { SharedThrottle } from '../../src/store/shared-store.ts'
import { StoreError } from '../../src/store/store.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../fixtures/redis.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

const LIMITS = { window: 900, pairFailures: 5, addressFailures: 100, accountFailures: 50 }
const ROOT = 'p:{throttle}'

const over = (shared: SharedThrottle, limits = LIMITS): Throttle =>
  createSharedThrottle(
    createThrottle(() => limits, systemClock),
    shared,
    () => limits,
    systemClock,
  )

const open = async (t: Test, changed: Partial<typeof LIMITS> = {}, timeout = 5) => {
  const limits = { ...LIMITS, ...changed }
  const server = await startRedis(t)
  const links = await Promise.all(
    ['a', 'b', 'c'].map(async () => {
      const link = await openLink({ url: server.url, timeout, channels: ['x'] })
      t.teardown(() => link.close())
      await until(async () => link.info('server').catch(() => ''), 20) // the first attempt may be too slow
      return link
    }),
  )
  const hosts = links.map((link) => over(createRedisThrottle(link, ROOT, systemClock), limits))
  const host = (index: number): Throttle => {
    const one = hosts[index % 3]
    if (!one) throw new Error('no host')
    return one
  }
  return { server, links, host }
}

const keysOf = (server: RedisServer): string[] =>
  server
    .cli('KEYS', `${ROOT}:*`)
    .split('\n')
    .filter((key) => key !== '')

const begun = (attempt: Attempt) => {
  if (!('settle' in attempt)) throw new Error(`stopped: ${JSON.stringify(attempt)}`)
  return attempt
}

/** A password that takes its time. */
const tryOne = async (
  throttle: Throttle,
  name: string,
  address: string,
  outcome: 'succeeded' | 'failed' | 'not_judged',
  ms = 5,
): Promise<Attempt | 'tried'> => {
  const attempt = await throttle.begin(name, address)
  if (!('settle' in attempt)) return attempt
  await pause(ms)
  attempt.settle(outcome)
  return 'tried'
}

const bans = (found: readonly (Attempt | 'tried')[]): number =>
  found.filter((one) => one !== 'tried' && 'retryAfter' in one && one.first).length

const tried = (found: readonly (Attempt | 'tried')[]): number =>
  found.filter((one) => one === 'tried').length

void t.test(
  'sixty guesses at once over three hosts are five tries, and one ban',
  NEEDS_REDIS,
  async (t) => {
    const { host } = await open(t)
    const found = await Promise.all(
      Array.from({ length: 60 }, (_, i) => tryOne(host(i), ' 201', '192.0.2.1', 'failed')),
    )
    t.equal(tried(found), 5)
    t.equal(bans(found), 1)
    const more = await Promise.all(
      [0, 1, 2].map((i) => tryOne(host(i), '２01', '::ffff:192.0.2.1', 'failed')),
    )
    for (const one of more) t.match(one, { by: 'pair', first: false })
    t.equal(await tryOne(host(0), '201', '192.0.2.2', 'succeeded'), 'tried', 'from elsewhere')
    t.equal(await tryOne(host(1), '202', '192.0.2.1', 'succeeded'), 'tried', 'somebody else')
  },
)

void t.test('an address has its hundred tries over all hosts', NEEDS_REDIS, async (t) => {
  const { host } = await open(t)
  const found = await Promise.all(
    Array.from({ length: 150 }, (_, i) => tryOne(host(i), `user ${i}`, '192.0.2.1', 'failed')),
  )
  t.equal(tried(found), 100)
  t.equal(bans(found), 1)
  t.match(await host(1).begin('one more', '192.0.2.1'), { by: 'address', first: false })
})

void t.test(
  'a crowd of 150 behind one address gets in over three hosts',
  NEEDS_REDIS,
  async (t) => {
    const { host, server } = await open(t)
    const found = await Promise.all(
      Array.from({ length: 150 }, (_, i) =>
        tryOne(host(i), `user ${i}`, '192.0.2.1', 'succeeded', 50),
      ),
    )
    t.equal(tried(found), 150)
    await until(() => keysOf(server).length === 0, 20)
  },
)

void t.test('forty phones of one account behind one address get in', NEEDS_REDIS, async (t) => {
  const { host } = await open(t)
  const elapsed = startStopwatch()
  const found = await Promise.all(
    Array.from({ length: 40 }, (_, i) => tryOne(host(i), '201', '192.0.2.1', 'succeeded', 50)),
  )
  t.comment(`${Math.round(elapsed().took)} ms`)
  t.equal(tried(found), 40)
})

void t.test('a success on one host forgives the slips on another', NEEDS_REDIS, async (t) => {
  const { host } = await open(t)
  for (let i = 0; i < 4; i++) await tryOne(host(0), '201', '192.0.2.1', 'failed', 0)
  await tryOne(host(1), '201', '192.0.2.1', 'succeeded', 0)
  for (let i = 0; i < 5; i++) {
    t.equal(await tryOne(host(0), '201', '192.0.2.1', 'failed', 0), 'tried', `slip ${i}`)
  }
  t.match(await host(0).begin('201', '192.0.2.1'), { by: 'pair', first: true })
})

void t.test(
  'an account under attack has one try a second over all hosts',
  NEEDS_REDIS,
  async (t) => {
    const { host } = await open(t, { accountFailures: 3 })
    const first = await Promise.all(
      Array.from({ length: 12 }, (_, i) => tryOne(host(i), '201', `192.0.2.${i}`, 'failed')),
    )
    t.equal(bans(first), 1)
    const startedAt = performance.now()
    let judged = tried(first)
    for (let at = 0; performance.now() - startedAt < 2500; at++) {
      const found = await Promise.all(
        [0, 1, 2].map((i) => tryOne(host(i), '201', `198.51.${at % 256}.${i}`, 'failed')),
      )
      t.equal(bans(found), 0)
      judged += tried(found)
      await pause(20)
    }
    const most = 3 + Math.ceil((performance.now() - startedAt) / 1000)
    t.ok(judged > 3 && judged <= most, `${judged} tries, at most ${most}`)
    t.equal(
      await tryOne(host(0), '202', '192.0.2.1', 'succeeded'),
      'tried',
      'nobody else is slowed',
    )
  },
)

void t.test('a window ends over all hosts', NEEDS_REDIS, async (t) => {
  const { host } = await open(t, { window: 4 })
  for (let i = 0; i < 5; i++) await tryOne(host(i), '201', '192.0.2.1', 'failed', 0)
  const banned = await host(1).begin('201', '192.0.2.1')
  t.match(banned, { by: 'pair', first: true })
  await until(async () => 'settle' in (await host(2).begin('201', '192.0.2.1')), 20)
})

void t.test('a host that dies in the middle stops nobody for long', NEEDS_REDIS, async (t) => {
  const { host, links, server } = await open(t)
  for (let i = 0; i < 4; i++) begun(await host(0).begin('201', '192.0.2.1'))
  links[0]?.close()
  t.equal(await tryOne(host(1), '201', '192.0.2.1', 'succeeded'), 'tried', 'there is a place left')
  begun(await host(1).begin('201', '192.0.2.1'))
  const elapsed = startStopwatch()
  t.same(await host(2).begin('201', '192.0.2.1'), { by: 'pair', retryAfter: 1, first: false })
  const { took, ours } = elapsed()
  t.ok(took > 4900 && ours < 15_000, `${Math.round(took)} ms`)
  for (const key of keysOf(server).filter((each) => each.endsWith(':p'))) {
    for (const id of server.cli('ZRANGE', key, '0', '-1').split('\n')) {
      server.cli('ZINCRBY', key, '-30000', id) // 30 s go by
    }
  }
  const banned = await host(2).begin('201', '192.0.2.1')
  t.match(banned, { by: 'pair', first: true })
  t.ok('retryAfter' in banned && banned.retryAfter > 800)
})

void t.test('who waits here waits no longer', NEEDS_REDIS, async (t) => {
  const { host } = await open(t, { pairFailures: 1 })
  const slow = begun(await host(0).begin('201', '192.0.2.1'))
  const startedAt = performance.now()
  const found = await Promise.all(
    Array.from({ length: 70 }, async () => host(0).begin('201', '192.0.2.1')),
  )
  for (const one of found) t.same(one, { by: 'pair', retryAfter: 1, first: false })
  t.ok((performance.now() - startedAt) / 1000 > 4.9)
  slow.settle('not_judged')
  await until(async () => (await tryOne(host(0), '201', '192.0.2.1', 'failed')) === 'tried', 20)
})

void t.test('a store that is away lets nobody in, and keeps no place', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t, { pairFailures: 1 }, 1)
  const slow = begun(await host(0).begin('201', '192.0.2.1'))
  await server.kill()
  slow.settle('failed')
  await t.rejects(async () => host(0).begin('202', '192.0.2.1'), StoreError)
  for (let i = 0; i < 9; i++) {
    const elapsed = startStopwatch()
    await t.rejects(async () => host(0).begin('201', '192.0.2.1'), StoreError)
    t.ok(elapsed().ours < 4000, 'at once')
  }
  await server.start()
  const tryAgain = async () => tryOne(host(0), '201', '192.0.2.1', 'failed').catch(() => undefined)
  t.equal(await until(async () => (await tryAgain()) === 'tried', 20).then(() => 'in'), 'in')
})

void t.test('a fault while it settles is nobody’s', async (t) => {
  const throttle = over({
    begin: async () => ({ settle: () => Promise.reject(new Error('a fault')) }),
  })
  for (let i = 0; i < 20; i++) {
    begun(await throttle.begin('201', '192.0.2.1')).settle('failed')
    await pause(0)
  }
  t.pass('and the place here is free again')
})

void t.test('whatever comes at once, no more is judged than may fail', NEEDS_REDIS, async (t) => {
  const limits = { pairFailures: 3, addressFailures: 6, accountFailures: 1000 }
  const { host } = await open(t, limits)
  const guess = fc.record({ host: fc.nat(2), name: fc.nat(3), address: fc.nat(1), ms: fc.nat(6) })
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(guess, { maxLength: 50 }), async (guesses) => {
      run++
      const found = await Promise.all(
        guesses.map(async (one) => ({
          pair: `${one.name} ${one.address}`,
          address: one.address,
          result: await tryOne(
            host(one.host),
            `${run} ${one.name}`,
            `10.${run >> 8}.${run & 255}.${one.address}`,
            'failed',
            one.ms,
          ),
        })),
      )
      for (const address of [0, 1]) {
        const here = found.filter((one) => one.address === address)
        const pairs = Map.groupBy(here, ({ pair }) => pair)
        for (const those of pairs.values()) {
          const judged = tried(those.map(({ result }) => result))
          if (judged > 3) throw new Error(`${judged} tries of one pair`)
        }
        // Each of them fails, so nobody is sent away before a limit is reached.
        const most = [...pairs.values()].reduce((sum, those) => sum + Math.min(3, those.length), 0)
        const judged = tried(here.map(({ result }) => result))
        if (judged !== Math.min(6, most)) throw new Error(`${judged} tries, not ${most} or 6`)
      }
    }),
    { numRuns: 25 },
  )
})

void t.test('where an account has logged in before, its own count does not stop it', async (t) => {
  const counted: string[][] = []
  const throttle = over({
    async begin(limits) {
      counted.push(limits.map(({ key }) => (JSON.parse(key) as string[])[0] ?? ''))
      return { settle: async () => undefined }
    },
  })
  for (const outcome of ['failed', 'succeeded', 'failed'] as const) {
    t.equal(await tryOne(throttle, '201', '192.0.2.1', outcome), 'tried')
    await pause(1)
  }
  const all = ['pair', 'address', 'account']
  t.same(counted, [all, all, ['pair', 'address']])
})
