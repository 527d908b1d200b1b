// A session that ended stays ended, whatever the clock says, until its tokens are past for certain.

import t from 'tap'
import { createRevocations } from '../../src/auth/revocations.ts'
import { NOW } from '../fixtures/clock.ts'

void t.test('an end is known until it is past, and what is past is refused', async (t) => {
  const revocations = createRevocations()
  revocations.add('s1', NOW)
  t.ok(revocations.has('s1'))
  t.notOk(revocations.has('s2'))
  revocations.forget(NOW - 1)
  t.ok(revocations.has('s1'))
  t.notOk(revocations.isPast(NOW))
  revocations.forget(NOW)
  t.notOk(revocations.has('s1'))
  t.ok(revocations.isPast(NOW))
  t.notOk(revocations.isPast(NOW + 1))
  revocations.forget(0)
  t.notOk(revocations.isPast(NOW), 'an epoch stands for it now')
})

void t.test('saying it twice keeps the longer memory', async (t) => {
  for (const order of [
    [900, 10],
    [10, 900],
  ]) {
    const revocations = createRevocations()
    for (const left of order) revocations.add('s1', NOW + left)
    revocations.forget(NOW + 899)
    t.ok(revocations.has('s1'))
    revocations.forget(NOW + 900)
    t.notOk(revocations.has('s1'))
  }
})
