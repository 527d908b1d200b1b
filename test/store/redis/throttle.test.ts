// Counts that hosts share: no race earns a try, and nobody is banned by what is merely under way.

import { setTimeout as pause } from 'node:timers/promises'
import * as fc from 'fast-check'
import t, { type Test } from 'tap'

import { systemClock } from '../../../src/clock.ts'
import { type Link, openLink } from '../../../src/store/redis/link.ts'
import { createRedisThrottle } from '../../../src/store/redis/throttle.ts'
import type { SharedAttempt, SharedLimit, SharedThrottle } from '../../../src/store/shared-store.ts'
import { StoreError } from '../../../src/store/store.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../../fixtures/redis.ts'

const ROOT = 'p:{throttle}'
const PAIR = { key: 'pair', failures: 5, spacing: 0, forgiving: true }
const ADDRESS = { key: 'address', failures: 100, spacing: 0 }
const ACCOUNT = { key: 'account', failures: 50, spacing: 1 }
const LIMITS = [PAIR, ADDRESS, ACCOUNT]

const connect = async (t: Test, url: string, timeout = 5): Promise<Link> => {
  const link = await openLink({ url, timeout, channels: ['x'] })
  t.teardown(() => link.close())
  await until(async () => link.info('server').catch(() => ''), 20) // the first attempt may have been too slow
  return link
}

const open = async (t: Test, options: Readonly<Record<string, string>> = {}) => {
  const server = await startRedis(t, options)
  const links = await Promise.all(['a', 'b', 'c'].map(() => connect(t, server.url)))
  const hosts = links.map((link) => createRedisThrottle(link, ROOT, systemClock))
  const host = (index: number): SharedThrottle => {
    const one = hosts[index % 3]
    if (!one) throw new Error('no host')
    return one
  }
  return { server, links, host }
}

const word = (attempt: SharedAttempt<SharedLimit>): 'counted' | 'wait' | 'refused' => {
  if ('settle' in attempt) return 'counted'
  return 'wait' in attempt ? 'wait' : 'refused'
}

const begun = (attempt: SharedAttempt<SharedLimit>) => {
  if (!('settle' in attempt)) throw new Error(`stopped: ${JSON.stringify(attempt)}`)
  return attempt
}

const fail = async (throttle: SharedThrottle, limits: readonly SharedLimit[] = LIMITS) => {
  const attempt = await throttle.begin(limits, 900)
  if ('settle' in attempt) await attempt.settle('failed')
  return word(attempt)
}

const series = async (count: number, run: (index: number) => Promise<string>) => {
  const found: string[] = []
  for (let index = 0; index < count; index++) found.push(await run(index))
  return found
}

/** Every count that the server holds; not the mark that each try leaves for a millisecond. */
const keysOf = (server: RedisServer): string[] =>
  server
    .cli('KEYS', `${ROOT}:*`)
    .split('\n')
    .filter((key) => key !== '')

/** As if those tries had begun so many seconds earlier. */
const age = (server: RedisServer, seconds: number): void => {
  for (const key of keysOf(server).filter((each) => each.endsWith(':p'))) {
    for (const id of server.cli('ZRANGE', key, '0', '-1').split('\n')) {
      server.cli('ZINCRBY', key, String(-1000 * seconds), id)
    }
  }
}

void t.test(
  'three hosts together let five tries through, and one hears of the ban first',
  NEEDS_REDIS,
  async (t) => {
    const { host } = await open(t)
    const all = await Promise.all(Array.from({ length: 60 }, (_, i) => host(i).begin(LIMITS, 900)))
    const tries = all.flatMap((one) => ('settle' in one ? [one] : []))
    t.equal(tries.length, 5)
    t.equal(all.filter((one) => 'wait' in one).length, 55, 'nobody is banned by what may succeed')
    t.match(
      all.find((one) => 'wait' in one),
      { wait: PAIR },
    )
    await Promise.all(tries.map(async (one) => one.settle('failed')))
    const later = await Promise.all(Array.from({ length: 9 }, (_, i) => host(i).begin(LIMITS, 900)))
    t.same(new Set(later.map(word)), new Set(['refused']))
    t.equal(later.filter((one) => 'refused' in one && one.first).length, 1)
    const [one] = later
    t.match(one, { refused: PAIR })
    t.ok(one && 'refused' in one && one.retryAfter > 800 && one.retryAfter <= 900)
  },
)

void t.test(
  'who gets in takes the slips before it along, others do not',
  NEEDS_REDIS,
  async (t) => {
    const { host, server } = await open(t)
    await series(4, async (i) => fail(host(i)))
    await begun(await host(0).begin(LIMITS, 900)).settle('succeeded')
    t.same(await series(6, async (i) => fail(host(i))), [
      'counted',
      'counted',
      'counted',
      'counted',
      'counted',
      'refused',
    ])
    const elsewhere = { ...PAIR, key: 'elsewhere' }
    const tight = [elsewhere, { ...ADDRESS, failures: 10 }]
    t.equal(await fail(host(1), tight), 'counted')
    t.same(
      await host(1)
        .begin([{ ...elsewhere, key: 'x' }, ADDRESS], 900)
        .then(word),
      'counted',
    )
    t.equal(
      await fail(host(2), [
        { ...PAIR, key: 'y' },
        { ...ADDRESS, failures: 10 },
      ]),
      'refused',
      'the address still has its ten',
    )
    server.cli('FLUSHALL')
    await series(20, async (i) => {
      const attempt = begun(await host(i).begin(LIMITS, 900))
      await attempt.settle(i % 2 ? 'succeeded' : 'not_judged')
      return 'in'
    })
    t.same(keysOf(server), [], 'whoever gets in at once leaves nothing behind')
  },
)

