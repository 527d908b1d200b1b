// What clients send that no document of ours asks for: another application's credentials and cookies, HEAD, headers of
// every size. The shipped nginx in front, the real daemon behind.
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'

import { createCertificate, needsOpenssl } from '../fixtures/canned-server.ts'
import { nginxMissing, startNginx, type NginxOptions } from '../fixtures/nginx.ts'
import { bearer, login, makePlace, nginxFound, serve, until } from '../fixtures/postern.ts'
import { type Ask, ask, RECORDINGS, V1, V3 } from './ask.ts'

const RECORDING = `${RECORDINGS}/a.wav`

/** nginx, the daemon, an application that says what it was sent, and a login of 900. */
const setUp = async (t: Test, layout: Partial<NginxOptions> = {}) => {
  const place = makePlace(t)
  mkdirSync(place.at('recordings'))
  writeFileSync(place.at('recordings', 'a.wav'), 'RIFF'.padEnd(1000, 'x'))
  // Its own limit is not what is looked at here.
  const application = createServer({ maxHeaderSize: 65_536 }, (request, response) => {
    response.end(JSON.stringify(request.headers))
  }).listen(place.at('app.sock'))
  await once(application, 'listening')
  t.teardown(() => {
    application.close()
    application.closeAllConnections()
  })
  const daemon = await serve(t, place)
  const nginx = await startNginx(t, {
    postern: place.at('http.sock'),
    kick: place.at('kick.sock'),
    recordings: place.at('recordings'),
    app: `unix:${place.at('app.sock')}`,
    pbx: `unix:${place.at('app.sock')}`,
    ...layout,
  })
  await nginxFound(place)
  // Not through nginx: a fence may stand there.
  const { access } = await login(place.ask, '900')
  const get = async (path: string, headers: Ask['headers'] = {}, method = 'GET') =>
    ask(nginx.port, path, { headers, method })
  return { place, daemon, nginx, access, get }
}

void t.test(
  'behind a fence of nginx cookie and ticket count',
  { skip: nginxMissing() },
  async (t) => {
    const passwords = t.testdir({ passwords: 'fence:{PLAIN}fence\n' })
    const { access, get, nginx } = await setUp(t, {
      site: [
        [
          '    include postern/postern-server.conf;',
          `    auth_basic "fence";\n    auth_basic_user_file ${passwords}/passwords;\n    include postern/postern-server.conf;`,
        ],
        ['set $postern_accept header;', 'set $postern_accept "header cookie";'],
      ],
    })
    const fence = { Authorization: `Basic ${Buffer.from('fence:fence').toString('base64')}` }
    const cookie = { Cookie: `postern=${access}` }
    const answer = await ask(nginx.port, `${V1}/auth/ticket`, {
      headers: { ...fence, ...cookie, 'Content-Type': 'application/json' },
      body: JSON.stringify({ action: 'read', resource: 'recordings/a.wav' }),
    })
    t.equal(answer.status, 200)
    const { ticket } = JSON.parse(answer.body) as { ticket: string }
    const rows: [what: string, path: string, headers: Ask['headers'], status: number][] = [
      ['cookie', RECORDING, { ...fence, ...cookie }, 200],
      ['ticket', `${RECORDING}?ticket=${ticket}`, fence, 200],
      ['cookie at an application', '/app/x', { ...fence, ...cookie }, 200],
      ['cookie at an endpoint of ours', `${V1}/profile`, { ...fence, ...cookie }, 200],
      ['cookie, no fence', RECORDING, cookie, 401],
      ['fence alone', RECORDING, fence, 401],
      ['fence and a bad cookie', RECORDING, { ...fence, Cookie: 'postern=x' }, 401],
      // One line has room for one of them: a client with a Bearer token needs a way without the fence.
      ['header', RECORDING, bearer(access), 401],
      [
        'header in the same line',
        RECORDING,
        { Authorization: `${fence.Authorization}, Bearer ${access}` },
        401,
      ],
    ]
    for (const [what, path, headers, status] of rows)
      t.equal((await get(path, headers)).status, status, what)

    const alone = await get(RECORDING, fence)
    t.match(alone.headers['www-authenticate'], /^Bearer/, 'the fence was passed')
    t.match((await get(RECORDING)).headers['www-authenticate'], /^Basic/, 'the browser asks for it')
    const application = await get('/app/x', { ...fence, ...cookie })
    t.notMatch(application.body, /authorization/i, 'the application is told who it is by us alone')
  },
)

