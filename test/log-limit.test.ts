import t from 'tap'

import { createLogLimit } from '../src/log-limit.ts'
import { createTestClock } from './fixtures/clock.ts'

void t.test('of lines that say the same thing a few are written in each window', (t) => {
  const clock = createTestClock()
  const limit = createLogLimit(clock, { most: 3, window: 10 })
  const write = (kind: string, times: number): number => {
    let written = 0
    for (let time = 0; time < times; time++) if (limit.allows(kind)) written++
    return written
  }
  t.equal(write('expired', 100), 3)
  t.equal(write('no_grant', 2), 2, 'another kind has its own measure')
  t.same(limit.takeSuppressed(), [{ kind: 'expired', count: 97 }], 'what was left out is said')
  t.same(limit.takeSuppressed(), [], 'once')
  t.equal(write('expired', 5), 0, 'the window is not over')
  clock.advance(10)
  t.equal(write('expired', 5), 3)
  t.same(limit.takeSuppressed(), [{ kind: 'expired', count: 7 }], 'over both windows')
  t.end()
})

void t.test(
  'kinds that anybody can make more of are bounded; the first lines of each stand',
  (t) => {
    const clock = createTestClock()
    const limit = createLogLimit(clock, { most: 1, window: 60 })
    for (let n = 0; n < 20_000; n++) {
      if (!limit.allows(`kind ${n}`)) t.fail('a first line was left out')
      limit.allows(`kind ${n}`)
    }
    const taken = limit.takeSuppressed()
    t.equal(taken.length, 10_001)
    t.same(taken[0], { kind: '- others', count: 10_000 }, 'what was forgotten is counted')
    clock.advance(60)
    t.same(limit.takeSuppressed(), [])
    t.end()
  },
)
