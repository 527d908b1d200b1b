// Who speaks for CORS: one answer has one Access-Control-Allow-Origin, the application's or ours.
import { once } from 'node:events'
import { createServer, type IncomingMessage, request } from 'node:http'
import t, { type Test } from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { RECORDINGS } from './ask.ts'
import { pass, refuse, startDaemon } from './daemon.ts'

const LISTED = 'https://phone.test'
const THEIRS = 'https://app.test'

/** An application that allows one origin, and one that knows nothing of CORS below /plain. */
const startApplication = async (t: Test): Promise<{ address: string; asked: string[] }> => {
  const asked: string[] = []
  const server = createServer(({ method, url = '', headers }, response) => {
    asked.push(`${method} ${url}`)
    if (!url.includes('/plain') && headers.origin === THEIRS) {
      response.setHeader('Access-Control-Allow-Origin', THEIRS)
      response.setHeader('Access-Control-Allow-Credentials', 'true')
      response.setHeader('Vary', 'Origin')
    }
    if (url.includes('/file')) response.setHeader('X-Accel-Redirect', '/files/a.mp3')
    const status = url.includes('/416') ? 416 : 200
    if (method === 'OPTIONS') response.setHeader('Access-Control-Allow-Methods', 'PATCH')
    response.writeHead(status, { 'Content-Type': 'text/plain', 'Content-Length': 10 })
    response.end('x'.repeat(10))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  return { address: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`, asked }
}

void t.test('CORS', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const recordings = t.testdir({ 'a.mp3': 'x'.repeat(10) })
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    recordings,
    app: app.address,
    origins: [LISTED, THEIRS],
    site: [
      [
        '    location / {',
        `    location ^~ /own/ {
        set $postern_action $postern_by_method;
        set $postern_resource app;
        set $postern_accept header;
        set $postern_cors application;
        include postern/postern-protect.conf;
        proxy_force_ranges on;
        proxy_pass http://${app.address};
    }
    location /files/ {
        internal;
        alias ${recordings}/;
        include postern/postern-headers.conf;
    }
    location / {`,
      ],
      [
        '        client_max_body_size 64m;',
        '        client_max_body_size 64m;\n        proxy_force_ranges on;',
      ],
    ],
  })
  t.beforeEach(() => {
    daemon.answer = pass
    daemon.asked.length = 0
    app.asked.length = 0
  })
  /** The status, each Access-Control-Allow-Origin as it came, and the names that came more than once. */
  const askFor = async (path: string, headers: Record<string, string> = {}, method = 'GET') => {
    const outgoing = request({ host: '127.0.0.1', port: nginx.port, path, method, headers }).end()
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
    response.resume()
    await once(response, 'end')
    const all = Object.entries(response.headersDistinct)
    return {
      status: response.statusCode,
      origins: response.headersDistinct['access-control-allow-origin'] ?? [],
      twice: all.filter(([, values = []]) => values.length > 1).map(([name]) => name),
      headers: response.headers,
    }
  }

  await t.test('one origin, the application’s or ours, on every answer', async (t) => {
    const recording = `${RECORDINGS}/a.mp3`
    const rows: [path: string, origin: string, due: string[]][] = [
      // An application that nobody asked to speak for itself: its word where it has one.
      ['/app/x', THEIRS, [THEIRS]],
      ['/app/x', LISTED, [LISTED]],
      ['/app/x', 'https://evil.test', []],
      ['/app/plain', THEIRS, [THEIRS]],
      ['/app/plain', 'https://evil.test', []],
      // What it says beside an X-Accel-Redirect never leaves nginx.
      ['/app/file', THEIRS, [THEIRS]],
      ['/app/file', 'https://evil.test', []],
      // One that speaks for itself: no word but its own.
      ['/own/x', THEIRS, [THEIRS]],
      ['/own/x', LISTED, []],
      ['/own/plain', THEIRS, []],
      [recording, LISTED, [LISTED]],
      [recording, 'https://evil.test', []],
    ]
    for (const [path, Origin, due] of rows) {
      const what = `${path} for ${Origin}`
      const whole = await askFor(path, { Origin })
      t.match({ ...whole }, { status: 200, origins: due, twice: [] }, what)
      const beyond = await askFor(path, { Origin, Range: 'bytes=20-' })
      t.match({ ...beyond }, { status: 416, origins: due }, `${what}, beyond its end`)
      t.notMatch(beyond.twice.join(), /access-control|vary/)
      const exposed =
        path === '/own/x' ||
        due[0] === undefined ||
        whole.headers['access-control-allow-credentials']
      t.equal('access-control-expose-headers' in whole.headers, !exposed, what)
    }
    const own = await askFor('/app/416', { Origin: THEIRS, Range: 'bytes=20-' })
    t.match({ ...own }, { status: 416, origins: [THEIRS] }, 'the 416 of an application')
    for (const status of [401, 403] as const) {
      daemon.answer = () => refuse(status, 'no_grant')
      for (const path of ['/app/x', '/own/x', recording])
        t.match(
          { ...(await askFor(path, { Origin: LISTED })) },
          { status, origins: [LISTED] },
          'ours can be read',
        )
    }
  })

  await t.test('a preflight is answered here, or handed to the application', async (t) => {
    const preflight = (path: string, Origin: string) =>
      askFor(path, { Origin, 'Access-Control-Request-Method': 'PATCH' }, 'OPTIONS')
    t.match({ ...(await preflight('/app/x', LISTED)) }, { status: 204, origins: [LISTED] })
    t.same([app.asked, daemon.asked], [[], []], 'nobody is asked')

    const handed = await preflight('/own/x', THEIRS)
    t.match(handed, { status: 200, origins: [THEIRS], twice: [] })
    t.match(handed.headers, { 'access-control-allow-methods': 'PATCH' })
    t.same(app.asked, ['OPTIONS /own/x'])
    t.match(daemon.last().headers, { 'x-auth-exempt': '-', 'x-original-method': 'OPTIONS' })
    t.same((await preflight('/own/x', LISTED)).origins, [])

    // Nothing else is let through unasked.
    const genuine = { Origin: THEIRS, 'Access-Control-Request-Method': 'PATCH' }
    const rows: [method: string, headers: Record<string, string>][] = [
      ['GET', genuine],
      ['POST', genuine],
      ['OPTIONS', { Origin: THEIRS }],
      ['OPTIONS', { 'Access-Control-Request-Method': 'PATCH' }],
    ]
    for (const [method, headers] of rows) {
      await askFor('/own/x', headers, method)
      t.notOk(daemon.last().headers['x-auth-exempt'], `${method} ${Object.keys(headers).join()}`)
    }
    app.asked.length = 0
    daemon.answer = () => refuse(401, 'no_credential')
    t.equal((await preflight('/own/x', THEIRS)).status, 401, 'by a daemon of the version before')
    t.same(app.asked, [])
  })
})
