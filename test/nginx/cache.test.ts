// The decision cache, off as shipped and on as the comment in postern-local.conf says: nginx may only ever
// remember a pass, for as long as the daemon says, for exactly the same request.
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Nginx, nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, RECORDINGS, SIP, V1 } from './ask.ts'
import { type Answer, kickId, open, PASS, refuse, startDaemon } from './daemon.ts'

const lasting = (seconds: number, status = 204): Answer => ({
  status,
  headers: { ...PASS.headers, 'X-Accel-Expires': String(seconds) },
})

void t.test('the decision cache', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.mp3': 'x'.repeat(1000), 'b.mp3': 'y' })
  const daemon = await startDaemon(t)
  const file = `${RECORDINGS}/a.mp3`
  t.beforeEach(() => {
    daemon.answer = () => lasting(5)
    daemon.asked.length = 0
  })
  const asked = () => daemon.asked.splice(0).length
  const cached = (t: Test): Promise<Nginx> =>
    startNginx(t, {
      postern: daemon.socket,
      recordings,
      local: [
        [
          '# proxy_cache_path /run/postern-decisions',
          `proxy_cache_path ${t.testdir({})}/decisions`,
        ],
        ['# read postern_decisions;', 'read postern_decisions;'],
      ],
      // What an operator may have set for caches of their own.
      http: 'proxy_cache_use_stale error timeout http_500;\nproxy_cache_valid any 10m;',
    })

  void t.test('off, as shipped: each request is a check, whatever the answer says', async (t) => {
    const nginx = await startNginx(t, { postern: daemon.socket, recordings })
    for (let i = 0; i < 3; i++) t.equal((await ask(nginx.port, file)).status, 200)
    t.equal(asked(), 3)
  })

  void t.test(
    'on: 100 parts of one recording are one check, and each knows who it was',
    async (t) => {
      const nginx = await cached(t)
      for (let i = 0; i < 100; i++) {
        const headers = { Authorization: 'Bearer A', Range: `bytes=${i}-${i}` }
        t.equal((await ask(nginx.port, file, { headers })).status, 206)
      }
      t.equal(asked(), 1)
      const lines = nginx.accessLog().trimEnd().split('\n')
      t.match(lines[0], / - 201 .* check=204 /)
      t.match(lines.at(-1), / - 201 .* check=cached /)
    },
  )

  void t.test('what differs in any way is asked about by itself', async (t) => {
    const nginx = await cached(t)
    const first = { Authorization: 'Bearer A', Cookie: 'postern=A' }
    const rows: [what: string, path: string, more: Parameters<typeof ask>[2]][] = [
      ['the first', file, { headers: first }],
      ['another token', file, { headers: { ...first, Authorization: 'Bearer B' } }],
      ['no token', file, { headers: { Cookie: 'postern=A' } }],
      ['another cookie', file, { headers: { ...first, Cookie: 'postern=B' } }],
      ['no cookie', file, { headers: { Authorization: 'Bearer A' } }],
      ['a ticket', `${file}?ticket=A`, { headers: first }],
      ['another ticket', `${file}?ticket=B`, { headers: first }],
      ['another recording', `${RECORDINGS}/b.mp3`, { headers: first }],
      ['another origin', file, { headers: { ...first, Origin: 'https://evil.test' } }],
      ['from another site', file, { headers: { ...first, 'Sec-Fetch-Site': 'cross-site' } }],
      ['another host', file, { headers: { ...first, Host: 'evil.test' } }],
      ['from another address', file, { headers: first, from: '127.0.0.2' }],
      ['another verb', file, { headers: first, method: 'HEAD' }],
      ['an upgrade', file, { headers: { ...first, Connection: 'Upgrade', Upgrade: 'websocket' } }],
      // One value that looks like two of the key.
      [
        'a token that spells out a cookie',
        file,
        { headers: { Authorization: 'Bearer A\\npostern=A' } },
      ],
    ]
    for (const [what, path, more] of rows) {
      await ask(nginx.port, path, more)
      t.equal(asked(), 1, what)
    }
    for (const [what, path, more] of rows) {
      await ask(nginx.port, path, more)
      t.equal(asked(), 0, `${what}, again`)
    }
  })

  void t.test('a refusal is never remembered, nor a failure, whatever it says', async (t) => {
    const nginx = await cached(t)
    const answers: Answer[] = [
      ...[401, 403, 500, 503, 404, 302, 200].map((status) => lasting(5, status)),
      { status: 401, headers: { 'X-Accel-Expires': '5', 'Cache-Control': 'max-age=60' } },
      refuse(401, 'expired'),
      'cut',
    ]
    for (const answer of answers) {
      daemon.answer = () => answer
      const { status } = await ask(nginx.port, file)
      await ask(nginx.port, file)
      t.ok(asked() >= 2, `${status}`)
    }
    daemon.answer = () => lasting(5)
    t.equal((await ask(nginx.port, file)).status, 200)
  })

  void t.test('only the daemon says how long', async (t) => {
    const nginx = await cached(t)
    const rows: [what: string, headers: Record<string, string>][] = [
      ['nothing', {}],
      ['for no time', { 'X-Accel-Expires': '0' }],
      ['in words of others', { 'Cache-Control': 'max-age=60' }],
      ['in words of others', { Expires: 'Sun, 22 Nov 2099 04:21:35 GMT' }],
    ]
    for (const [what, headers] of rows) {
      daemon.answer = () => ({ status: 204, headers: { ...PASS.headers, ...headers } })
      for (let i = 0; i < 2; i++) await ask(nginx.port, file)
      t.equal(asked(), 2, what)
    }
  })

  void t.test(
    'when its time is over the daemon is asked, and no old pass stands in for it',
    async (t) => {
      const nginx = await cached(t)
      daemon.answer = () => lasting(1)
      t.equal((await ask(nginx.port, file)).status, 200)
      await daemon.stop()
      t.equal((await ask(nginx.port, file)).status, 200, 'within its time')
      // nginx's clock of whole seconds: there is none to hand it.
      await delay(2100)
      t.match(await ask(nginx.port, file), { status: 503, headers: { 'retry-after': '2' } })
      await daemon.listen()
      daemon.answer = () => refuse(401, 'session_ended')
      t.equal((await ask(nginx.port, file)).status, 401)
    },
  )

  void t.test('a subscription and a handshake are always asked about', async (t) => {
    const nginx = await cached(t)
    daemon.answer = (one) => {
      const headers = { 'X-Accel-Expires': '5', ...PASS.headers }
      if (one.headers['x-auth-action'] !== 'subscribe') return { status: 204, headers }
      const answer = open('users-state', kickId())
      return typeof answer === 'object'
        ? { ...answer, headers: { ...answer.headers, ...headers } }
        : answer
    }
    await ask(nginx.port, `${V1}/pub/users-state`, { body: 'x' })
    for (const path of [`${V1}/sub/users-state`, SIP]) {
      for (let i = 0; i < 2; i++) await ask(nginx.port, path)
      t.equal(asked(), 2, path)
    }
  })

  void t.test('what is kept holds credentials, and only nginx may read it', async (t) => {
    const nginx = await cached(t)
    await ask(nginx.port, file, { headers: { Authorization: 'Bearer A' } })
    const folder = join(t.testdirName, 'decisions')
    t.equal(statSync(folder).mode & 0o777, 0o700)
    const kept = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    )
    t.equal(kept.length, 1)
    for (const { parentPath, name } of kept)
      t.equal(statSync(join(parentPath, name)).mode & 0o777, 0o600)
    t.equal(nginx.errorLog(), '')
  })
})
