// How many tries somebody gets, and that nobody is locked out by somebody else.

import * as fc from 'fast-check'
import t from 'tap'
import {
  createThrottle,
  type LocalThrottle,
  throttleAddress,
  throttleKeys,
} from '../../src/auth/throttle.ts'
import { createTestClock } from '../fixtures/clock.ts'

const LIMITS = { window: 900, pairFailures: 5, addressFailures: 100, accountFailures: 50 }

const setUp = (limits: Partial<typeof LIMITS> = {}) => {
  const clock = createTestClock()
  return { clock, throttle: createThrottle(() => ({ ...LIMITS, ...limits }), clock) }
}

/** A wrong password: whether it was tried, or why not. */
const fail = (throttle: LocalThrottle, username: string, address: string): string => {
  const attempt = throttle.begin(username, address)
  if ('retryAfter' in attempt) return attempt.by
  if ('wait' in attempt) return 'wait'
  attempt.settle('failed')
  return 'tried'
}

const succeed = (throttle: LocalThrottle, username: string, address: string): string => {
  const attempt = throttle.begin(username, address)
  if ('retryAfter' in attempt) return attempt.by
  if ('wait' in attempt) return 'wait'
  attempt.settle('succeeded')
  return 'in'
}

const times = (count: number, run: (i: number) => string): string[] =>
  Array.from({ length: count }, (_, i) => run(i))

void t.test('five wrong passwords for one name from one address, then none', async (t) => {
  const { throttle, clock } = setUp()
  t.same(
    times(7, () => fail(throttle, '201', '192.0.2.1')),
    ['tried', 'tried', 'tried', 'tried', 'tried', 'pair', 'pair'],
  )
  clock.advance(100)
  t.same(throttle.begin('201', '192.0.2.1'), { retryAfter: 800, by: 'pair', first: false })
  t.equal(fail(throttle, '201', '192.0.2.2'), 'tried', 'the owner, from elsewhere')
  t.equal(fail(throttle, '202', '192.0.2.1'), 'tried', 'somebody else, from there')
  clock.advance(799.5)
  t.same(throttle.begin('201', '192.0.2.1'), { retryAfter: 1, by: 'pair', first: false })
  clock.advance(0.5)
  t.equal(fail(throttle, '201', '192.0.2.1'), 'tried')
})

void t.test('the first refusal of a ban says so, once for each ban', async (t) => {
  const { throttle, clock } = setUp()
  for (let ban = 0; ban < 2; ban++) {
    times(5, () => fail(throttle, '201', '192.0.2.1'))
    t.same(throttle.begin('201', '192.0.2.1'), { retryAfter: 900, by: 'pair', first: true })
    t.match(throttle.begin('201', '192.0.2.1'), { first: false })
    clock.advance(900)
  }
})

void t.test('spellings of one name share one count', async (t) => {
  for (const [name, ...spellings] of [
    ['admin', 'ADMIN', 'Admin', ' admin', 'admin ', '\tadmin\n', 'ａｄｍｉｎ', 'ＡＤＭＩＮ'],
    ['jürgen', 'JÜRGEN', 'ju\u0308rgen'],
  ] as const) {
    const { throttle } = setUp()
    for (let i = 0; i < 5; i++) fail(throttle, spellings[i % spellings.length] ?? '', '192.0.2.1')
    t.equal(fail(throttle, name, '192.0.2.1'), 'pair', name)
    for (const spelling of spellings)
      t.equal(fail(throttle, spelling, '192.0.2.1'), 'pair', JSON.stringify(spelling))
  }
})

void t.test('whom a try is counted for: one account and address, however spelt', async (t) => {
  t.same(throttleKeys('２01 ', '2001:DB8::1'), throttleKeys('201', '2001:db8:0:0:2::'))
  t.same(throttleKeys('201', '192.0.2.1'), {
    pair: '["pair","201","192.0.2.1"]',
    address: '["address","192.0.2.1"]',
    account: '["account","201"]',
  })
})

