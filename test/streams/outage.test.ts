// Whether nginx may be asked, by a clock of the test's own.

import t from 'tap'

import { createOutage } from '../../src/streams/outage.ts'
import { createTestClock } from '../fixtures/clock.ts'

void t.test('one question a second while it is away', async (t) => {
  const clock = createTestClock()
  const said: unknown[] = []
  const outage = createOutage(clock, (fault) => void said.push(fault))
  t.equal(outage.take(64), 64)
  for (let at = 0; at < 64; at++) outage.answered('away')
  t.same(said, ['away'])
  t.ok(outage.isAway())
  t.equal(outage.take(64), 0)
  clock.advance(1)
  t.same([outage.take(64), outage.take(64)], [1, 0])
  clock.advance(1)
  t.equal(outage.take(64), 1, 'also where the first has no answer yet')
  outage.answered()
  t.notOk(outage.isAway())
  t.equal(outage.take(64), 64)
  outage.answered('away again')
  t.same(said, ['away', 'away again'])
})
