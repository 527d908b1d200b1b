// The causes are a metric label: a closed list, each once, in words that a dashboard can keep.

import t from 'tap'

import { KICK_CAUSES } from '../../src/streams/subscription.ts'

void t.test('every cause stands once', async (t) => {
  t.equal(new Set(KICK_CAUSES).size, KICK_CAUSES.length)
  for (const cause of KICK_CAUSES) t.match(cause, /^[a-z_]+$/)
  t.same(KICK_CAUSES, ['expired', 'session_ended', 'grant_removed', 'limit', 'operator', 'swept'])
})