void t.test('HEAD is GET without a body', { skip: nginxMissing() }, async (t) => {
  const { access, get } = await setUp(t)
  const rows: [path: string, headers: Ask['headers'], status: number][] = [
    [`${V1}/health`, {}, 200],
    [`${V1}/profile`, bearer(access), 200],
    [`${V1}/profile`, {}, 401],
    [`${V1}/auth/sessions`, bearer(access), 200],
    [`${V1}/check-media-access`, bearer(access), 200],
    ['/.well-known/jwks.json', {}, 200],
    [RECORDING, bearer(access), 200],
    [RECORDING, {}, 401],
    ['/app/x', bearer(access), 200],
    [`${V3}/extensions`, bearer(access), 200],
    // Nchan never answers it.
    [`${V1}/sub/users-state`, bearer(access), 405],
    // What has no GET has no HEAD.
    [`${V1}/auth/login`, {}, 405],
    [`${V3}/auth:login`, {}, 405],
    [`${V1}/nothing`, {}, 404],
  ]
  for (const [path, headers, status] of rows) {
    const head = await get(path, headers, 'HEAD')
    t.match(head, { status, body: '' }, path)
    if (status === 405) continue
    const whole = await get(path, headers)
    t.equal(whole.status, status, path)
    t.equal(head.headers['content-type'], whole.headers['content-type'], path)
    t.equal(head.headers['content-length'], whole.headers['content-length'], path)
  }
})