void t.test('an account is slowed to one try a second, never locked', NEEDS_REDIS, async (t) => {
  const { host } = await open(t)
  const limits = [{ ...ACCOUNT, failures: 2 }]
  const two = await Promise.all([host(0).begin(limits, 900), host(1).begin(limits, 900)])
  t.equal(word(await host(2).begin(limits, 900)), 'wait')
  await Promise.all(two.map(async (one) => begun(one).settle('failed')))
  t.match(await host(2).begin(limits, 900), { retryAfter: 1, first: true })
  const startedAt = performance.now()
  let judged = 0
  while (performance.now() - startedAt < 2500) {
    const found = await Promise.all([0, 1, 2].map(async (i) => fail(host(i), limits)))
    judged += found.filter((each) => each === 'counted').length
    await pause(20)
  }
  const most = Math.ceil((performance.now() - startedAt) / 1000)
  t.ok(judged >= 2 && judged <= most, `${judged} in ${most} seconds`)
})

void t.test('a window ends by itself, and what it held with it', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t)
  const limits = [{ ...PAIR, failures: 2 }, ADDRESS]
  await begun(await host(0).begin(limits, 900)).settle('failed')
  await host(1).begin(limits, 900)
  t.equal(keysOf(server).length, 4)
  for (const key of keysOf(server)) {
    const left = Number(server.cli('TTL', key))
    t.ok(left > 800 && left <= 900, `${key}: ${left}`)
    t.notMatch(key, /pair|address/)
  }
  server.cli('FLUSHALL')
  const slow = begun(await host(0).begin(limits, 1))
  await begun(await host(1).begin(limits, 1)).settle('failed')
  await until(() => keysOf(server).length === 0, 20)
  const fresh = begun(await host(2).begin(limits, 900))
  await slow.settle('failed')
  t.equal(await fail(host(1), limits), 'counted', 'a window does not hear of an earlier one')
  await slow.settle('succeeded')
  await fresh.settle('failed')
  t.match(await host(0).begin(limits, 900), { refused: { key: 'pair' }, first: true })
})

void t.test('what a dead host has begun is a failure after 30 s', NEEDS_REDIS, async (t) => {
  const { host, server, links } = await open(t)
  const tries = await Promise.all(Array.from({ length: 5 }, () => host(0).begin(LIMITS, 900)))
  age(server, 15)
  t.equal(word(await host(1).begin(LIMITS, 900)), 'wait')
  age(server, 15)
  t.match(await host(1).begin(LIMITS, 900), { refused: PAIR, first: true })
  links[1]?.close()
  const [late, later] = tries.map(begun)
  await late?.settle('not_judged')
  const again = begun(await host(2).begin(LIMITS, 900))
  t.equal(word(await host(2).begin(LIMITS, 900)), 'wait', 'it was not dead, only slow')
  await again.settle('failed')
  t.match(await host(2).begin(LIMITS, 900), { refused: PAIR, first: false }, 'the same ban')
  await later?.settle('succeeded')
  t.same(
    await series(6, async () => fail(host(2))),
    ['counted', 'counted', 'counted', 'counted', 'counted', 'refused'],
    'the owner is in: also what was overdue is forgiven',
  )
})

void t.test('F19: a clock set back on the server prolongs nothing', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t)
  const limits = [{ ...PAIR, failures: 1 }]
  t.equal(await fail(host(0), limits), 'counted')
  for (const key of keysOf(server)) server.cli('EXPIRE', key, '4500') // what is seen an hour earlier
  t.match(await host(1).begin(limits, 900), { refused: {}, retryAfter: 900 })
  for (const key of keysOf(server)) t.ok(Number(server.cli('TTL', key)) <= 900)
  const slowed = [{ ...ACCOUNT, failures: 1 }]
  t.equal(await fail(host(0), slowed), 'counted')
  for (const key of keysOf(server)) server.cli('HSET', key, 'last', '500000')
  t.equal(await fail(host(1), slowed), 'counted', 'nobody is locked out')
})

void t.test('a reload that shortens the window ends the longer ones', NEEDS_REDIS, async (t) => {
  const { host } = await open(t)
  const limits = [{ ...PAIR, failures: 1 }]
  await fail(host(0), limits)
  await pause(50)
  t.equal(word(await host(1).begin(limits, 900)), 'refused')
  t.equal(word(await host(1).begin(limits, 0.05)), 'counted')
})

