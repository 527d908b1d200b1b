// The closed list of reasons.

import t from 'tap'
import { REASONS, refuse } from '../../src/auth/decision.ts'

void t.test('every reason has one refusal, which nobody can change', async (t) => {
  for (const reason of REASONS) {
    t.same(refuse(reason), { refused: reason })
    t.equal(refuse(reason), refuse(reason), 'a flood of refusals allocates nothing')
    t.ok(Object.isFrozen(refuse(reason)))
  }
  t.equal(new Set(REASONS).size, REASONS.length)
})

void t.test('every reason is fit for a metric label and a header as it stands', async (t) => {
  for (const reason of REASONS) t.match(reason, /^[a-z]+(_[a-z]+)*$/)
})