void t.test(
  'whatever headers nginx takes the daemon takes',
  { skip: nginxMissing() || needsOpenssl.skip },
  async (t) => {
    // Not in t.testdir(): a unix socket's path ends at 107 bytes.
    const folder = mkdtempSync(join(tmpdir(), 'postern-tls-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const { file } = createCertificate(folder, 'DNS:localhost')
    const { access, get } = await setUp(t, {
      site: [
        ['set $postern_accept header;', 'set $postern_accept "header cookie";'],
        [/^ {4}# (?=listen 443|ssl_certificate)/gm, '    '],
        ['/etc/ssl/certs/pbx.example.com.pem', file],
        ['/etc/ssl/private/pbx.example.com.key', `${folder}/key.pem`],
        ['listen 443', `listen unix:${folder}/tls.sock`],
      ],
    })
    /** As another application under the same name sets them. */
    const cookies = (count: number, bytes: number): string[] =>
      Array.from({ length: count }, (_, n) => `other${n}=${'x'.repeat(bytes)}`)
    const ours = `postern=${access}`

    const rows: [what: string, path: string, headers: Ask['headers']][] = [
      ['a Cookie of 7 KiB', '/app/x', { Cookie: [...cookies(1, 7000), ours].join('; ') }],
      [
        'each header as long as it may be',
        `/app/${'y'.repeat(7900)}`,
        { Cookie: cookies(1, 8000), 'User-Agent': 'u'.repeat(8000), ...bearer(access) },
      ],
    ]
    for (const [what, path, headers] of rows) t.equal((await get(path, headers)).status, 200, what)
    const profile = await get(`${V1}/profile?${'y'.repeat(7900)}`, {
      Cookie: [...cookies(1, 7500), ours].join('; '),
      'User-Agent': 'u'.repeat(8000),
    })
    t.equal(profile.status, 200, 'an endpoint of ours')

    // Over HTTP/2 each cookie is a field of its own, and nginx makes one line of them all.
    const socket = connectTls({
      path: `${folder}/tls.sock`,
      ALPNProtocols: ['h2'],
      rejectUnauthorized: false,
    })
    const session = connectHttp2('https://localhost', { createConnection: () => socket })
    t.teardown(() => session.destroy())
    for (const [path, bytes] of [
      ['/app/x', 4000],
      ['/app/x', 6000],
      [`${V1}/profile`, 6000],
      [RECORDING, 6000],
    ] as const) {
      const stream = session.request({
        ':path': path,
        cookie: [...cookies(5, bytes), `__Host-${ours}`],
      })
      const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
      stream.destroy()
      t.equal(headers[':status'], 200, `HTTP/2: ${path}`)
    }
  },
)

void t.test(
  'more than the daemon takes is told, and no reason to try again',
  { skip: nginxMissing() },
  async (t) => {
    const large = { http: 'large_client_header_buffers 8 64k;' }
    const { place, daemon, access, get } = await setUp(t, large)
    for (const bytes of [49_000, 60_000]) {
      const headers = {
        ...bearer(access),
        Cookie: `other=${'x'.repeat(bytes)}`,
      }
      for (const path of [RECORDING, '/app/x', `${V1}/sub/users-state`, `${V1}/profile`]) {
        const answer = await get(path, headers)
        t.equal(answer.status, 431, path)
        t.equal(answer.headers['retry-after'], undefined)
        t.match(JSON.parse(answer.body), { success: false, error: /cookies/ }, path)
      }
    }
    t.match(
      (await place.operator('/metrics')).body,
      /^postern_http_requests_total\{route="unknown",status="431"\} 8$/m,
    )
    await until('it is told', () => /"status":431.*large_client_header_buffers/.test(daemon.out()))
    t.equal((await get(RECORDING, bearer(access))).status, 200, 'and everybody else goes on')
  },
)

void t.test('each refusal says what to do', { skip: nginxMissing() }, async (t) => {
  const { access, get, place, nginx, daemon } = await setUp(t)
  const { access: user } = await login(place.ask)
  const page = { Cookie: `postern=${user}`, Origin: 'https://elsewhere.example' }
  const junk = bearer('junk')
  const post = (path: string, headers: Ask['headers'], body: string) =>
    ask(nginx.port, path, { headers: { 'Content-Type': 'application/json', ...headers }, body })
  const rows: [asked: ReturnType<typeof get>, status: number, cure: RegExp][] = [
    [get(RECORDING), 401, /log in/],
    [get(RECORDING, junk), 401, /log in, or renew/],
    [get('/app/x', bearer(user)), 403, /ask whoever runs this site/],
    [get(RECORDING, page), 403, /use a page of this site.*site\.origins/],
    [get(`${RECORDINGS}/none.wav`, bearer(access)), 404, /nothing is there/],
    [get(`${V1}/sub/users-state`, bearer(access), 'HEAD'), 405, /^$/],
    [get(`${V1}/sub/users-state`, bearer(access), 'PUT'), 405, /use GET/],
    [get(`${V1}/auth/login`), 405, /use POST/],
    [get(`${V1}/nothing`), 404, /look at the address/],
    [get(`${V1}/profile`, junk), 401, /log in, or renew/],
    [get(`${V1}/profile`, page), 403, /use a page of this site.*site\.origins/],
    [
      post(`${V1}/auth/login`, {}, '{"username":"201","password":"x"}'),
      401,
      /name and the password/,
    ],
    [post(`${V1}/auth/login`, {}, '{}'), 400, /required/],
    [post(`${V1}/auth/refresh`, junk, ''), 401, /log in again/],
    [post(`${V3}/auth:refresh`, {}, ''), 401, /log in again/],
    [
      post(`${V3}/auth:login`, { Origin: 'null' }, '{}'),
      403,
      /use a page of this site.*site\.origins/,
    ],
    [
      post(`${V1}/auth/ticket`, bearer(user), '{"action":"write","resource":"app"}'),
      403,
      /no right to it/,
    ],
  ]
  for (const [asked, status, cure] of rows) {
    const reply = await asked
    t.equal(reply.status, status, String(cure))
    if (reply.body === '') continue
    const { error, messages } = JSON.parse(reply.body) as {
      error?: string
      messages?: { error: string[] }
    }
    t.match(error ?? messages?.error[0], cure)
  }
  await daemon.end()
  t.match((await get(RECORDING)).body, /try again in two seconds/)
})
