// What the mikopbx dialect's clients expect of the whole surface, as their own tests go through it.

import t from 'tap'

import {
  type Answer,
  type Ask,
  bearer,
  FORM_TYPE,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  V3,
} from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)

void t.test('the surface is these three, and nothing beside them', async (t) => {
  for (const path of ['/auth:login', '/auth:refresh', '/auth:logout']) {
    for (const method of ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      const answer = await daemon.ask(V3 + path, { method })
      t.equal(answer.status, 405, `${method} ${path}`)
      t.equal(answer.header('allow'), 'POST')
      t.match(answer.json(), { result: false, data: {} })
    }
  }
  for (const path of [
    '/auth',
    '/auth:',
    '/auth%3Alogin',
    '/auth:login/',
    '/auth:Login',
    '/auth/login',
  ]) {
    t.equal((await daemon.ask(V3 + path, { method: 'POST' })).status, 404, path)
  }
})

void t.test('the core API’s own story', async (t) => {
  const post = (path: string, more: Ask): Promise<Answer> =>
    daemon.ask(V3 + path, { method: 'POST', ...more })
  const enter = (fields: Record<string, string>): Promise<Answer> =>
    post('/auth:login', { headers: FORM_TYPE, body: String(new URLSearchParams(fields)) })
  const good = { login: '201', password: PASSWORD, rememberMe: 'true' }
  const cookieOf = (answer: Answer): string =>
    (answer.header('set-cookie') ?? '').split(';')[0] ?? ''
  const tokenOf = (answer: Answer): string =>
    (answer.json() as { data: { accessToken: string } }).data.accessToken

  const entered = await enter(good)
  t.match(entered.json(), { result: true, data: { tokenType: 'Bearer', expiresIn: 900 } })
  t.equal(tokenOf(entered).split('.').length, 3)
  t.equal((await daemon.check(tokenOf(entered))).status, 204, 'the token works')

  const seen = new Set([tokenOf(entered)])
  let cookie = cookieOf(entered)
  for (let turn = 0; turn < 2; turn++) {
    daemon.clock.advance(1)
    const refreshed = await post('/auth:refresh', { headers: { Cookie: cookie } })
    t.equal(refreshed.status, 200)
    seen.add(tokenOf(refreshed))
    cookie = cookieOf(refreshed)
  }
  t.equal(seen.size, 3, 'each refresh gives a new token')

  const headers = { ...bearer(tokenOf(entered)), Cookie: cookie }
  t.equal((await post('/auth:logout', { headers })).status, 200)
  t.equal((await post('/auth:refresh', { headers: { Cookie: cookie } })).status, 401)

  t.equal((await enter({ ...good, login: 'no-such-user' })).status, 401)
  t.equal((await enter({ login: '201' })).status, 400, 'a missing field')
  t.equal((await enter({ login: '', password: '' })).status, 401, 'both empty')
  t.equal((await post('/auth:refresh', {})).status, 401, 'no cookie')
  t.equal((await post('/auth:logout', {})).status, 401, 'no token')
  t.equal((await enter({ ...good, password: 'x'.repeat(300) })).status, 401)
  t.equal((await enter({ ...good, login: "'; DROP TABLE users; --" })).status, 401)
  const [one, two] = await Promise.all([enter(good), enter(good)])
  t.ok(one.status === 200 && two.status === 200 && tokenOf(one) !== tokenOf(two))
})

void t.test('each outcome is counted under its word', async (t) => {
  for (const series of [
    'postern_logins_total{dialect="mikopbx",result="succeeded"}',
    'postern_logins_total{dialect="mikopbx",result="unknown_user"}',
    'postern_refreshes_total{dialect="mikopbx",outcome="rotated"}',
    'postern_refreshes_total{dialect="mikopbx",outcome="invalid"}',
    'postern_http_requests_total{route="logout",status="200"}',
  ]) {
    t.ok((await daemon.metric(series)) > 0, series)
  }
})

void t.test('the base path is the operator’s to choose', async (t) => {
  const own = await startTestDaemon(t, { sections: { mikopbx: 'base_path = "/own/v3"' } })
  const body = JSON.stringify({ login: '201', password: PASSWORD })
  t.equal((await own.ask('/own/v3/auth:login', { headers: JSON_TYPE, body })).status, 200)
  t.equal((await own.ask(`${V3}/auth:login`, { headers: JSON_TYPE, body })).status, 404)
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
