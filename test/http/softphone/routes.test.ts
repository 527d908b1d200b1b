// The whole surface of the softphone dialect, as its clients go through it.

import t from 'tap'

import { bearer, JSON_TYPE, PASSWORD, startTestDaemon, V1 } from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)

const TABLE: Readonly<Record<string, string>> = {
  '/auth/login': 'POST',
  '/auth/refresh': 'POST',
  '/auth/logout': 'POST',
  '/profile': 'GET, HEAD',
  '/health': 'GET, HEAD',
  '/check-media-access': 'GET, HEAD',
  '/auth/ticket': 'POST',
  '/auth/sessions': 'GET, HEAD',
  '/auth/sessions/some-id': 'DELETE',
}

void t.test('each path has its method, another one is a 405 that names it', async (t) => {
  for (const [path, allowed] of Object.entries(TABLE)) {
    for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'HEAD']) {
      const answer = await daemon.ask(V1 + path, { method })
      if (allowed.split(', ').includes(method)) {
        t.ok([200, 400, 401].includes(answer.status), `${method} ${path}`)
        continue
      }
      t.equal(answer.status, 405, `${method} ${path}`)
      t.equal(answer.header('allow'), allowed)
      if (method !== 'HEAD')
        t.match(answer.json(), { success: false, error: String, timestamp: Number })
    }
  }
})

void t.test('what is nginx’s own, or nobody’s, is a 404 here', async (t) => {
  for (const path of [
    '/',
    '',
    '/pub/users-state',
    '/sub/users-state',
    '/auth',
    '/profile/',
    '/Profile',
  ]) {
    const answer = await daemon.ask(V1 + path)
    t.equal(answer.status, 404, path)
    t.match(answer.json(), { success: false, error: 'Not found' })
  }
})

void t.test('the module’s smoke test, as far as the daemon answers it', async (t) => {
  t.equal((await daemon.ask(`${V1}/health`)).status, 200)
  const { access } = await daemon.softphone()
  t.equal((await daemon.ask(`${V1}/profile`, { headers: bearer(access) })).status, 200)
  for (const channel of ['users-state', 'active-calls', 'contacts']) {
    const answer = await daemon.check('', {
      Authorization: '',
      'X-Auth-Action': 'subscribe',
      resource: channel,
      'X-Auth-Accept': 'query',
      'X-Original-URI': `${V1}/sub/${channel}?authorization=${access}`,
    })
    t.equal(answer.status, 204, channel)
    t.equal(answer.header('x-auth-channel'), channel)
  }
})

void t.test('each outcome is counted under its word', async (t) => {
  const { refresh } = await daemon.softphone()
  await daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(refresh) })
  const { access } = await daemon.softphone()
  const order = (resource: string) =>
    daemon.ask(`${V1}/auth/ticket`, {
      headers: { ...JSON_TYPE, ...bearer(access) },
      body: JSON.stringify({ action: 'read', resource }),
    })
  for (const resource of ['recordings/a', 'other/a', '../a']) await order(resource)
  for (const series of [
    'postern_logins_total{dialect="softphone",result="succeeded"}',
    'postern_refreshes_total{dialect="softphone",outcome="renewed"}',
    'postern_http_requests_total{route="wrong_method",status="405"}',
    'postern_http_requests_total{route="profile",status="200"}',
    'postern_tickets_total{result="issued"}',
    'postern_tickets_total{result="no_grant"}',
    'postern_tickets_total{result="bad_request"}',
  ]) {
    t.ok((await daemon.metric(series)) > 0, series)
  }
})

void t.test('the base path is the operator’s to choose', async (t) => {
  const own = await startTestDaemon(t, { sections: { softphone: 'base_path = "/own"' } })
  const body = JSON.stringify({ username: '201', password: PASSWORD })
  t.equal((await own.ask('/own/auth/login', { headers: JSON_TYPE, body })).status, 200)
  t.equal((await own.ask(`${V1}/auth/login`, { headers: JSON_TYPE, body })).status, 404)
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
