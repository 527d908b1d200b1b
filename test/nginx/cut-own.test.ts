// Sites of other people's making: each way in which they lead a request to what streams, and listen for it. What is
// followed ends with its session, its neighbour's stays, and no log holds a credential; what cannot end is said.

import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { createServer } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { nginxCommand } from '../../demo/nginx.ts'
import { parseNginxDump } from '../../src/doctor/nginx-config.ts'
import { findTraps } from '../../src/doctor/nginx-traps.ts'
import { createCertificate, needsOpenssl } from '../fixtures/canned-server.ts'
import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { nginxMissing } from '../fixtures/nginx.ts'
import { nginxFound, until } from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { V1 } from './ask.ts'
import { startTicking } from './cut-site.ts'
import { openSite } from './live.ts'
import { makeFolder } from './processes.ts'

const skip = nginxMissing() || needsOpenssl.skip || NEEDS_CUTTER.skip
const ROLE = { 'roles.user': 'grants = ["subscribe:room-*", "read:app"]' }
const BOUND = 500 // milliseconds
const WEBSOCKET =
  'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'

/** A gRPC service that never stops answering. */
const startGrpc = async (t: Test): Promise<string> => {
  const server = createServer((_request, response) => {
    response.on('error', () => undefined)
    response.writeHead(200, { 'content-type': 'application/grpc' })
    const timer = setInterval(() => response.write('\0\0\0\0\x04tick'), 20)
    response.on('close', () => {
      clearInterval(timer)
    })
  })
  server.on('session', (session) => t.teardown(() => session.destroy()))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => void server.close())
  const address = server.address()
  return typeof address === 'object' ? `127.0.0.1:${address?.port}` : ''
}

const named = `
        set $postern_action read;
        set $postern_resource app;
        set $postern_accept "header query";
        set $postern_follow on;`
const quiet = 'keepalive_timeout 0; error_log /dev/null emerg;'
const guard = `${named} include postern/postern-protect.conf; ${quiet}`
const passes = `
        proxy_http_version 1.1;
        proxy_set_header Upgrade $postern_upgrade;
        proxy_set_header Connection $postern_connection;
        proxy_buffering off;
        proxy_pass http://own_app;`

const siteOf = (app: string, grpc: string, certificate: string): string => `
include postern/postern-local.conf;
include postern/postern-http.conf;
map $http_upgrade $connection_upgrade { default upgrade; "" close; }
upstream own_app { server ${app}; keepalive 8; }
server {
    listen 80;
    ${certificate}
    satisfy any;
    allow 192.0.2.1;
    error_page 404 /nothing.html;
    error_page 502 504 = @away;
    include postern/postern-server.conf;
    include postern/postern-softphone.conf;
    location ^~ /plain/ { ${guard} ${passes} }
    location ^~ /if/ { ${guard} if ($arg_x = "") { proxy_pass http://own_app; } ${passes} }
    location ^~ /try/ { ${guard} root /dev/null; try_files /none @backend; }
    location @backend { error_log /dev/null emerg; include postern/postern-identity.conf; ${passes} }
    location ^~ /nested/ {
        location ~ "^/nested/(?<own_name>[a-z]+)\\z" { ${guard} ${passes} }
    }
    location ^~ /grpc/ { ${guard} include postern/postern-grpc.conf; grpc_read_timeout 1h; grpc_pass grpc://${grpc}; }
    location @away { return 502; }
}
`
/** Where everything is said in server {}. */
const secondOf = (port: number): string => `
server {
    listen 127.0.0.2:${port};
    server_name b.test;
    keepalive_timeout 0;
    set $postern_follow on;
    error_log /dev/null emerg;
    error_page 401 /login.html;
    include postern/postern-server.conf;
    location ^~ /plain/ {
        set $postern_action read;
        set $postern_resource app;
        set $postern_accept "header query";
        include postern/postern-protect.conf;
        ${passes}
    }
}
`

interface Stream {
  readonly text: string
  readonly live: boolean
}

const byHand = (t: Test, socket: Socket, first: string): Stream => {
  t.teardown(() => socket.destroy())
  let [text, live] = ['', true]
  socket.on('error', () => undefined).on('close', () => (live = false))
  socket.on('data', (part: Buffer) => (text += part.toString('latin1')))
  socket.write(first)
  return {
    get text() {
      return text
    },
    get live() {
      return live
    },
  }
}

