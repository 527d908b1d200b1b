// auth_request as shipped: what the daemon gets to see, and what nginx makes of its answer.
import type { IncomingHttpHeaders } from 'node:http'
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { type Seen, startApplication } from './application.ts'
import { ask, RECORDINGS, SIP, V1, V3 } from './ask.ts'
import { type Answer, PASS, pass, refuse, startDaemon } from './daemon.ts'

const ALWAYS = ['Host', 'X-Real-IP', 'X-Request-ID', 'X-Forwarded-Proto', 'X-Forwarded-Host']
const CHECK = [
  'X-Auth-Action',
  'X-Auth-Accept',
  'X-Original-Method',
  'X-Original-URI',
  'User-Agent',
]
const CHALLENGE = 'Bearer error="invalid_token"'

void t.test('nginx and the check', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.mp3': 'x'.repeat(1000) })
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    recordings,
    app,
    // What an operator may well have: pretty pages for errors. They must open nothing.
    site: [
      [
        '    location / {',
        '    error_page 500 502 503 504 =200 /sorry;\n    location = /sorry {\n        return 200 "sorry";\n    }\n    location / {',
      ],
    ],
  })
  const get = (path: string, headers: Record<string, string> = {}) =>
    ask(nginx.port, path, { headers })
  t.beforeEach(() => {
    daemon.answer = pass
    daemon.asked.length = 0
  })

  void t.test('the daemon receives exactly the headers the config names', async (t) => {
    const hostile = {
      Accept: '*/*',
      'X-Auth-Action': 'read',
      'X-Auth-Resource': 'recordings/mine.mp3',
      'X-Auth-Accept': 'header cookie ticket query',
      'X-Original-URI': '/rec/public/',
      'X-Original-Method': 'OPTIONS',
      'X-Real-IP': '10.0.0.1',
      'X-Forwarded-For': '10.0.0.1',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-Host': 'evil.test',
      'X-Request-ID': 'mine',
      'X-Auth-User': 'admin',
      'Sec-WebSocket-Protocol': 'x',
      Range: 'bytes=0-9',
      'If-None-Match': '"x"',
      'If-Modified-Since': 'Sun, 22 Nov 2026 04:21:35 GMT',
      'User-Agent': 'kube-probe/1.0',
    }
    await get(`${RECORDINGS}/a.mp3?x=1`, hostile)
    const { method, url, names, headers, body } = daemon.last()
    t.same([method, url, body], ['GET', '/check/recordings/a.mp3', ''])
    t.same(names.toSorted(), [...ALWAYS, ...CHECK].toSorted())
    t.match(headers, {
      host: 'postern',
      'x-auth-action': 'read',
      'x-auth-accept': 'header ticket cookie',
      'x-original-uri': `${RECORDINGS}/a.mp3?x=1`,
      'x-original-method': 'GET',
      'x-real-ip': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': `127.0.0.1:${nginx.port}`,
      'x-request-id': /^[0-9a-f]{32}$/,
    })
  })

  void t.test('credentials and what cross-site rules need go along', async (t) => {
    const sent = {
      'User-Agent': 'phone/1',
      Authorization: 'Bearer A',
      Cookie: 'a=1; b=2',
      Origin: 'https://a.test',
      'Sec-Fetch-Site': 'same-origin',
      'Sec-Fetch-Mode': 'cors',
    }
    daemon.answer = () => refuse(401, 'invalid_request')
    await get(`${V1}/sub/users-state?authorization=B`, sent)
    t.same(
      daemon.last().names.toSorted(),
      [
        ...new Set([
          ...ALWAYS,
          ...CHECK,
          'X-Original-Connection',
          'X-Original-Resume',
          'X-Original-Worker',
          ...Object.keys(sent),
        ]),
      ].toSorted(),
    )
    t.match(daemon.last().headers, {
      authorization: 'Bearer A',
      cookie: 'a=1; b=2',
      origin: 'https://a.test',
      'sec-fetch-site': 'same-origin',
      'sec-fetch-mode': 'cors',
      'x-auth-accept': 'header query ticket cookie',
    })
  })

  void t.test('that a WebSocket is asked for goes along', async (t) => {
    daemon.answer = () => refuse(401, 'no_credential')
    for (const path of [`${V1}/sub/users-state`, SIP]) {
      await get(path, { Connection: 'Upgrade', Upgrade: 'websocket', 'X-Original-Upgrade': 'mine' })
      t.equal(daemon.last().headers['x-original-upgrade'], 'websocket', path)
      t.notOk(daemon.last().headers.upgrade, 'the check itself is no WebSocket')
      await get(path, { 'X-Original-Upgrade': 'mine' })
      t.notOk(daemon.last().headers['x-original-upgrade'], path)
    }
  })

  void t.test('each location says where a credential may stand', async (t) => {
    daemon.answer = () => refuse(401, 'no_credential')
    const table: [path: string, accept: string][] = [
      [`${V1}/sub/users-state`, 'header query ticket cookie'],
      [`${V1}/sub/me/users-state`, 'header query ticket cookie'],
      [SIP, 'header query ticket cookie'],
      [`${RECORDINGS}/a.mp3`, 'header ticket cookie'],
      [`${V3}/extensions`, 'header'],
      ['/app/x', 'header'],
    ]
    for (const [path, accept] of table) {
      await get(path)
      t.equal(daemon.last().headers['x-auth-accept'], accept, path)
    }
  })

  void t.test('a line break in the path becomes no header', async (t) => {
    const injected =
      '%0d%0aAuthorization:%20Bearer%20A%0d%0aX-Original-Method:%20GET%0d%0aX:%20.mp3'
    for (const path of [
      `${RECORDINGS}/`,
      `${RECORDINGS}/a`,
      '/app/',
      '/app/x',
      `${V1}/sub/x`,
      `${V3}/`,
      `${V3}/x`,
    ]) {
      const asked = daemon.asked.length
      daemon.answer = () => refuse(401, 'no_credential')
      const { status } = await get(path + injected)
      const names = daemon.asked.slice(asked).flatMap((one) => one.names)
      t.ok([401, 404].includes(status), `${path}: ${status}`)
      t.same(
        names.filter((name) => !ALWAYS.includes(name) && !CHECK.includes(name)),
        [],
        path,
      )
    }
  })

  void t.test('a location that names no action and no resource asks for nothing', async (t) => {
    const bare = await startNginx(t, {
      postern: daemon.socket,
      recordings,
      site: [[/^ {8}set \$postern_(?:action \S+|resource app|accept header);\n/gm, '']],
    })
    daemon.answer = () => refuse(403, 'unknown_action')
    t.equal((await ask(bare.port, '/app/x')).status, 403)
    t.same(
      daemon.last().names.filter((name) => name.startsWith('X-Auth')),
      [],
    )
  })

  void t.test('the check location cannot be asked from outside', async (t) => {
    for (const path of [
      '/_postern/check',
      '/_postern/%63heck',
      '//_postern/check',
      '/x/../_postern/check',
    ])
      t.equal((await get(path)).status, 404, path)
    t.equal(daemon.asked.length, 0)
  })

  void t.test('the answer decides', async (t) => {
    const FORBIDDEN = 'Bearer error="insufficient_scope"'
    type Row = [what: string, answer: Answer, status: number, challenge: string | undefined]
    const rows: Row[] = [
      ['204 passes', PASS, 200, undefined],
      ['401 is a 401', refuse(401, 'expired'), 401, CHALLENGE],
      ['403 is a 403', refuse(403, 'no_grant'), 403, FORBIDDEN],
      ['503 is a 503', { status: 503, headers: { 'Retry-After': '9' } }, 503, undefined],
      // Nothing else may ever pass.
      ['500 is a 503', { status: 500 }, 503, undefined],
      ['302 is a 503', { status: 302, headers: { Location: '/' } }, 503, undefined],
      ['404 is a 503', { status: 404 }, 503, undefined],
      ['429 is a 503', { status: 429 }, 503, undefined],
      ['no answer is a 503', 'cut', 503, undefined],
    ]
    for (const [what, answer, status, challenge] of rows)
      for (const path of [`${RECORDINGS}/a.mp3`, '/app/x']) {
        daemon.answer = () => answer
        const reply = await get(path)
        t.equal(reply.status, status, `${what}: ${path}`)
        t.equal(reply.headers['www-authenticate'], challenge, `${what}: challenge`)
        t.equal(reply.headers['retry-after'], status === 503 ? '2' : undefined, `${what}: retry`)
        t.same(
          Object.keys(reply.headers).filter((name) => name.startsWith('x-auth')),
          [],
          'no X-Auth-*',
        )
        if (status === 200) continue
        t.equal(reply.headers['content-type'], 'application/json', `${what}: JSON`)
        t.equal(reply.headers['cache-control'], 'no-store', what)
        t.match(JSON.parse(reply.body), { success: false, error: String, timestamp: Number })
        t.same(Object.keys(JSON.parse(reply.body) as object), ['success', 'error', 'timestamp'])
      }
  })

  void t.test('a daemon that hangs lets nobody in', async (t) => {
    daemon.answer = () => 'hang'
    const paths = [`${RECORDINGS}/a.mp3`, '/app/x', `${V1}/sub/users-state?token=A`, SIP]
    const replies = await Promise.all(paths.map((path) => get(path)))
    for (const reply of replies) t.match(reply, { status: 503, headers: { 'retry-after': '2' } })
  })

  void t.test(
    'a daemon that is away lets nobody in, and is asked again when it is back',
    async (t) => {
      await daemon.stop()
      const paths = [
        `${RECORDINGS}/a.mp3`,
        '/app/x',
        `${V1}/sub/users-state`,
        `${V1}/sub/me/users-state`,
        SIP,
        `${V1}/health`,
        `${V3}/extensions`,
        `${V3}/auth:refresh`,
      ]
      for (const path of paths)
        t.match(await get(path), { status: 503, headers: { 'retry-after': '2' } }, path)
      const published = await ask(nginx.port, `${V1}/pub/users-state`, { body: 'x' })
      t.equal(published.status, 202, 'publishing goes on')
      await daemon.listen()
      t.equal((await get('/app/x')).status, 200)
    },
  )

  void t.test("the application sees exactly the daemon's word about who it is", async (t) => {
    const copies = {
      'X-Auth-User': 'admin',
      X_Auth_User: 'admin',
      'x-auth-role': 'admin',
      'X-Auth-Session': 'mine',
      'X-Auth-Expires': '9',
      'X-Auth-Kick': 'mine',
      'X-Auth-Channel': 'mine',
      Authorization: 'Bearer A',
    }
    const seen = async (path: string) =>
      (JSON.parse((await get(path, copies)).body) as Seen).headers
    const identity = (headers: IncomingHttpHeaders) =>
      Object.entries(headers).filter(([name]) => /^x[-_]auth/.test(name))

    const known = await seen('/app/x')
    t.same(Object.fromEntries(identity(known)), {
      'x-auth-user': '201',
      'x-auth-role': 'user',
      'x-auth-session': 's1',
      'x-auth-expires': '1800000000',
    })
    t.notOk(known.authorization, 'the token stays with us')
    daemon.answer = () => ({ status: 204 })
    t.same(identity(await seen('/app/x')), [], 'an answer without a user')
    t.same(identity(await seen('/app/public/x')), [], 'an unprotected location')
  })

  void t.test('an upload over 1 MB passes', async (t) => {
    const reply = await ask(nginx.port, '/app/upload', { body: Buffer.alloc(3_000_000) })
    t.equal((JSON.parse(reply.body) as Seen).length, 3_000_000)
    t.equal(daemon.last().body, '', 'the daemon gets none of it')
  })

  void t.test('60 checks share a handful of connections, refused ones too', async (t) => {
    const before = daemon.connections
    const answers = [pass, () => refuse(401, 'expired'), () => refuse(403, 'no_grant')]
    daemon.answer = (one) => (answers[daemon.asked.length % 3] ?? pass)(one)
    for (let i = 0; i < 60; i++) await get(`${RECORDINGS}/a.mp3`)
    t.equal(daemon.asked.length, 60)
    const used = daemon.connections - before
    t.ok(used <= 4, `${used} connections for 60 checks`)
  })

  void t.test(
    'a genuine preflight is answered before the check, any other OPTIONS is checked',
    async (t) => {
      const origin = { Origin: 'https://evil.test' }
      const genuine = { ...origin, 'Access-Control-Request-Method': 'GET' }
      const options = async (path: string, headers: Record<string, string>) =>
        await ask(nginx.port, path, { method: 'OPTIONS', headers })
      daemon.answer = () => refuse(401, 'no_credential')
      for (const path of ['/app/x', `${RECORDINGS}/a.mp3`, `${V1}/sub/users-state`]) {
        const reply = await options(path, genuine)
        t.equal(reply.status, 204, path)
        t.notOk(reply.headers['access-control-allow-origin'], 'an origin nobody listed')
        t.equal((await options(path, origin)).status, 401, path)
        t.equal((await options(path, {})).status, 401, path)
      }
      t.equal(daemon.asked.length, 6)
      t.equal((await get('/app/x', genuine)).status, 401, 'a GET with the headers of a preflight')
    },
  )

  void t.test("a header that fills nginx's buffers is nginx's to refuse", async (t) => {
    writeFileSync(`${recordings}/b.mp3`, 'b')
    t.equal(
      (await get(`${RECORDINGS}/b.mp3`, { Authorization: `Bearer ${'a'.repeat(9000)}` })).status,
      400,
    )
    t.equal(
      (await get(`${RECORDINGS}/b.mp3`, { Authorization: `Bearer ${'a'.repeat(7000)}` })).status,
      200,
    )
  })
})
