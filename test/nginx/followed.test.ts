// What is followed: nginx tells the check by which connection it comes, as the kernel knows it, and tells no other check.
// It must be the connection that the client has with this nginx, whatever stands before it or is claimed; and no other
// request may come by it.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'

import { createCertificate, needsOpenssl } from '../fixtures/canned-server.ts'
import { type Nginx, nginxMissing, type NginxOptions, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startApplication } from './application.ts'
import { ask, RECORDINGS, SIP, V1, V3 } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'
import { eventSource } from './listen.ts'
import { kickId, PASS, refuse, startDaemon } from './daemon.ts'

const SHIPPED = join(import.meta.dirname, '..', '..', 'nginx')
const SAID = 'x-original-connection'
const CLIENT = '198.51.100.7'
const skip = nginxMissing() || needsOpenssl.skip

/** What curl knows of its connection with `-w`: the version, its own end, the other end. */
const ENDS = '%{http_version} %{local_ip} %{local_port} %{remote_ip} %{remote_port}'

/** Who comes is the peer itself. */
const OWN = 'its own end'
const ownEnd = (ends: string): string => ends.split(' ').slice(1, 3).join(' ')

const curl = async (...args: readonly string[]): Promise<string> => {
  const all = ['-sSk', '-o', '/dev/null', '-w', ENDS, ...args]
  const { stdout } = await promisify(execFile)('curl', all, { timeout: 60_000 })
  return stdout.replace(/^2 /, '2.0 ')
}

/** What is written as it stands: our own port, and what came until nginx closed. */
const write = async (port: number, text: string): Promise<{ own: number; heard: string }> => {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const { localPort: own = 0 } = socket
  socket.write(text)
  let heard = ''
  for await (const part of socket as AsyncIterable<Buffer>) heard += part.toString('latin1')
  return { own, heard }
}

void t.test('the connection that a check names', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  daemon.answer = () => refuse(401, 'no_credential')
  const folder = t.testdir({})
  createCertificate(folder, 'DNS:localhost')
  const unix = `${daemon.socket}.site`
  const start = (listen: (port: number) => string, header: string): Promise<Nginx> =>
    startNginx(t, {
      postern: daemon.socket,
      listen,
      site: [
        uncomment('site.example.conf', 'ssl_certificate '),
        uncomment('site.example.conf', 'ssl_certificate_key'),
        ['/etc/ssl/certs/pbx.example.com.pem', join(folder, 'cert.pem')],
        ['/etc/ssl/private/pbx.example.com.key', join(folder, 'key.pem')],
        ['    # set_real_ip_from 192.0.2.10;', '    set_real_ip_from 127.0.0.1;'],
        ['    # real_ip_header X-Forwarded-For;', `    real_ip_header ${header};`],
      ],
    })
  const forwarded = await start(
    (port) =>
      `127.0.0.1:${port}; listen 127.0.0.2:${port} ssl http2; listen [::1]:${port}; listen unix:${unix}`,
    'X-Forwarded-For',
  )
  const mapped = await start((port) => `[::]:${port} ipv6only=off`, 'X-Forwarded-For')
  const relayed = await start((port) => `127.0.0.1:${port} proxy_protocol`, 'X-Forwarded-For')
  const proxied = await start((port) => `127.0.0.1:${port} proxy_protocol`, 'proxy_protocol')

  const { port } = forwarded
  const client = ['-H', `X-Forwarded-For: ${CLIENT}`]
  const same = ['-H', 'X-Forwarded-For: 127.0.0.1']
  const rows: [what: string, args: string[], client: string][] = [
    ['IPv4', [`http://127.0.0.1:${port}`], OWN],
    ['IPv6', [`http://[::1]:${port}`], OWN],
    ['TLS', ['--http1.1', `https://127.0.0.2:${port}`], OWN],
    ['HTTP/2', [`https://127.0.0.2:${port}`], OWN],
    ['a proxy in front', [...client, `http://127.0.0.1:${port}`], CLIENT],
    ['one that is not ours', [...client, `http://[::1]:${port}`], OWN],
    ['HTTP/2, and a proxy', [...client, `https://127.0.0.2:${port}`], CLIENT],
    ['HTTP/2, and a proxy on its machine', [...same, `https://127.0.0.2:${port}`], '127.0.0.1'],
    ['one socket for both, IPv6', [`http://[::1]:${mapped.port}`], OWN],
  ]
  for (const [what, args, who] of rows)
    await t.test(what, async (t) => {
      const ends = await curl(...args.slice(0, -1), `${args.at(-1)}${V1}/sub/users-state`)
      t.equal(daemon.last().headers[SAID], `HTTP/${ends} ${who === OWN ? ownEnd(ends) : who}`)
    })

  await t.test('one socket for both, IPv4', async (t) => {
    const ends = await curl(`http://127.0.0.1:${mapped.port}${SIP}`)
    const due = `HTTP/${ends} ${ownEnd(ends)}`.replaceAll('127.0.0.1', '::ffff:127.0.0.1')
    t.equal(daemon.last().headers[SAID], due)
  })

  await t.test('a proxy that says PROXY', async (t) => {
    const said = `PROXY TCP4 ${CLIENT} 192.0.2.1 5555 443\r\n`
    for (const [nginx, header, who] of [
      [proxied, '', OWN],
      [relayed, '', OWN],
      [relayed, 'X-Forwarded-For: 192.0.2.9\r\n', '192.0.2.9'],
    ] as const) {
      const text = `${said}GET ${SIP} HTTP/1.0\r\n${header}\r\n`
      const { own } = await write(nginx.port, text)
      const due = `HTTP/1.0 127.0.0.1 ${own} 127.0.0.1 ${nginx.port} ${who === OWN ? `127.0.0.1 ${own}` : who}`
      t.equal(daemon.last().headers[SAID], due)
    }
  })

  await t.test('a unix socket has no ends', async (t) => {
    await ask(0, SIP, { socket: unix })
    t.equal(daemon.last().headers[SAID], `HTTP/1.1 unix:  unix:${unix}  unix:`)
  })
})

