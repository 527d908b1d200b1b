// An issuer's keys, kept: how often it is asked, how long an answer counts, and what a bad one changes.

import t from 'tap'
import { ASYMMETRIC } from '../../src/auth/jwk.ts'
import { createKeySource, type Loaded, type Outcome } from '../../src/issuers/key-source.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { keySet } from '../fixtures/keys.ts'
import { pairOf } from '../fixtures/pairs.ts'

const A = pairOf('EdDSA', 'a')
const B = pairOf('EdDSA', 'b')
const BOUNDS = { min: 60, max: 3600, unstated: 300, retry: 10, lastGood: 86_400 }

const setUp = (first: Loaded) => {
  const clock = createTestClock()
  const outcomes: Outcome[] = []
  const state = { answer: first, asked: 0, gate: Promise.resolve() }
  const source = createKeySource({
    async load() {
      state.asked++
      const { answer, gate } = state
      await gate
      return answer
    },
    algorithms: ASYMMETRIC,
    clock,
    bounds: BOUNDS,
    observe: (outcome) => void outcomes.push(outcome),
  })
  const kids = (): string[] | undefined => {
    const found = source.current()
    return found && [...found.keys()]
  }
  /** What `current` set off in the background. */
  const settled = () => source.renew()
  return { clock, outcomes, state, source, kids, settled }
}

void t.test('an answer counts for as long as it says, within bounds', async (t) => {
  const rows: readonly (readonly [maxAge: number | undefined, counts: number])[] = [
    [undefined, 300],
    [0, 60],
    [59, 60],
    [600, 600],
    [86_400, 3600],
  ]
  for (const [maxAge, counts] of rows) {
    const { clock, state, source, kids } = setUp({ text: keySet(A.open), maxAge })
    t.equal(kids(), undefined)
    await source.renew()
    t.equal(state.asked, 1, 'the first look and the first wait are one question')
    clock.advance(counts - 1)
    t.same(kids(), ['a'])
    t.equal(state.asked, 1, `${maxAge}: not before`)
    clock.advance(1)
    t.same(kids(), ['a'], 'at once, while it is asked again')
    t.equal(state.asked, 2, `${maxAge}: then`)
  }
})

void t.test('whoever waits waits for one question', async (t) => {
  const { state, source, kids } = setUp({ text: keySet(A.open) })
  const gate = Promise.withResolvers<void>()
  state.gate = gate.promise
  const waiting = Array.from({ length: 100 }, () => source.renew())
  kids()
  gate.resolve()
  await Promise.all(waiting)
  t.equal(state.asked, 1)
  t.same(kids(), ['a'])
})

void t.test('missing keys ask at most once a minute', async (t) => {
  const { clock, state, source, kids } = setUp({ text: keySet(A.open) })
  await source.renew()
  state.answer = { text: keySet(B.open) }
  for (let i = 0; i < 50; i++) await source.renew()
  t.equal(state.asked, 1)
  clock.advance(59)
  await source.renew()
  t.equal(state.asked, 1)
  clock.advance(1)
  await source.renew()
  t.equal(state.asked, 2)
  t.same(kids(), ['b'])
})

void t.test('the same keys stay the same object, so that verdicts by them do', async (t) => {
  const { clock, source, settled } = setUp({ text: keySet(A.open) })
  await source.renew()
  const first = source.current()
  clock.advance(300)
  source.current()
  await settled()
  t.equal(source.current(), first)
})

void t.test('a bad answer changes nothing for a day, and is followed by another try', async (t) => {
  const { clock, state, source, kids, outcomes, settled } = setUp({ text: keySet(A.open) })
  await source.renew()
  clock.advance(300)
  for (const answer of [{ problem: 'is away' }, { text: '<html>' }, { text: keySet() }]) {
    state.answer = answer
    t.same(kids(), ['a'])
    await settled()
    t.same(kids(), ['a'], 'the last good ones stay')
    clock.advance(10)
  }
  t.same(
    outcomes.map((outcome) => ('problem' in outcome ? outcome.problem : outcome.keys)),
    [
      1,
      'is away',
      'is not a JWK Set: an object with a list "keys"',
      'holds no key for EdDSA, ES256, RS256 with a kid that can be used',
    ],
  )
  const news = outcomes.filter((outcome) => 'keys' in outcome && outcome.areNew)
  t.ok(news.length > 0 && news.length < outcomes.length, 'what was read again is not new')
  clock.advance(86_400)
  t.equal(kids(), undefined, 'too old to be believed')
  await settled()
  state.answer = { text: keySet(B.open) }
  clock.advance(10)
  await source.renew()
  t.same(kids(), ['b'])
})

void t.test('an issuer that is away at first is asked again soon', async (t) => {
  const { clock, state, source, kids } = setUp({ problem: 'is away' })
  await source.renew()
  await source.renew()
  t.equal(state.asked, 1)
  t.equal(kids(), undefined)
  clock.advance(10)
  state.answer = { text: keySet(A.open) }
  await source.renew()
  t.same(kids(), ['a'])
})
