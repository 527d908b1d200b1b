// GET /health of the softphone dialect, against the real daemon.

import t from 'tap'

import { NOW } from '../../fixtures/clock.ts'
import { startTestDaemon, V1 } from '../../fixtures/daemon.ts'
import { CHECK } from '../../fixtures/postern.ts'

const daemon = await startTestDaemon(t)

void t.test('it answers without a token, with the time', async (t) => {
  const answer = await daemon.ask(`${V1}/health`)
  t.equal(answer.status, 200)
  t.same(answer.json(), { success: true, status: 'ok', timestamp: NOW })
  t.equal(answer.header('cache-control'), 'no-store')
})

void t.test('nobody is let in for looking like a health check', async (t) => {
  for (const agent of ['kube-probe/1.0', 'GoogleHC/1.0', 'Prometheus/2.0']) {
    const headers = { 'User-Agent': agent, 'X-Health-Check': '1' }
    const answer = await daemon.ask(CHECK, { headers })
    t.equal(answer.status, 401, agent)
    t.equal(answer.header('www-authenticate'), 'Bearer realm="postern"')
  }
})