const guarded = (path: string, before: string, more: string, action = 'read') => `
    location ^~ ${path} {
        set $postern_action ${action};
        set $postern_resource app${path};
        set $postern_accept header;
        ${before}
        include postern/postern-protect.conf;
        ${more}
    }
`
const follow = 'set $postern_follow on;'
const leadTo = (path: string) => `root /dev/null; try_files /none ${path};`

void t.test('who names it', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const pass = `proxy_pass http://${app};`
  // It inherits the check, and no `set`.
  const nested = (name: string) => `location ~ \\.${name}$ {
            set $postern_action read;
            set $postern_resource nested;
            set $postern_accept header;
            ${name === 'followed' ? `${follow} include postern/postern-protect.conf;` : ''}
            ${pass}
        }`
  const options: NginxOptions = {
    postern: daemon.socket,
    app,
    pbx: app,
    asterisk: app,
    recordings: t.testdir({ 'a.wav': 'x' }),
    site: [
      uncomment('site.example.conf', 'location ^~ /app/live/'),
      [
        '    location / {',
        [
          guarded('/followed/', follow, pass),
          guarded('/not/', '', pass),
          guarded('/off/', 'set $postern_follow off;', pass),
          guarded('/connects/', '', pass, 'connect'),
          guarded('/leads/', follow, leadTo('/not/x')),
          guarded('/leads-on/', '', leadTo('/followed/x')),
          guarded('/leads-inside/', follow, leadTo('/nested/x.plain')),
          guarded('/nested/', follow, `${nested('plain')} ${nested('followed')} ${pass}`),
          '    location / {',
        ].join(''),
      ],
    ],
  }
  const nginx = await startNginx(t, options)
  daemon.answer = () => PASS
  t.beforeEach(() => (daemon.asked.length = 0))
  /** Of each check in turn, whether it named the connection. */
  const named = (): boolean[] => daemon.asked.map(({ headers }) => SAID in headers)

  const rows: [path: string, due: boolean[]][] = [
    ['/followed/x', [true]],
    ['/not/x', [false]],
    ['/off/x', [false]],
    ['/connects/x', [true]],
    ['/app/x', [false]],
    ['/app/live/x', [true]],
    [`${V3}/extensions`, [false]],
    [`${RECORDINGS}/a.wav`, [false]],
    [SIP, [true]],
    ['/leads/x', [true, false]],
    ['/leads-on/x', [false, true]],
    ['/leads-inside/x', [true, false]],
    ['/nested/x', [true]],
    ['/nested/x.plain', [false]],
    ['/nested/x.followed', [true]],
  ]
  for (const [path, due] of rows)
    await t.test(path, async (t) => {
      // What a client says of it is nothing.
      const headers = { 'X-Original-Connection': 'HTTP/1.1 192.0.2.1 1 192.0.2.2 80 192.0.2.1 1' }
      const { status } = await ask(nginx.port, path, { headers })
      t.equal(status, 200)
      t.same(named(), due)
      for (const one of daemon.asked) t.notMatch(one.headers[SAID] ?? '', '192.0.2')
    })

  await t.test('recordings too, by the line that is there', async (t) => {
    const shipped = t.testdir({})
    cpSync(SHIPPED, shipped, { recursive: true })
    const file = join(shipped, 'postern-recordings.conf')
    const line = uncomment('postern-recordings.conf', follow)
    writeFileSync(file, readFileSync(file, 'utf8').replace(...line))
    const { port } = await startNginx(t, { ...options, shipped })
    const { headers } = await ask(port, `${RECORDINGS}/a.wav`)
    t.match(headers, { connection: 'close' })
    t.same(named(), [true])
  })

  await t.test('whatever may end a session does', async (t) => {
    daemon.answer = () => ({ status: 204 })
    for (const [method, path] of [
      ['POST', `${V1}/auth/logout`],
      ['DELETE', `${V1}/auth/sessions`],
      ['DELETE', `${V1}/auth/sessions/x`],
      ['POST', `${V3}/auth:logout`],
      ['POST', `${V1}/auth/login`],
    ] as const) {
      await ask(nginx.port, path, { method })
      t.match(
        daemon.last().headers[SAID],
        /^HTTP\/1\.1 (127\.0\.0\.1 \d+) 127\.0\.0\.1 \d+ \1$/,
        path,
      )
    }
    await ask(nginx.port, '/.well-known/jwks.json')
    t.notOk(SAID in daemon.last().headers)
  })
})

