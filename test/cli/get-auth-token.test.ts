import t from 'tap'
import type { Test } from 'tap'
import { getAuthToken } from '../../src/cli/get-auth-token.ts'
import {
  answer,
  createCertificate,
  createToken,
  findClosedPort,
  needsOpenssl,
  openCannedServer,
  silent,
} from '../fixtures/canned-server.ts'
import type { Canned } from '../fixtures/canned-server.ts'

const NOW = 1_700_000_000
const PASSWORD = 'p&%+ü# word'
const TOKEN = createToken({ userId: 'admin', role: 'admins', exp: NOW + 900 })
const login = (accessToken: unknown): string =>
  answer(200, { result: true, data: { accessToken }, messages: {} })

const run = async (
  args: readonly string[],
  env: Record<string, string>,
  taken = true,
): Promise<{ code: number; out: string; err: string }> => {
  let [out, err] = ['', '']
  const code = await getAuthToken(
    args,
    { MIKOPBX_PASSWORD: PASSWORD, ...env },
    {
      out: async (text) => {
        if (taken) out += text
        return taken
      },
      err: (line) => {
        err += `${line}\n`
      },
      clock: { now: () => NOW, wait: async () => undefined },
    },
  )
  return { code, out, err }
}

const check = (
  t: Test,
  seen: { code: number; out: string; err: string },
  code: number,
  message: RegExp,
): void => {
  t.equal(seen.code, code)
  t.equal(seen.out, code === 0 ? `${TOKEN}\n` : '', 'stdout: the token and a newline, or nothing')
  t.match(seen.err, message)
  for (const secret of [PASSWORD, 'p%26', 'p&%25', TOKEN]) t.notOk(seen.err.includes(secret))
}

const half = 'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"result":true,"data":{"acc'
const dripping: Canned = (socket) => {
  socket.write('HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n')
  const drip = setInterval(() => socket.write(' '), 10)
  socket.on('close', () => clearInterval(drip))
}

const table: [string, Canned[], number, RegExp, requests: number, args?: string[]][] = [
  ['a token', [login(TOKEN)], 0, /^$/, 1],
  [
    'a token, explained',
    [login(TOKEN)],
    0,
    /debug: token: \d+ characters, valid for 900 s/,
    1,
    ['--debug'],
  ],
  // 1: refused
  ['401', [answer(401, '{}')], 1, /Invalid credentials.*Verify MIKOPBX_LOGIN/, 1],
  [
    '429 with Retry-After too long',
    [answer(429, '', { 'Retry-After': '900' })],
    1,
    /Wait 900 s/,
    1,
  ],
  ['429 without Retry-After', [answer(429, '')], 1, /does not say how long/, 1],
  ['429 for ever', [answer(429, '', { 'Retry-After': '1' })], 1, /Wait 1 s/, 3],
  ['429, then a token', [answer(429, '', { 'Retry-After': '1' }), login(TOKEN)], 0, /^$/, 2],
  // 2: transport
  ['silence', [silent], 2, /Time-out after 1 s.*no answer came/, 2, ['--timeout=1', '--retries=1']],
  [
    'a body that drips',
    [dripping],
    2,
    /Time-out after 1 s.*did not end/,
    1,
    ['--timeout=1', '--retries=0'],
  ],
  ['a closed connection', [''], 2, /without an answer/, 3],
  ['half an answer', [half], 2, /half an answer/, 3],
  ['half an answer, explained', [half], 2, /debug: failed: HALF_ANSWER/, 3, ['--debug']],
  ['not HTTP', ['220 mail.example ESMTP\r\n'], 2, /does not speak HTTP/, 1],
  ['500', [answer(500, 'oops')], 2, /failed \(500\)/, 1],
  ['502, then a token', [answer(502, ''), login(TOKEN)], 0, /^$/, 2],
  ['503', [answer(503, '')], 2, /not ready \(503\)/, 3],
  ['504', [answer(504, '')], 2, /not ready \(504\)/, 3],
  // 3: an answer of no use
  [
    '301',
    [answer(301, '', { Location: 'https://pbx.example/' })],
    3,
    /redirects \(301\) to https:\/\/pbx\.example,/,
    1,
  ],
  ['403', [answer(403, '')], 3, /answered 403/, 1],
  [
    '404',
    [answer(404, '<html>', { 'Content-Type': 'text/html' })],
    3,
    /answered 404/,
    1,
    ['--debug'],
  ],
  ['HTML', [answer(200, '<html>')], 3, /no JSON object/, 1],
  ['an empty body', [answer(200, '')], 3, /no JSON object/, 1],
  ['JSON without a token', [answer(200, { result: true, data: {} })], 3, /no data\.accessToken/, 1],
  ['a token of two parts', [login('a.b')], 3, /three parts/, 1],
  ['an expired token', [login(createToken({ exp: NOW - 1 }))], 3, /Token expired/, 1],
  ['an endless answer', [answer(200, 'x'.repeat(1024 * 1024 + 1))], 3, /too large/, 1],
]

