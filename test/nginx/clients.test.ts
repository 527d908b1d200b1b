// What clients send that no document of ours asks for: another application's credentials and cookies, HEAD, headers of
// every size. The shipped nginx in front, the real daemon behind.
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import t, { type Test } from 'tap'

import { nginxMissing, startNginx, type NginxOptions } from '../fixtures/nginx.ts'
import { bearer, login, makePlace, nginxFound, serve } from '../fixtures/postern.ts'
import { type Ask, ask, RECORDINGS, V1, V3 } from './ask.ts'

const RECORDING = `${RECORDINGS}/a.wav`

/** nginx, the daemon, an application that says what it was sent, and a login of 900. */
const setUp = async (t: Test, layout: Partial<NginxOptions> = {}) => {
  const place = makePlace(t)
  mkdirSync(place.at('recordings'))
  writeFileSync(place.at('recordings', 'a.wav'), 'RIFF'.padEnd(1000, 'x'))
  const application = createServer((request, response) => {
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