void t.test('a request that is followed is the last of its connection', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  const asterisk = await startApplication(t)
  const folder = t.testdir({})
  createCertificate(folder, 'DNS:localhost')
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    asterisk,
    listen: (port) => `127.0.0.1:${port}; listen 127.0.0.2:${port} ssl http2`,
    site: [
      uncomment('site.example.conf', 'ssl_certificate '),
      uncomment('site.example.conf', 'ssl_certificate_key'),
      ['/etc/ssl/certs/pbx.example.com.pem', join(folder, 'cert.pem')],
      ['/etc/ssl/private/pbx.example.com.key', join(folder, 'key.pem')],
    ],
  })
  const { port } = nginx
  const stays = `GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\n`
  /** Two requests one behind the other: the statuses that came before nginx closed. */
  const pair = async (path: string, more = ''): Promise<string[]> => {
    const first = `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`
    const { heard } = await write(port, `${first}${stays}Connection: close\r\n\r\n`)
    return Array.from(heard.matchAll(/HTTP\/1\.1 (\d+)/g), ([, status = '']) => status)
  }
  /** As the daemon answers where the stream will be cut: the channel alone. */
  const cuttable = (channel: string) => () => ({
    status: 204,
    headers: { ...PASS.headers, 'X-Auth-Channels': channel, 'X-Auth-Kick': kickId() },
  })
  const publish = (channel: string) => ask(port, `${V1}/pub/${channel}`, { body: 'said' })

  await t.test('where nothing is followed another may come', async (t) => {
    t.same(await pair('/.well-known/jwks.json'), ['204', '204'])
    daemon.answer = () => refuse(401, 'no_credential')
    t.same(await pair(`${RECORDINGS}/a.wav`), ['401', '401'])
  })
  await t.test('a refusal of a stream', async (t) => {
    daemon.answer = () => refuse(401, 'no_credential')
    t.same(await pair(`${V1}/sub/x`), ['401'])
    t.same(await pair(SIP), ['401'])
  })
  await t.test('what the proxied application answered', async (t) => {
    daemon.answer = () => PASS
    t.same(await pair(SIP), ['200'])
  })
  await t.test('a long-poll that heard something', async (t) => {
    daemon.answer = cuttable('poll')
    await publish('poll')
    t.same(await pair(`${V1}/sub/poll`), ['200'])
    const etag = 'If-None-Match: 0\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n'
    t.same(await pair(`${V1}/sub/poll`, etag), ['200'])
  })
  await t.test('its end is told by the id that the daemon gave, or by none', async (t) => {
    for (const [channels, kick, due] of [
      ['told', 'kick-cut', 'kick-cut'],
      ['told,kick-1234567890123456789012', 'kick-other', 'kick-1234567890123456789012'],
      ['told', '', 'undefined'],
    ] as const) {
      const headers = { ...PASS.headers, 'X-Auth-Channels': channels, 'X-Auth-Kick': kick }
      daemon.answer = () => ({ status: 204, headers })
      daemon.ended.length = 0
      const stream = await eventSource(t, port, 'x')
      stream.close()
      await until('nginx tells', () => daemon.ended.length > 0)
      t.same(daemon.ended, [due])
    }
    daemon.answer = () => ({ status: 204, headers: { 'X-Auth-Channels': '', 'X-Auth-Kick': 'k' } })
    t.match(await ask(port, `${V1}/sub/x`), { status: 503 })
  })
  await t.test('over HTTP/2 nginx keeps the connection', async (t) => {
    daemon.answer = cuttable('poll')
    await publish('poll')
    const urls = Array.from({ length: 3 }, () => `https://127.0.0.2:${port}${V1}/sub/poll`)
    const { stdout } = await promisify(execFile)(
      'curl',
      ['-sSk', '-w', ' %{http_version} %{num_connects}\\n', ...urls],
      { timeout: 60_000 },
    )
    t.same(stdout.trimEnd().split('\n'), ['said 2 1', 'said 2 0', 'said 2 0'])
  })
})