void t.test('no name and address pass for another pair', async (t) => {
  const { throttle } = setUp()
  const pairs = [
    ['foo_bar', 'baz'],
    ['foo', 'bar_baz'],
    ['a:b', 'c'],
    ['a', 'b:c'],
    ['a|b', 'c'],
    ['a', 'b|c'],
    ['a\0b', 'c'],
    ['a', 'b\0c'],
    ['a","b', 'c'],
    ['a', 'b","c'],
    ['account', 'pair'],
    ['pair', 'address'],
  ] as const
  for (const [name, address] of pairs) {
    t.same(
      times(6, () => fail(throttle, name, address)),
      ['tried', 'tried', 'tried', 'tried', 'tried', 'pair'],
      `${JSON.stringify(name)} from ${JSON.stringify(address)}`,
    )
  }
})

void t.test('one address has 100 tries, whatever the names', async (t) => {
  const { throttle, clock } = setUp()
  const found = times(120, (i) => fail(throttle, `user ${i}`, '192.0.2.1'))
  t.equal(found.filter((each) => each === 'tried').length, 100)
  t.same(new Set(found.slice(100)), new Set(['address']))
  t.match(throttle.begin('one more', '192.0.2.1'), { by: 'address', retryAfter: 900, first: false })
  t.equal(fail(throttle, 'user 1', '192.0.2.2'), 'tried')
  clock.advance(900)
  t.equal(fail(throttle, 'user 1', '192.0.2.1'), 'tried')
})

void t.test('an account under attack is slowed to one try a second, never locked', async (t) => {
  const { throttle, clock } = setUp()
  for (let i = 0; i < 50; i++) t.equal(fail(throttle, '201', `192.0.2.${i}`), 'tried')
  t.same(throttle.begin('201', '198.51.100.1'), { by: 'account', retryAfter: 1, first: true })
  clock.advance(1)
  t.equal(fail(throttle, '201', '198.51.100.1'), 'tried')
  clock.advance(0.5)
  t.same(throttle.begin('201', '198.51.100.2'), { by: 'account', retryAfter: 1, first: false })
  clock.advance(0.5)
  t.equal(succeed(throttle, '201', '198.51.100.3'), 'in', 'the owner')
  t.equal(fail(throttle, '202', '198.51.100.2'), 'tried', 'nobody else is slowed')
})

void t.test('a thousand addresses at once have no more tries at an account', async (t) => {
  const { throttle, clock } = setUp()
  const attempts = Array.from({ length: 60 }, (_, i) => throttle.begin('201', `192.0.2.${i}`))
  const begun = attempts.filter((attempt) => 'settle' in attempt)
  t.equal(begun.length, 50)
  t.match(attempts.at(-1), { by: 'account', wait: Promise })
  t.ok('settle' in throttle.begin('202', '192.0.2.1'), 'nobody else waits')
  begun[0]?.settle('succeeded')
  t.ok('settle' in throttle.begin('201', '192.0.2.60'), 'the owner, once one of them was right')
  clock.advance(1)
  t.ok('settle' in throttle.begin('201', '192.0.2.61'), 'one a second, whatever is under way')
  t.ok('wait' in throttle.begin('201', '192.0.2.62'))
})

void t.test('a login that succeeds takes its try back, and the slips before it', async (t) => {
  const { throttle } = setUp()
  times(4, () => fail(throttle, '201', '192.0.2.1'))
  t.equal(succeed(throttle, '201', '192.0.2.1'), 'in')
  t.same(
    times(6, () => fail(throttle, '201', '192.0.2.1')),
    ['tried', 'tried', 'tried', 'tried', 'tried', 'pair'],
  )
  const { throttle: busy } = setUp()
  times(500, () => succeed(busy, '201', '192.0.2.1'))
  t.equal(fail(busy, '201', '192.0.2.1'), 'tried', 'an office behind one address')
})

void t.test('a try that was not judged counts for nothing', async (t) => {
  const { throttle } = setUp()
  for (let i = 0; i < 200; i++) {
    const attempt = throttle.begin('201', '192.0.2.1')
    if ('settle' in attempt) attempt.settle('not_judged')
    else t.fail('throttled')
  }
  t.equal(times(6, () => fail(throttle, '201', '192.0.2.1')).at(-1), 'pair')
})

