// The token endpoints as shipped: what reaches the daemon, and how fast logins may come.
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, V1 } from './ask.ts'
import { startDaemon } from './daemon.ts'

void t.test('the token endpoints', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const answer = {
    status: 200,
    headers: { 'Content-Type': 'application/json' },
    body: '{"success":true}',
  }
  daemon.answer = () => answer
  const nginx = await startNginx(t, { postern: daemon.socket, origins: ['https://phone.test'] })
  const login = (from: string) =>
    ask(nginx.port, `${V1}/auth/login`, {
      from,
      body: '{}',
      headers: { 'Content-Type': 'application/json' },
    })

  void t.test('the request goes on with its body, and only the named headers', async (t) => {
    const body = '{"username":"201","password":"0"}'
    const sent = {
      'Content-Type': 'application/json',
      'User-Agent': 'softphone/1.0',
      Authorization: 'Bearer A',
      Cookie: 'a=1',
      Origin: 'https://phone.test',
      'Sec-Fetch-Site': 'cross-site',
    }
    const spoofed = {
      'X-Real-IP': '10.0.0.1',
      'X-Forwarded-For': '10.0.0.1',
      'X-Forwarded-Proto': 'https',
      'X-Auth-User': 'admin',
      'X-Auth-Action': 'read',
      'X-Original-URI': '/x',
    }
    const reply = await ask(nginx.port, `${V1}/auth/login`, {
      body,
      headers: { ...sent, ...spoofed },
    })
    t.match(reply, { status: 200, body: answer.body })
    const seen = daemon.last()
    t.match(seen, { method: 'POST', url: `${V1}/auth/login`, body })
    t.match(seen.headers, {
      host: 'postern',
      'x-real-ip': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'content-type': 'application/json',
      'user-agent': 'softphone/1.0',
      authorization: 'Bearer A',
    })
    const wanted = [
      'Content-Length',
      'Host',
      'X-Original-Connection',
      'X-Real-IP',
      'X-Request-ID',
      'X-Forwarded-Proto',
      'X-Forwarded-Host',
    ]
    t.same(seen.names.toSorted(), [...Object.keys(sent), ...wanted].toSorted())
  })

  void t.test("the daemon's answer comes back as it is", async (t) => {
    const table = [200, 400, 401, 403, 404, 405, 413, 429, 500, 503]
    for (const status of table) {
      daemon.answer = () => ({
        status,
        headers: { 'Retry-After': '7', 'X-Own': 'x' },
        body: `{"n":${status}}`,
      })
      const reply = await ask(nginx.port, `${V1}/profile`)
      t.match(reply, {
        status,
        body: `{"n":${status}}`,
        headers: { 'retry-after': '7', 'x-own': 'x' },
      })
    }
    daemon.answer = () => answer
  })

  void t.test('tickets and sessions are token endpoints too', async (t) => {
    const table: [method: string, path: string, body?: string][] = [
      ['POST', '/auth/ticket', '{"action":"read","resource":"recordings/a.mp3"}'],
      ['GET', '/auth/sessions'],
      ['DELETE', '/auth/sessions/3f2c9a'],
      ['POST', '/auth/logout', ''],
    ]
    for (const [method, path, body] of table) {
      const headers = { Authorization: 'Bearer A', Cookie: '__Host-postern=A' }
      const reply = await ask(nginx.port, V1 + path, { method, headers, ...(body && { body }) })
      t.equal(reply.status, 200, path)
      t.match(daemon.last(), {
        method,
        url: V1 + path,
        body: body ?? '',
        headers: { cookie: '__Host-postern=A' },
      })
    }
  })

  void t.test('cookies of login and refresh reach the client, each on a line', async (t) => {
    const cookies = ['__Host-postern=A; Path=/; Secure; HttpOnly', 'postern=; Path=/; Max-Age=0']
    daemon.answer = () => ({ ...answer, headers: { ...answer.headers, 'Set-Cookie': cookies } })
    for (const path of ['/auth/login', '/auth/refresh', '/auth/logout'])
      t.same(
        (await ask(nginx.port, V1 + path, { body: '{}' })).headers['set-cookie'],
        cookies,
        path,
      )
    daemon.answer = () => answer
  })

  void t.test('a daemon that breaks off is a 503 in JSON', async (t) => {
    daemon.answer = () => 'cut'
    const reply = await ask(nginx.port, `${V1}/profile`)
    t.match(reply, {
      status: 503,
      headers: { 'retry-after': '2', 'content-type': 'application/json' },
    })
    t.match(JSON.parse(reply.body), { success: false, error: 'Service unavailable' })
    daemon.answer = () => answer
  })

  void t.test('logins are limited by address: a burst of 20, then 10 a second', async (t) => {
    const began = performance.now()
    const replies = await Promise.all(Array.from({ length: 60 }, () => login('127.0.0.3')))
    const seconds = (performance.now() - began) / 1000
    const passed = replies.filter((reply) => reply.status === 200).length
    t.ok(passed >= 20 && passed <= 22 + 10 * seconds, `${passed} in ${seconds} s`)
    for (const reply of replies.filter((reply) => reply.status !== 200)) {
      t.match(reply, {
        status: 429,
        headers: { 'retry-after': '1', 'content-type': 'application/json' },
      })
      t.match(JSON.parse(reply.body), { success: false, error: 'Too many requests' })
    }
    t.equal((await login('127.0.0.4')).status, 200, 'another address')
    t.equal(
      (await ask(nginx.port, `${V1}/auth/refresh`, { from: '127.0.0.3', body: '' })).status,
      200,
      'refresh',
    )
  })

  void t.test('another spelling of login is limited too', async (t) => {
    const paths = ['/auth/%6cogin', '//auth//login', '/x/../auth/login', '/auth/login?x=1']
    const asked = Array.from(
      { length: 60 },
      async (_, index) =>
        (await ask(nginx.port, V1 + String(paths[index % 4]), { from: '127.0.0.5', body: '{}' }))
          .status,
    )
    t.ok((await Promise.all(asked)).includes(429))
  })

  void t.test('a path that nginx reads as ours never is another one for the daemon', async (t) => {
    daemon.asked.length = 0
    for (const path of ['/check', '/metrics', `${V1}/../../../../check`, '/x/../check', '/%63heck'])
      t.equal((await ask(nginx.port, path)).status, 404, path)
    t.equal(daemon.asked.length, 0)
  })

  void t.test('preflights from listed origins are allowed, others learn nothing', async (t) => {
    daemon.asked.length = 0
    for (const path of ['/auth/login', '/auth/refresh', '/profile'])
      for (const [origin, allowed] of [
        ['https://phone.test', 'https://phone.test'],
        ['https://evil.test', undefined],
        ['null', undefined],
      ] as const) {
        const headers = { Origin: origin, 'Access-Control-Request-Method': 'POST' }
        const reply = await ask(nginx.port, V1 + path, { method: 'OPTIONS', headers })
        t.equal(reply.status, 204)
        t.equal(reply.headers['access-control-allow-origin'], allowed, `${path} ${origin}`)
        t.notOk(reply.headers['access-control-allow-credentials'])
      }
    t.equal(daemon.asked.length, 0)
  })
})
