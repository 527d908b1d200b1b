// GET /subscription-ended: a hint from nginx, answered whatever it says.

import t from 'tap'

import { createSubscriptionEndedHandler } from '../../src/http/subscription-ended.ts'
import { requestOf, startTestDaemon } from '../fixtures/daemon.ts'

void t.test('the kick id is passed on, once', async (t) => {
  const ended: string[] = []
  const handler = createSubscriptionEndedHandler((kick) => void ended.push(kick))
  t.same(await handler(requestOf(['X-Auth-Kick', 'kick-1'])), { status: 204, headers: [] })
  await handler(requestOf([]))
  await handler(requestOf(['X-Auth-Kick', 'kick-2', 'X-Auth-Kick', 'kick-3']))
  t.same(ended, ['kick-1'])
})

void t.test('an id of nobody changes nothing', async (t) => {
  const daemon = await startTestDaemon(t)
  const answer = await daemon.ask('/subscription-ended', { headers: { 'X-Auth-Kick': 'kick-x' } })
  t.equal(answer.status, 204)
  t.equal((await daemon.ask('/subscription-ended', { method: 'POST' })).status, 405)
})