void t.test('fifty at once get five tries, not fifty', async (t) => {
  const { throttle } = setUp()
  const attempts = Array.from({ length: 50 }, () => throttle.begin('201', '192.0.2.1'))
  const begun = attempts.filter((attempt) => 'settle' in attempt)
  t.equal(begun.length, 5)
  begun.forEach((attempt, i) => {
    attempt.settle(i === 2 ? 'succeeded' : 'failed')
  })
  t.equal(attempts.filter((attempt) => 'wait' in attempt).length, 45, 'the others wait')
  await Promise.all(attempts.map(async (attempt) => 'wait' in attempt && attempt.wait))
  const later = times(50, () => fail(throttle, '201', '192.0.2.1'))
  t.ok(later.filter((each) => each === 'tried').length <= 5, 'at most the limit once more')
})

void t.test('fifty who know the password all get in, a few at a time', async (t) => {
  const { throttle } = setUp()
  const login = async (): Promise<string> => {
    let attempt = throttle.begin('201', '192.0.2.1')
    while ('wait' in attempt) {
      await attempt.wait
      attempt = throttle.begin('201', '192.0.2.1')
    }
    if ('retryAfter' in attempt) return attempt.by
    const { settle } = attempt
    await Promise.resolve()
    settle('succeeded')
    return 'in'
  }
  t.same(new Set(await Promise.all(Array.from({ length: 50 }, login))), new Set(['in']))
})

void t.test('those who wait are bounded: for a pair, and for an address', async (t) => {
  const { throttle } = setUp({ addressFailures: 8 })
  const begin = (name: string) => throttle.begin(name, '192.0.2.1')
  for (let i = 0; i < 5; i++) begin('201')
  for (let i = 0; i < 64; i++) t.ok('wait' in begin('201'))
  t.same(begin('201'), { retryAfter: 1, by: 'pair', first: false })
  for (let i = 0; i < 3; i++) t.ok('settle' in begin('202'))
  for (let i = 0; i < 64; i++) t.ok('wait' in begin('203'))
  t.same(begin('203'), { retryAfter: 1, by: 'address', first: false })
})

void t.test('logins that succeed at once never earn more tries than the limit', async (t) => {
  for (const outcome of ['succeeded', 'not_judged'] as const) {
    const { throttle } = setUp()
    const attempts = Array.from({ length: 4 }, () => throttle.begin('201', '192.0.2.1'))
    attempts.forEach((attempt, i) => {
      if ('settle' in attempt) attempt.settle(i === 0 ? 'succeeded' : outcome)
    })
    t.equal(
      times(20, () => fail(throttle, '201', '192.0.2.1')).filter((e) => e === 'tried').length,
      5,
    )
  }
})

void t.test('refused tries cost no memory and drive out no ban', async (t) => {
  const { throttle } = setUp()
  times(100, (i) => fail(throttle, `user ${i}`, '192.0.2.1'))
  for (let i = 0; i < 120_000; i++) throttle.begin(`flood ${i}`, '192.0.2.1')
  t.equal(fail(throttle, '201', '192.0.2.1'), 'address')
})

void t.test('100,000 windows are the most: then the oldest goes', async (t) => {
  const { throttle } = setUp({ accountFailures: 1_000_000 })
  times(5, () => fail(throttle, '201', '192.0.2.1'))
  t.equal(fail(throttle, '201', '192.0.2.1'), 'pair')
  for (let i = 0; i < 33_000; i++) fail(throttle, `user ${i}`, `10.0.${i >> 8}.${i & 255}`)
  t.equal(fail(throttle, '201', '192.0.2.1'), 'pair', 'there is room for 33,000 more')
  for (let i = 0; i < 1000; i++) fail(throttle, `more ${i}`, `10.1.${i >> 8}.${i & 255}`)
  t.equal(fail(throttle, '201', '192.0.2.1'), 'tried', 'the first is forgotten')
})

