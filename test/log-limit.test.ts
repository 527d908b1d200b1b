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