for (const [name, answers, code, message, requests, args = []] of table) {
  void t.test(`${name} → ${code}`, async (t) => {
    const server = await openCannedServer(t, answers)
    const MIKOPBX_API_URL = `http://127.0.0.1:${server.port}/pbxcore/api/v3/`
    check(t, await run(args, { MIKOPBX_API_URL }), code, message)
    t.equal(server.requests.length, requests)
    const [head = '', body] = (server.requests[0] ?? '').split('\r\n\r\n')
    t.match(head, 'POST /pbxcore/api/v3/auth:login HTTP/1.1')
    t.equal(new URLSearchParams(body).get('login'), 'admin')
    t.equal(new URLSearchParams(body).get('password'), PASSWORD)
  })
}

void t.test('nothing listens → 2', async (t) => {
  const MIKOPBX_API_URL = `http://127.0.0.1:${await findClosedPort()}`
  check(t, await run([], { MIKOPBX_API_URL }), 2, /Connection refused.*Start MikoPBX/)
})

void t.test('no such host → 2', async (t) => {
  const MIKOPBX_API_URL = `http://${'x'.repeat(64)}.invalid/`
  check(t, await run([], { MIKOPBX_API_URL }), 2, /Unknown host .*DNS: ENOTFOUND/)
})

void t.test('TLS', needsOpenssl, async (t) => {
  const certificate = createCertificate(t.testdir(), 'IP:127.0.0.1')
  const server = await openCannedServer(t, [login(TOKEN)], { tls: certificate })
  const MIKOPBX_API_URL = `https://127.0.0.1:${server.port}/`
  check(t, await run([], { MIKOPBX_API_URL }), 2, /SSL certificate problem.*--cacert.*--insecure/)
  t.equal(server.requests.length, 0, 'the password was not sent')
  check(t, await run(['--cacert', certificate.file], { MIKOPBX_API_URL }), 0, /^$/)
  check(t, await run(['--insecure'], { MIKOPBX_API_URL }), 0, /^$/)
  const named = { MIKOPBX_API_URL: `https://localhost:${server.port}/` }
  check(t, await run(['--cacert', certificate.file], named), 2, /another name/)
  const plain = { MIKOPBX_API_URL: `http://127.0.0.1:${server.port}/` }
  t.equal((await run(['--retries=0'], plain)).code, 2, 'plain http on a TLS port')
  const other = await openCannedServer(t, [login(TOKEN)])
  const wrong = { MIKOPBX_API_URL: `https://127.0.0.1:${other.port}/` }
  t.equal((await run(['--timeout=1', '--retries=0'], wrong)).code, 2, 'TLS on a plain http port')
})

void t.test('a login of its own is sent as it is', async (t) => {
  const server = await openCannedServer(t, [login(TOKEN)])
  const env = { MIKOPBX_API_URL: `http://127.0.0.1:${server.port}`, MIKOPBX_LOGIN: 'a=b&login=ü' }
  check(t, await run([], env), 0, /^$/)
  const [, body] = (server.requests[0] ?? '').split('\r\n\r\n')
  t.equal(new URLSearchParams(body).get('login'), 'a=b&login=ü')
})

void t.test('a token that nobody takes → 2', async (t) => {
  const server = await openCannedServer(t, [login(TOKEN)])
  const MIKOPBX_API_URL = `http://127.0.0.1:${server.port}`
  check(t, await run([], { MIKOPBX_API_URL }, false), 2, /could not be written/)
})

void t.test('wrong usage → 64, with every problem', async (t) => {
  check(t, await run(['--timeout=x'], {}), 64, /MIKOPBX_API_URL is not set[^]*--timeout/)
})

void t.test('help goes to stderr, and nothing to stdout', async (t) => {
  const seen = await run(['--help'], {})
  t.match(seen, { code: 0, out: '', err: /^Usage: get-auth-token/ })
  for (const name of ['MIKOPBX_API_URL', 'MIKOPBX_LOGIN', 'MIKOPBX_PASSWORD', '--cacert', '64']) {
    t.ok(seen.err.includes(name))
  }
})