void t.test('F19: a clock set back or forward opens and closes nothing', async (t) => {
  const { throttle, clock } = setUp()
  times(5, () => fail(throttle, '201', '192.0.2.1'))
  for (const jump of [3600, -7200, 86_400]) {
    clock.jump(jump)
    t.match(throttle.begin('201', '192.0.2.1'), { by: 'pair', retryAfter: 900 })
  }
})

void t.test('an IPv6 host is counted by its /64', async (t) => {
  const rows: readonly (readonly [address: string, key: string])[] = [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002::', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8::', '2001:db8:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['::', '0:0:0:0::/64'],
    ['1::2:3:4:5:6:7', '1:0:2:3::/64'],
    ['1:2:3:4:5:6:7::', '1:2:3:4::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['unknown', 'unknown'],
    ['', ''],
  ]
  for (const [address, key] of rows) t.equal(throttleAddress(address), key, address)
  const { throttle } = setUp()
  t.same(
    times(6, (i) => fail(throttle, '201', `2001:db8:1:2::${i}`)),
    ['tried', 'tried', 'tried', 'tried', 'tried', 'pair'],
  )
  t.equal(fail(throttle, '201', '2001:db8:1:3::1'), 'tried', 'the next network')
})

void t.test(
  'limits that change while it runs count from then on, and the counts stay',
  async (t) => {
    const clock = createTestClock()
    let limits = LIMITS
    const throttle = createThrottle(() => limits, clock)
    times(4, () => fail(throttle, '201', '192.0.2.1'))
    limits = { ...LIMITS, pairFailures: 4 }
    t.equal(fail(throttle, '201', '192.0.2.1'), 'pair')
    limits = { ...LIMITS, pairFailures: 6 }
    t.equal(fail(throttle, '201', '192.0.2.1'), 'tried')
    limits = { ...LIMITS, window: 10 }
    clock.advance(10)
    t.equal(fail(throttle, '201', '192.0.2.1'), 'tried')
  },
)

void t.test('no name or address makes it throw', async (t) => {
  const { throttle } = setUp()
  const text = fc.string({ unit: 'binary', maxLength: 300 })
  fc.assert(
    fc.property(text, text, (name, address) => {
      const found = fail(throttle, name, address)
      return ['tried', 'pair', 'address', 'account'].includes(found)
    }),
    { numRuns: 2000 },
  )
  t.pass('2,000 pairs')
})

void t.test('tries that hashed nothing push no ban out', async (t) => {
  const { throttle } = setUp()
  times(6, () => fail(throttle, '201', '192.0.2.1'))
  for (let at = 0; at < 60_000; at++) {
    const attempt = throttle.begin(`name ${at}`, `2001:db8:${(at >> 8).toString(16)}:${at & 255}::`)
    if ('settle' in attempt) attempt.settle('not_judged')
  }
  t.equal(fail(throttle, '201', '192.0.2.1'), 'pair', 'it stands')
})

void t.test('who attacks an account from everywhere keeps its owner’s address in', async (t) => {
  const { throttle, clock } = setUp()
  t.equal(succeed(throttle, '201', '192.0.2.1'), 'in')
  t.ok(throttle.hasLoggedIn('201', '192.0.2.1'))
  t.notOk(throttle.hasLoggedIn('201', '192.0.2.2'))
  times(60, (at) => fail(throttle, '201', `198.51.100.${at}`))
  clock.advance(1)
  t.equal(fail(throttle, '201', '203.0.113.1'), 'tried', 'the one try of this second')
  t.equal(succeed(throttle, '201', '192.0.2.2'), 'account')
  t.equal(succeed(throttle, '201', '192.0.2.1'), 'in', 'the owner, where they have been before')
  times(5, () => fail(throttle, '201', '192.0.2.1'))
  t.equal(succeed(throttle, '201', '192.0.2.1'), 'pair', 'with its own limit all the same')
})

void t.test('so many owners are remembered, the latest of them', async (t) => {
  const { throttle } = setUp()
  for (let at = 0; at <= 100_000; at++) succeed(throttle, `name ${at}`, '192.0.2.1')
  t.notOk(throttle.hasLoggedIn('name 0', '192.0.2.1'))
  t.ok(throttle.hasLoggedIn('name 1', '192.0.2.1'))
})
