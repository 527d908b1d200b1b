// A session that ended stays ended, for as long as any token of it could be alive, and no longer in memory.

import t from 'tap'
import { createRevocations } from '../../src/auth/revocations.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'

const LIFE = 15 * 60

void t.test('an ended session is known until its last token is dead, then forgotten', async (t) => {
  const clock = createTestClock()
  const revocations = createRevocations(clock)
  revocations.add('s1', NOW + LIFE)
  t.ok(revocations.has('s1'))
  t.notOk(revocations.has('s2'))
  clock.advance(LIFE)
  t.equal(revocations.prune(), 1, 'a minute more, in case the clocks were slewed')
  t.ok(revocations.has('s1'))
  clock.advance(60)
  t.equal(revocations.prune(), 0)
  t.notOk(revocations.has('s1'))
})

void t.test('100,000 revocations leave no trace when their tokens are dead', async (t) => {
  const clock = createTestClock()
  const revocations = createRevocations(clock)
  for (let i = 0; i < 100_000; i++) revocations.add(`session ${i}`, NOW + LIFE)
  t.equal(revocations.prune(), 100_000)
  clock.advance(16 * 60)
  t.equal(revocations.prune(), 0)
  t.notOk(revocations.has('session 99999'))
})

void t.test('F19: no jump of the wall clock un-revokes anything', async (t) => {
  for (const jump of [3600, 86_400, 315_360_000, -3600, -86_400]) {
    const clock = createTestClock()
    const revocations = createRevocations(clock)
    revocations.add('s1', NOW + LIFE)
    clock.jump(jump)
    t.equal(revocations.prune(), 1, `${jump} s`)
    clock.jump(-jump)
    clock.advance(LIFE - 1)
    revocations.prune()
    t.ok(revocations.has('s1'), `${jump} s and back`)
  }
})

void t.test('saying it twice keeps the longer memory', async (t) => {
  for (const order of [
    [LIFE, 10],
    [10, LIFE],
  ]) {
    const clock = createTestClock()
    const revocations = createRevocations(clock)
    for (const left of order) revocations.add('s1', NOW + left)
    clock.advance(LIFE)
    revocations.prune()
    t.ok(revocations.has('s1'))
  }
})

void t.test(
  'a session whose tokens are dead already is still remembered for the margin',
  async (t) => {
    const clock = createTestClock()
    const revocations = createRevocations(clock)
    revocations.add('s1', NOW - 5000)
    t.equal(revocations.prune(), 1)
    clock.advance(60)
    t.equal(revocations.prune(), 0)
  },
)
