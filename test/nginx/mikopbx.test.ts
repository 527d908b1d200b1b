// The MikoPBX API as shipped: its token endpoints, and the protected API below the same path.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { type Seen, startApplication } from './application.ts'
import { ask, V1, V3 } from './ask.ts'
import { type Asked, type Answer, pass, refuse, startDaemon } from './daemon.ts'

const FORM = { 'Content-Type': 'application/x-www-form-urlencoded' }
const REFRESHED = 'refreshToken=0123; Path=/; HttpOnly; SameSite=Strict'
const failure = (text: string) => ({ result: false, data: {}, messages: { error: [text] } })

void t.test('the MikoPBX API', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    app,
    pbx: app,
    origins: ['https://phone.test'],
  })
  const token: Answer = {
    status: 200,
    headers: { 'Content-Type': 'application/json', 'Set-Cookie': REFRESHED },
    body: '{"result":true,"data":{},"messages":{}}',
  }
  const get = (path: string, headers: Record<string, string> = {}) =>
    ask(nginx.port, V3 + path, { headers })
  t.beforeEach(() => {
    daemon.answer = (one) => (one.resource !== undefined ? pass(one) : token)
    daemon.asked.length = 0
  })

  void t.test(
    'login, refresh and logout reach the daemon, and its cookie the client',
    async (t) => {
      for (const name of ['login', 'refresh', 'logout']) {
        const sent = {
          ...FORM,
          'User-Agent': 'curl/8',
          Authorization: 'Bearer A',
          Cookie: 'refreshToken=R; a=1',
          Origin: 'https://phone.test',
          'Sec-Fetch-Site': 'same-origin',
        }
        const spoofed = {
          'X-Real-IP': '10.0.0.1',
          'X-Forwarded-Proto': 'https',
          'X-Auth-User': 'admin',
        }
        const body = 'login=admin&password=0'
        const reply = await ask(nginx.port, `${V3}/auth:${name}`, {
          body,
          headers: { ...sent, ...spoofed },
        })
        t.match(
          reply,
          { status: 200, body: token.body, headers: { 'set-cookie': [REFRESHED] } },
          name,
        )
        const seen = daemon.last()
        t.match(seen, { method: 'POST', url: `${V3}/auth:${name}`, body })
        t.match(seen.headers, {
          'content-type': FORM['Content-Type'],
          authorization: 'Bearer A',
          cookie: 'refreshToken=R; a=1',
          origin: 'https://phone.test',
          'sec-fetch-site': 'same-origin',
          'x-real-ip': '127.0.0.1',
          'x-forwarded-proto': 'http',
          'x-forwarded-host': `127.0.0.1:${nginx.port}`,
        })
        t.notOk(seen.headers['x-auth-user'])
      }
    },
  )

  void t.test("the daemon's answer comes back as it is, to any verb and any auth:…", async (t) => {
    for (const [method, path, status] of [
      ['GET', '/auth:login', 405],
      ['PUT', '/auth:refresh', 405],
      ['POST', '/auth:unheard', 404],
      ['POST', '/auth:login', 429],
      ['POST', '/auth:login', 503],
    ] as const) {
      const headers = { Allow: 'POST', 'Retry-After': '7' }
      daemon.answer = () => ({ status, headers, body: '{"n":1}' })
      const reply = await ask(nginx.port, V3 + path, { method })
      t.match(reply, { status, body: '{"n":1}', headers: { allow: 'POST', 'retry-after': '7' } })
      t.equal(daemon.last().url, V3 + path)
    }
  })

  void t.test(
    'logins of both APIs share one limit, and the refusal has the envelope',
    async (t) => {
      const login = (index: number) => {
        const path = index % 2 === 0 ? `${V3}/auth:login` : `${V1}/auth/login`
        return ask(nginx.port, path, { from: '127.0.0.3', body: 'x' })
      }
      const began = performance.now()
      const replies = await Promise.all(Array.from({ length: 60 }, (_, index) => login(index)))
      const seconds = (performance.now() - began) / 1000
      const passed = replies.filter(({ status }) => status === 200).length
      t.ok(passed >= 20 && passed <= 22 + 10 * seconds, `${passed} in ${seconds} s`)
      const refused = replies.filter(({ status }, index) => status !== 200 && index % 2 === 0)
      t.ok(refused.length > 0)
      for (const reply of refused) {
        t.match(reply, {
          status: 429,
          headers: { 'retry-after': '1', 'content-type': 'application/json' },
        })
        t.match(JSON.parse(reply.body), failure('Too many requests'))
      }
      const refresh = await ask(nginx.port, `${V3}/auth:refresh`, { from: '127.0.0.3', body: '' })
      t.equal(refresh.status, 200)
    },
  )

  void t.test('the API is asked about by its path, and by its Bearer header alone', async (t) => {
    const cookie = 'refreshToken=SECRET; language=en; __Host-postern=SECRET'
    const reply = await get('/extensions?offset=0&limit=5', {
      Authorization: 'Bearer SECRET',
      Cookie: cookie,
      'X-Auth-User': 'admin',
    })
    t.match(daemon.last().headers, {
      'x-auth-action': 'read',
      'x-auth-accept': 'header',
      authorization: 'Bearer SECRET',
      cookie,
    })
    t.equal(reply.status, 200)
    t.notMatch(reply.body, /SECRET/)
    const seen = JSON.parse(reply.body) as Seen
    t.match(seen, {
      method: 'GET',
      url: `${V3}/extensions?offset=0&limit=5`,
      headers: { cookie: 'language=en', 'x-auth-user': '201', 'x-real-ip': '127.0.0.1' },
    })
  })

  void t.test('bodies and verbs pass', async (t) => {
    for (const method of ['POST', 'PUT', 'PATCH', 'DELETE']) {
      const body = 'x'.repeat(2_000_000)
      const reply = await ask(nginx.port, `${V3}/extensions/201`, { method, body })
      t.match(JSON.parse(reply.body), { method, length: body.length }, method)
      t.equal(daemon.last().headers['x-original-method'], method)
    }
  })

  void t.test('who may read may not write', async (t) => {
    const mayRead = (asked: Asked) =>
      asked.headers['x-auth-action'] === 'read' ? pass(asked) : refuse(403, 'no_grant')
    daemon.answer = mayRead
    const rows: [method: string, action: string, status: number][] = [
      ['GET', 'read', 200],
      ['HEAD', 'read', 200],
      ['POST', 'write', 403],
      ['PUT', 'write', 403],
      ['PATCH', 'write', 403],
      ['DELETE', 'write', 403],
      ['OPTIONS', 'write', 403],
      ['PROPFIND', 'write', 403],
      ['MKCOL', 'write', 403],
      ['LINK', 'write', 403],
    ]
    for (const [method, action, status] of rows) {
      const lines = { 'X-HTTP-Method-Override': 'GET', 'X-Original-Method': 'GET' }
      for (const headers of [{}, lines]) {
        const reply = await ask(nginx.port, `${V3}/extensions/201`, { method, headers })
        t.equal(daemon.last().headers['x-auth-action'], action, method)
        t.equal(reply.status, status, method)
      }
    }
    daemon.answer = pass
  })

  void t.test(
    'every spelling is one resource, and the API gets the path that was decided on',
    async (t) => {
      for (const path of [
        '/sip/peers',
        '//sip///peers',
        '/%73ip/peers',
        '/x/../sip/./peers',
        '/x/%2e%2e/sip%2fpeers',
        '/x/..%2fsip/peers',
        '/x/%2e%2e%2fsip/peers#/y',
      ]) {
        const seen = JSON.parse((await get(path)).body) as Seen
        t.equal(daemon.last().resource, 'api/v3/sip/peers', path)
        t.equal(seen.url, `${V3}/sip/peers`, path)
      }
      for (const path of ['/extensions:getForSelect', '/call-queues/QUEUE-1.2_x']) {
        t.equal((JSON.parse((await get(path)).body) as Seen).url, V3 + path)
        t.equal(daemon.last().resource, `api/v3${path}`)
      }
      // Feature codes, numbers, and names as people have them.
      for (const [path, resource, sent] of [
        ['/dial/*97', 'dial/*97', '/dial/*97'],
        ['/dial/%2A97?n=*1', 'dial/*97', '/dial/*97?n=*1'],
        ['/dial/+7495', 'dial/+7495', '/dial/+7495'],
        ['/dial/%2b7495?a=b%2bc', 'dial/+7495', '/dial/+7495?a=b%2bc'],
        ['/users/%D0%98 x'.replace(' ', '%20'), 'users/И x', '/users/%D0%98%20x'],
        ['/a%3fb%23c%25d?e=1', 'a?b#c%d', '/a%3Fb%23c%25d?e=1'],
        ['/a;b=c/d@e,f', 'a;b=c/d@e,f', '/a;b=c/d@e,f'],
        ['/a%252f..%252fb', 'a%2f..%2fb', '/a%252f..%252fb'],
      ] as const) {
        t.equal((JSON.parse((await get(path)).body) as Seen).url, V3 + sent, path)
        t.equal(daemon.last().resource, `api/v3/${resource}`, path)
      }
    },
  )

  void t.test('other names are not there, and nobody is asked', async (t) => {
    const names = [
      '',
      '/',
      '/extensions/',
      '/.git',
      '/a/.git',
      '/..;/a',
      '/a%0d%0aX:%20y',
      '/a%20HTTP/1.1%0d%0a',
      '/a%5cb',
      '/a%5c..%5cb',
      '/a%0a',
      '/a%7f',
    ]
    for (const name of names) {
      const reply = await get(name)
      t.equal(reply.status, 404, name)
      if (name !== '') t.match(JSON.parse(reply.body), failure('Not found'), name)
    }
    t.equal(daemon.asked.length, 0)
  })

  void t.test('a refusal has the envelope', async (t) => {
    const table: [answer: Answer, status: number, text: string][] = [
      [refuse(401, 'expired'), 401, 'Unauthorized'],
      [refuse(403, 'no_grant'), 403, 'Forbidden'],
      [{ status: 503 }, 503, 'Service unavailable'],
      [{ status: 500 }, 503, 'Service unavailable'],
      ['cut', 503, 'Service unavailable'],
    ]
    for (const [answer, status, text] of table) {
      daemon.answer = () => answer
      const reply = await get('/extensions')
      t.match(reply, { status, headers: { 'content-type': 'application/json' } })
      t.equal(reply.headers['cache-control'], 'no-store')
      t.equal(reply.headers['retry-after'], status === 503 ? '2' : undefined)
      t.equal(typeof reply.headers['www-authenticate'], status === 503 ? 'undefined' : 'string')
      t.match(JSON.parse(reply.body), failure(text))
    }
    // The other API keeps its own words.
    daemon.answer = () => refuse(401, 'expired')
    const other = await ask(nginx.port, `${V1}/sub/users-state`)
    t.match(JSON.parse(other.body), { success: false, error: 'Unauthorized', timestamp: Number })
  })

  void t.test('a daemon that is away or breaks off is a 503 in the envelope', async (t) => {
    daemon.answer = () => 'cut'
    const cut = await ask(nginx.port, `${V3}/auth:login`, { body: 'x' })
    await daemon.stop()
    for (const reply of [cut, await get('/auth:refresh'), await get('/extensions')]) {
      t.match(reply, { status: 503, headers: { 'retry-after': '2' } })
      t.match(JSON.parse(reply.body), failure('Service unavailable'))
    }
    await daemon.listen()
  })

  void t.test(
    'an API that is away is a 502 in the envelope, and refusals stay themselves',
    async (t) => {
      const away = await startNginx(t, {
        postern: daemon.socket,
        pbx: 'unix:/nonexistent/pbx.sock',
      })
      const reply = await ask(away.port, `${V3}/extensions`)
      t.match(reply, { status: 502, headers: { 'content-type': 'application/json' } })
      t.match(JSON.parse(reply.body), failure('Bad gateway'))
      daemon.answer = () => refuse(401, 'expired')
      t.equal((await ask(away.port, `${V3}/extensions`)).status, 401)
    },
  )

  void t.test('the commented location lets system:ping through, and that alone', async (t) => {
    const site = readFileSync(join(import.meta.dirname, '../../nginx/site.example.conf'), 'utf8')
    const [block = ''] = /^ *# location = \/pbxcore\/api.*\n(?: *# .*\n)+/m.exec(site) ?? []
    const opened = await startNginx(t, {
      postern: daemon.socket,
      pbx: app,
      site: [[block, block.replaceAll(/^( *)# /gm, '$1')]],
    })
    const sent = {
      Authorization: 'Bearer SECRET',
      Cookie: 'refreshToken=SECRET; language=en',
      'X-Auth-User': 'admin',
    }
    daemon.answer = () => refuse(401, 'no_credential')
    for (const path of ['/system:ping', '/system%3Aping?n=1', '/x/../system:ping']) {
      const reply = await ask(opened.port, V3 + path, { headers: sent })
      t.equal(reply.status, 200, path)
      const { url, headers } = JSON.parse(reply.body) as Seen
      t.equal(url, `${V3}/system:ping${path.includes('?') ? '?n=1' : ''}`)
      t.match(headers, { cookie: 'language=en', 'x-auth-user': undefined })
      t.notMatch(reply.body, /SECRET/)
    }
    t.equal(daemon.asked.length, 0, 'nobody is asked')
    for (const path of ['/system:ping/', '/system:pingx', '/system:reboot', '/system:ping/../x']) {
      const { status } = await ask(opened.port, V3 + path, { headers: sent })
      t.equal(status, path.endsWith('/') ? 404 : 401, path)
    }
    t.equal((await get('/system:ping', sent)).status, 401, 'as shipped it is like any other')
  })

  void t.test('preflights from listed origins are allowed, others learn nothing', async (t) => {
    for (const path of ['/auth:login', '/auth:refresh', '/extensions'])
      for (const [origin, allowed] of [
        ['https://phone.test', 'https://phone.test'],
        ['https://evil.test', undefined],
      ] as const) {
        const headers = { Origin: origin, 'Access-Control-Request-Method': 'PUT' }
        const reply = await ask(nginx.port, V3 + path, { method: 'OPTIONS', headers })
        t.equal(reply.status, 204)
        t.equal(reply.headers['access-control-allow-origin'], allowed, `${path} ${origin}`)
        t.notOk(reply.headers['access-control-allow-credentials'])
        if (allowed) t.match(reply.headers['access-control-allow-methods'], /\bPUT\b/)
      }
    t.equal(daemon.asked.length, 0)
  })
})