void t.test('a server that is full or a replica counts nobody in', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t, { maxmemory: '1', 'maxmemory-policy': 'noeviction' })
  await t.rejects(host(0).begin(LIMITS, 900), { code: 'unavailable', message: /maxmemory/ })
  server.cli('CONFIG', 'SET', 'maxmemory', '0')
  const attempt = begun(await host(0).begin(LIMITS, 900))
  server.cli('CONFIG', 'SET', 'maxmemory', '1')
  await attempt.settle('failed')
  t.match(
    server.cli('HGET', keysOf(server)[0] ?? '', 'failures'),
    '1',
    'but who was let in is judged',
  )
  server.cli('REPLICAOF', '127.0.0.1', '1')
  await t.rejects(host(1).begin(LIMITS, 900), { code: 'unavailable', message: /READONLY/ })
})

void t.test('as an ACL user with no more rights than the message names', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const rights = '~p:* &x -@all +@read +@write +@scripting +@pubsub +@connection +info'
  server.cli('ACL', 'SETUSER', 'p', 'on', '>secret', ...rights.split(' '))
  const link = await connect(t, `redis://p:secret@127.0.0.1:${server.port}`)
  const throttle = createRedisThrottle(link, ROOT, systemClock)
  await begun(await throttle.begin(LIMITS, 900)).settle('succeeded')
  t.same(await series(6, async () => fail(throttle)), [
    'counted',
    'counted',
    'counted',
    'counted',
    'counted',
    'refused',
  ])
})

void t.test('a pause of the server earns nobody a failure', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const throttle = createRedisThrottle(await connect(t, server.url, 1), ROOT, systemClock)
  const slow = begun(await throttle.begin([ADDRESS], 900))
  server.signal('SIGSTOP')
  const cutOff = Array.from({ length: 20 }, () => throttle.begin(LIMITS, 900))
  for (const one of await Promise.allSettled(cutOff)) {
    t.match(one, { status: 'rejected', reason: StoreError })
  }
  await slow.settle('succeeded')
  await t.rejects(throttle.begin(LIMITS, 900), StoreError)
  server.signal('SIGCONT')
  await until(() => keysOf(server).length === 0, 20) // all of them are taken back
  await until(async () => throttle.begin([PAIR], 900).then(word, () => undefined), 20)
})

void t.test('what is owed is bounded, and ends with its window', async (t) => {
  let away = true
  let sent = 0
  const link: Pick<Link, 'run'> = {
    run: async () => {
      if (away) throw new StoreError('unavailable', 'away')
      return sent++
    },
  }
  const throttle = createRedisThrottle(link, ROOT, systemClock)
  const begun = Array.from({ length: 5000 }, (_, i) =>
    throttle.begin([PAIR], i > 0 && i <= 1000 ? 0 : 900),
  )
  const outcomes = new Set((await Promise.allSettled(begun)).map(({ status }) => status))
  t.same(outcomes, new Set(['rejected']))
  away = false
  await until(() => sent === 3096, 20)
  await pause(50)
  t.equal(sent, 3096, '4096 were kept, and of 1000 the window was over')
})

void t.test('whatever the order, counts are those of one list of tries', NEEDS_REDIS, async (t) => {
  const { host, server } = await open(t)
  const outcomes = ['succeeded', 'failed', 'not_judged'] as const
  const step = fc.oneof(
    fc.record({ host: fc.nat(2), name: fc.nat(1), address: fc.nat(1) }),
    fc.record({ settle: fc.nat(9), outcome: fc.constantFrom(...outcomes) }),
  )
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      run++
      const failures = new Map<string, number>()
      const under: { keys: string[]; settle: ReturnType<typeof begun>['settle'] }[] = []
      const judged = (key: string): number => failures.get(key) ?? 0
      const all = (key: string): number =>
        judged(key) + under.filter(({ keys }) => keys.includes(key)).length
      for (const next of steps) {
        if ('settle' in next) {
          const [one] = under.splice(next.settle, 1)
          await one?.settle(next.outcome)
          if (one && next.outcome === 'failed') {
            for (const key of one.keys) failures.set(key, judged(key) + 1)
          }
          if (one && next.outcome === 'succeeded') failures.delete(one.keys[0] ?? '')
          continue
        }
        const limits = [
          {
            key: `${run} p ${next.name} ${next.address}`,
            failures: 3,
            spacing: 0,
            forgiving: true,
          },
          { key: `${run} a ${next.address}`, failures: 5, spacing: 0 },
        ]
        const stopped = (count: (key: string) => number): SharedLimit | undefined =>
          limits.find(({ key, failures: most }) => count(key) >= most)
        const attempt = await host(next.host).begin(limits, 900)
        const [refused, wait] = [stopped(judged), stopped(all)]
        if (refused) t.match(attempt, { refused })
        else if (wait) t.same(attempt, { wait })
        else under.push({ keys: limits.map(({ key }) => key), settle: begun(attempt).settle })
      }
      await Promise.all(under.map(async ({ settle }) => settle('not_judged')))
      const left = keysOf(server).length
      if (left !== failures.size) throw new Error(`${left} keys, not ${failures.size}`)
      server.cli('FLUSHALL')
    }),
    { numRuns: 60 },
  )
})
