// The example site as it stands, and with each of its commented variants: nginx takes it without a warning.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:https'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import t from 'tap'
import { nginxMissing, startNginx, testNginx } from '../fixtures/nginx.ts'
import { ask, V1 } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'
import { refuse, startDaemon } from './daemon.ts'

void t.test('the example site', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  daemon.answer = () => refuse(401, 'expired')

  void t.test('passes nginx -t without a warning', async (t) => {
    const { status, text } = testNginx(t, { postern: daemon.socket })
    t.equal(status, 0, text)
    t.notMatch(text, /warn|emerg/)
  })

  void t.test('everything that is not named is 404', async (t) => {
    const nginx = await startNginx(t, { postern: daemon.socket })
    for (const path of [
      '/',
      '/x',
      '/index.html',
      '/.git/config',
      '/pbxcore/',
      '/pbxcore/softphone/',
    ])
      t.equal((await ask(nginx.port, path)).status, 404, path)
    t.equal(daemon.asked.length, 0)
  })

  const openssl = existsSync('/usr/bin/openssl') || process.env['CI'] === 'true'
  const skip = openssl ? false : 'openssl is not installed: apt-get install openssl'
  void t.test('over TLS every answer says Strict-Transport-Security', { skip }, async (t) => {
    const folder = mkdtempSync(`${tmpdir()}/postern-tls-`)
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const [key, certificate, socket] = ['key', 'certificate', 'socket'].map((x) => `${folder}/${x}`)
    const command =
      `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost ` +
      `-keyout ${key} -out ${certificate}`
    execFileSync('/usr/bin/openssl', command.split(' '), { stdio: 'ignore' })
    const nginx = await startNginx(t, {
      postern: daemon.socket,
      site: [
        [/^ {4}# (?=listen 443|ssl_certificate)/gm, '    '],
        uncomment('site.example.conf', 'if ($https = "") {'),
        ['listen 443', `listen unix:${socket}`],
        ['/etc/ssl/certs/pbx.example.com.pem', String(certificate)],
        ['/etc/ssl/private/pbx.example.com.key', String(key)],
      ],
    })
    const table: [path: string, status: number][] = [
      ['/', 404],
      ['/app/x', 401],
      [`${V1}/sub/users-state`, 401],
      [`${V1}/sub/Bad`, 404],
      [`${V1}/profile`, 401],
      ['/pbxcore/softphone/recordings/a.mp3', 401],
    ]
    for (const [path, status] of table) {
      const options = { socketPath: socket, path, rejectUnauthorized: false, agent: false }
      const [response] = (await once(request(options).end(), 'response')) as [IncomingMessage]
      response.resume()
      t.equal(response.statusCode, status, path)
      t.equal(response.headers['strict-transport-security'], 'max-age=31536000', path)
    }
    t.equal(daemon.last().headers['x-forwarded-proto'], 'https')

    const plain = await ask(nginx.port, '/app/x', { headers: { Host: 'pbx.test' } })
    t.match(plain, { status: 308, headers: { location: 'https://pbx.test/app/x' } })
    t.notOk(plain.headers['strict-transport-security'], 'plain http says nothing of it')
  })

  void t.test(
    "behind another proxy the client's address is that proxy's word, nobody else's",
    async (t) => {
      const nginx = await startNginx(t, {
        postern: daemon.socket,
        site: [
          ['# set_real_ip_from 192.0.2.10;', 'set_real_ip_from 127.0.0.9;'],
          ['# real_ip_header', 'real_ip_header'],
          ['# real_ip_recursive', 'real_ip_recursive'],
        ],
      })
      const table: [from: string, forwarded: string, address: string][] = [
        ['127.0.0.9', '198.51.100.7', '198.51.100.7'],
        ['127.0.0.9', '127.0.0.1, 198.51.100.7', '198.51.100.7'],
        ['127.0.0.8', '198.51.100.7', '127.0.0.8'],
      ]
      for (const [from, forwarded, address] of table) {
        await ask(nginx.port, '/app/x', { from, headers: { 'X-Forwarded-For': forwarded } })
        t.equal(daemon.last().headers['x-real-ip'], address, `${from}: ${forwarded}`)
      }
      const spoof = { from: '127.0.0.9', body: 'x', headers: { 'X-Forwarded-For': '127.0.0.1' } }
      t.equal((await ask(nginx.port, `${V1}/pub/contacts`, spoof)).status, 403, 'says it is local')
    },
  )

  void t.test('nobody publishes through a proxy that says so in any way', async (t) => {
    const nginx = await startNginx(t, { postern: daemon.socket })
    const publish = async (headers: Record<string, string>, from?: string): Promise<number> =>
      (
        await ask(nginx.port, `${V1}/pub/contacts`, {
          body: 'x',
          headers,
          ...(from !== undefined && { from }),
        })
      ).status
    // curl, a producer of any language, one that uses the machine's own name (Debian: 127.0.1.1).
    for (const headers of [
      {},
      { 'User-Agent': 'curl/8.5.0', Accept: '*/*' },
      { Host: 'pbx.example.com', 'Content-Type': 'application/json' },
      { 'sec-fetch-mode': 'cors', 'accept-language': '*', 'User-Agent': 'node' },
      { 'X-Request-ID': 'x', traceparent: 'y', 'X-EventSource-Event': 'z' },
    ])
      t.equal(await publish(headers), 202, Object.keys(headers).join())
    for (const [name, value] of [
      ['X-Forwarded-For', '127.0.0.1'],
      ['X-Real-IP', '127.0.0.1'],
      ['Forwarded', 'for=127.0.0.1'],
      ['Via', '1.1 x'],
      ['X-Forwarded-Host', 'x'],
      ['X-Forwarded-Proto', 'https'],
      ['X-Forwarded-Port', '443'],
      ['X-Forwarded-Server', 'x'],
      ['X-Client-IP', '127.0.0.1'],
      ['X-Cluster-Client-IP', '127.0.0.1'],
      ['X-Original-Forwarded-For', '127.0.0.1'],
      ['X-Envoy-External-Address', '127.0.0.1'],
      ['True-Client-IP', '127.0.0.1'],
      ['CF-Connecting-IP', '127.0.0.1'],
      ['CF-Ray', 'x'],
      ['CDN-Loop', 'cloudflare'],
      ['Fastly-Client-IP', '127.0.0.1'],
      ['Origin', 'https://elsewhere.example'],
    ] as const)
      t.equal(await publish({ [name]: value }), 403, name)
  })

  void t.test("an address that came from a header is nobody's own", async (t) => {
    const nginx = await startNginx(t, {
      postern: daemon.socket,
      site: [
        // As a bad recipe has it: everybody is believed.
        ['# set_real_ip_from 192.0.2.10;', 'set_real_ip_from 0.0.0.0/0;'],
        ['# real_ip_header X-Forwarded-For', 'real_ip_header X-Own-Header'],
      ],
    })
    for (const address of ['127.0.0.1', '::1']) {
      for (const from of ['127.0.0.1', '127.0.0.8']) {
        const headers = { 'X-Own-Header': address }
        const { status } = await ask(nginx.port, `${V1}/pub/contacts`, { body: 'x', from, headers })
        // From there it is this very machine that says so.
        t.equal(status, address === from ? 202 : 403, `${from} says ${address}`)
      }
    }
    t.equal((await ask(nginx.port, `${V1}/pub/contacts`, { body: 'x' })).status, 202)
  })

  void t.test('publishing over a unix socket alone', async (t) => {
    const folder = mkdtempSync(`${tmpdir()}/postern-publish-`)
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const nginx = await startNginx(t, {
      postern: daemon.socket,
      site: [
        [/^# (?=server \{|\}|    )/gm, ''],
        ['unix:/run/postern-publish', `unix:${folder}`],
      ],
      local: [[/^ {4}(?:127\.0\.0\.1|::1) 1;\n/gm, '']],
    })
    const socket = `${folder}/nginx.sock`
    t.equal(
      (await ask(nginx.port, `${V1}/pub/contacts`, { body: 'x' })).status,
      403,
      'over the port',
    )
    t.equal((await ask(0, `${V1}/pub/contacts`, { body: 'x', socket })).status, 202)
  })
})