const byCurl = (t: Test, ...args: readonly string[]): Stream => {
  const child = spawn('curl', ['-sSkN', '-i', '-m', '60', ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let [text, live] = ['', true]
  child.stdout.on('data', (part: Buffer) => (text += part.toString('latin1')))
  child.on('close', () => (live = false))
  return {
    get text() {
      return text
    },
    get live() {
      return live
    },
  }
}

void t.test('sites of other people’s making', { skip }, async (t) => {
  const folder = t.testdir({})
  createCertificate(folder, 'DNS:localhost')
  const certificate = `ssl_certificate ${folder}/cert.pem; ssl_certificate_key ${folder}/key.pem;`
  const app = await startTicking(t)
  const grpc = await startGrpc(t)
  const unix = join(makeFolder(t), 'site.sock')
  const site = await openSite(t, {
    sections: ROLE,
    nginx: {
      listen: (port) =>
        [
          `${port} reuseport`,
          `127.0.0.3:${port} ssl http2`,
          `127.0.0.4:${port} http2`,
          `127.0.0.5:${port} proxy_protocol`,
          `[::1]:${port}`,
          `[::]:${port + 1} ipv6only=off`,
          `127.0.0.1:${port + 2}`,
          `unix:${unix}`,
        ].join('; listen '),
      site: [[/^[^]*$/, siteOf(app.address, grpc, certificate)]],
      http: secondOf,
    },
  })
  const { port } = site.nginx
  const cutter = await startCutter(t, {
    ports: [port, port + 1],
    socket: site.place.at('cut.sock'),
  })
  await nginxFound(site.place)

  await t.test('doctor finds nothing wrong', (t) => {
    const [program = '', ...rest] = nginxCommand(site.nginx.folder)
    const { stdout } = spawnSync(program, [...rest, '-T'], { encoding: 'utf8' })
    const found = findTraps(parseNginxDump(stdout)).map(({ rule, state }) => `${state} ${rule}`)
    t.same(
      found,
      ['warning uncuttable'],
      'but that what is proxied cannot be cut by the unix socket',
    )
    t.end()
  })

  type Open = (token: string) => Stream
  const raw =
    (host: string, at: number, path: string, more = '', before = ''): Open =>
    (token) =>
      byHand(
        t,
        connect(at, host),
        `${before}GET ${path}?authorization=${token} HTTP/1.1\r\nHost: x\r\n${more}\r\n`,
      )
  const curl =
    (url: string, ...args: readonly string[]): Open =>
    (token) =>
      byCurl(t, ...args, `${url}?authorization=${token}`)
  const proxy = 'PROXY TCP4 198.51.100.7 192.0.2.1 5555 80\r\n'
  const rows: [what: string, open: Open][] = [
    ['an event stream', raw('127.0.0.1', port, '/plain/x')],
    ['a WebSocket', raw('127.0.0.1', port, '/plain/x', WEBSOCKET)],
    ['in an if', raw('127.0.0.1', port, '/if/x', WEBSOCKET)],
    ['a named location', raw('127.0.0.1', port, '/try/x')],
    ['a named location, a WebSocket', raw('127.0.0.1', port, '/try/x', WEBSOCKET)],
    ['a pattern in a prefix', raw('127.0.0.1', port, '/nested/x', WEBSOCKET)],
    ['all said in server {}', raw('127.0.0.2', port, '/plain/x', WEBSOCKET)],
    ['IPv6', raw('::1', port, '/plain/x')],
    ['a wildcard, on another address', raw('127.0.0.77', port, '/plain/x', WEBSOCKET)],
    ['one socket for both, IPv4', raw('127.0.0.1', port + 1, '/plain/x')],
    ['one socket for both, IPv6', raw('::1', port + 1, '/plain/x', WEBSOCKET)],
    ['TLS, HTTP/2', curl(`https://127.0.0.3:${port}/plain/x`, '--http2')],
    ['TLS, HTTP/1.1', curl(`https://127.0.0.3:${port}/plain/x`, '--http1.1')],
    [
      'TLS, a named location, a WebSocket',
      curl(
        `https://127.0.0.3:${port}/try/x`,
        '--http1.1',
        ...WEBSOCKET.trim()
          .split('\r\n')
          .flatMap((line) => ['-H', line]),
      ),
    ],
    ['h2c', curl(`http://127.0.0.4:${port}/plain/x`, '--http2-prior-knowledge')],
    [
      'gRPC',
      curl(
        `http://127.0.0.4:${port}/grpc/x`,
        '--http2-prior-knowledge',
        '-XPOST',
        '-Hcontent-type: application/grpc',
        '-Hte: trailers',
        '--data-binary',
        'x',
      ),
    ],
    ['PROXY', raw('127.0.0.5', port, '/plain/x', WEBSOCKET, proxy)],
  ]
  for (const [what, open] of rows)
    await t.test(what, async (t) => {
      const [mine, theirs] = [await site.enter('201'), await site.enter('202')]
      const [going, staying] = [open(mine.access), open(theirs.access)]
      await until('both hear', () => [going, staying].every(({ text }) => text.includes('tick')))
      const elapsed = startStopwatch()
      await site.post('/auth/logout', mine.access)
      await until('it has ended', () => !going.live)
      const took = elapsed().ours
      t.ok(took < BOUND, `${Math.round(took)} ms`)
      const heard = staying.text.length
      await until('the other hears', () => staying.text.length > heard)
      t.ok(staying.live)
    })

  const { nginx } = site
  const logs = [nginx.accessLog(), nginx.errorLog(), site.daemon().out(), cutter.log()]
  for (const text of logs) t.notMatch(text, /eyJ[\w-]{20}/)
  t.notMatch(site.nginx.errorLog(), /exited on signal/)

  await t.test('a port that the cutter does not have', async (t) => {
    const { access } = await site.enter('201')
    const stream = raw('127.0.0.1', port + 2, '/plain/x')(access)
    await until('it hears', () => stream.text.includes('tick'))
    const { body } = await site.place.operator('/metrics')
    t.match(body, /^postern_streams_uncuttable_total\{why="port"\} 1$/m)
    await until('it is told', () =>
      /the port of nginx does not stand in the list/.test(site.daemon().out()),
    )
  })

  const request =
    (path: string, more = '') =>
    (token: string) =>
      `GET ${path}?authorization=${token} HTTP/1.1\r\nHost: x\r\n${more}\r\n`
  const channel = request(`${V1}/sub/room-x`, 'Accept: text/event-stream\r\n')
  const proxied = request('/plain/x', WEBSOCKET)
  /** A channel's stream, and what an application serves. */
  const openBoth = async (token: string, dial = () => connect(port, '127.0.0.1')) => {
    const both = [byHand(t, dial(), channel(token)), byHand(t, dial(), proxied(token))] as const
    await until('both are open', () => both.every(({ text }) => / (?:200|101) /.test(text)))
    return both
  }
  const logOut = async (token: string, ends: Stream): Promise<void> => {
    const elapsed = startStopwatch()
    await site.post('/auth/logout', token)
    await until('the channel has ended', () => !ends.live)
    const took = elapsed().ours
    t.ok(took < BOUND, `${Math.round(took)} ms`)
  }
  const goesOn = async (stream: Stream): Promise<void> => {
    const heard = stream.text.length
    await until('it hears on', () => stream.text.length > heard)
    t.ok(stream.live)
  }

  await t.test('over a unix socket: channels end, all else goes on', async (t) => {
    const { access } = await site.enter('201')
    const [listens, works] = await openBoth(access, () => connect(unix))
    await logOut(access, listens)
    await goesOn(works)
    const { body } = await site.place.operator('/metrics')
    t.match(body, /^postern_streams_uncuttable_total\{why="unix"\} 2$/m)
  })

  await t.test('without a cutter: the same, and a reload of nginx ends it', async () => {
    const [before, after] = [await site.enter('201'), await site.enter('202')]
    const [, cuttable] = await openBoth(before.access)
    await cutter.stop()
    rmSync(site.place.at('cut.sock'))
    const [listens, works] = await openBoth(after.access)
    await logOut(after.access, listens)
    await site.post('/auth/logout', before.access)
    await goesOn(works)
    await goesOn(cuttable)
    await until('it is told', () =>
      /no stream can be cut: .*what else is followed goes on to its end/.test(site.daemon().out()),
    )
    nginx.reload()
    await until('it has ended', () => !works.live && !cuttable.live)
  })

  await t.test('as streams.end says', async (t) => {
    const say = async (end: string): Promise<void> => {
      const streams = `kick_socket = "${site.place.at('kick.sock')}"\nend = "${end}"`
      site.place.configure({ ...ROLE, streams })
      await site.postern('reload')
    }
    const uncut = async (): Promise<unknown> =>
      (await site.place.operator('/metrics')).body.match(/uncuttable_total.*/g)
    await say('cut')
    const { access } = await site.enter('201')
    for (const text of [channel(access), proxied(access)]) {
      const refused = byHand(t, connect(port, '127.0.0.1'), text)
      await until('it is refused', () => refused.text.includes('\r\n\r\n'))
      t.match(refused.text, /^HTTP\/1\.1 503 [^]*\r\nRetry-After: 2\r\n/)
    }
    await say('kick')
    const counted = await uncut()
    const [listens, works] = await openBoth(access)
    await logOut(access, listens)
    await goesOn(works)
    t.same(await uncut(), counted, 'nobody wants it otherwise')
  })
})
