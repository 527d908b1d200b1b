import { join } from 'node:path'
import t from 'tap'
import { readTrust, type Trust } from '../src/files/certificates.ts'
import { parseObject, sendRequest } from '../src/http-client.ts'
import type { Exchange, Outgoing } from '../src/http-client.ts'
import {
  answer,
  createCertificate,
  findClosedPort,
  needsOpenssl,
  openCannedServer,
  silent,
} from './fixtures/canned-server.ts'
import type { Canned } from './fixtures/canned-server.ts'

const ask = (url: string, more: Partial<Outgoing> = {}): Promise<Exchange> =>
  sendRequest({
    method: 'POST',
    url: new URL(url),
    headers: {},
    body: 'ä=1',
    timeout: 5,
    maxBytes: 1000,
    ...more,
  })

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n'

const table: { name: string; canned: Canned; more?: Partial<Outgoing>; expected: object }[] = [
  {
    name: 'a whole answer comes back',
    canned: answer(201, 'yes'),
    expected: { status: 201, body: 'yes' },
  },
  {
    name: 'a redirect is an answer like any other',
    canned: answer(302, '', { Location: '/x' }),
    expected: { status: 302 },
  },
  {
    name: 'no answer ends at the time-out',
    canned: silent,
    more: { timeout: 0.1 },
    expected: { failed: 'TIMEOUT', stage: 'answer' },
  },
  {
    name: 'the time-out bounds the body too, however steadily it drips',
    canned: (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n')
      const drip = setInterval(() => socket.write('x'), 10)
      socket.on('close', () => clearInterval(drip))
    },
    more: { timeout: 0.3 },
    expected: { failed: 'TIMEOUT', stage: 'body' },
  },
  {
    name: 'an answer cut short is none',
    canned: `${HEAD}half`,
    expected: { failed: 'HALF_ANSWER', stage: 'body' },
  },
  {
    name: 'an answer too large is cut off',
    canned: answer(200, 'x'.repeat(1001)),
    expected: { failed: 'TOO_LARGE' },
  },
  {
    name: 'no body is waited for where none is wanted',
    canned: `HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nhalf`,
    more: { maxBytes: 0 },
    expected: { status: 200, body: '' },
  },
  {
    name: 'an answer just small enough is taken',
    canned: answer(200, 'x'.repeat(1000)),
    expected: { status: 200 },
  },
  {
    name: 'a connection closed without a word says so',
    canned: '',
    expected: { failed: 'CLOSED', stage: 'answer' },
  },
  {
    name: 'something that is not HTTP says so',
    canned: 'SSH-2.0-OpenSSH_9.2\r\n',
    expected: { failed: 'HPE_INVALID_CONSTANT' },
  },
]

for (const { name, canned, more, expected } of table) {
  void t.test(name, async (t) => {
    const server = await openCannedServer(t, [canned])
    t.match(await ask(`http://127.0.0.1:${server.port}/a?b`, more), expected)
    t.match(server.requests[0], /^POST \/a\?b HTTP\/1\.1\r\n[^]*Content-Length: 4\r\n[^]*ä=1$/i)
  })
}

void t.test('a closed port is refused, a name without an address is not found', async (t) => {
  const port = await findClosedPort()
  t.match(await ask(`http://127.0.0.1:${port}/`), { failed: 'ECONNREFUSED', stage: 'connect' })
  // a label over 63 letters: the resolver refuses it without asking any name server
  t.match(await ask(`http://${'x'.repeat(64)}.invalid/`), { failed: 'ENOTFOUND', stage: 'connect' })
})

void t.test('a path goes out as it is written, and a GET without a body', async (t) => {
  const server = await openCannedServer(t, [answer(200, 'hello')])
  const url = new URL(`http://127.0.0.1:${server.port}/x`)
  const asked = sendRequest({
    method: 'GET',
    url,
    path: '/a/../b',
    headers: {},
    timeout: 5,
    maxBytes: 1000,
  })
  t.match(await asked, { status: 200, body: 'hello' })
  t.match(server.requests[0], /^GET \/a\/\.\.\/b HTTP/)
})

void t.test('a unix socket is reached by its path', async (t) => {
  const path = join(t.testdir(), 's')
  const server = await openCannedServer(t, [answer(200, 'hello')], { path })
  t.match(await ask('http://localhost/login', { socketPath: path }), { status: 200, body: 'hello' })
  t.match(server.requests[0], /^POST \/login /)
})

void t.test('an abort ends it, before and during', async (t) => {
  const server = await openCannedServer(t, [silent])
  const url = `http://127.0.0.1:${server.port}/`
  t.match(await ask(url, { signal: AbortSignal.abort() }), { failed: 'ABORT_ERR' })
  const controller = new AbortController()
  const asked = ask(url, { signal: controller.signal })
  controller.abort()
  t.match(await asked, { failed: 'ABORT_ERR' })
})

void t.test('a certificate is checked, unless it is told not to be', needsOpenssl, async (t) => {
  const certificate = createCertificate(t.testdir(), 'IP:127.0.0.1')
  const server = await openCannedServer(t, [answer(200, 'hello')], { tls: certificate })
  const url = `https://127.0.0.1:${server.port}/`
  const trust = readTrust(certificate.file, 'ca_file') as Trust
  const wish = process.env['NODE_TLS_REJECT_UNAUTHORIZED']
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0'
  t.teardown(() => {
    if (wish === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED']
    else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = wish
  })
  t.match(await ask(url), { failed: 'DEPTH_ZERO_SELF_SIGNED_CERT' })
  t.match(await ask(url, { trust }), { status: 200 })
  t.match(await ask(url, { insecure: true }), { status: 200 })
  t.match(await ask(`https://localhost:${server.port}/`, { trust }), {
    failed: 'ERR_TLS_CERT_ALTNAME_INVALID',
  })
})

void t.test('IPv6 addresses keep their brackets to themselves', async (t) => {
  t.match(await ask(`http://[::1]:${await findClosedPort()}/`), {
    failed: /^(ECONNREFUSED|EADDRNOTAVAIL)$/,
  })
})

void t.test('a body is one JSON object, or nothing', async (t) => {
  t.same(parseObject('{"a":[1]}'), { a: [1] })
  for (const body of ['', '<html>', 'null', '[1]', '"text"', '7', '{"a":1']) {
    t.equal(parseObject(body), undefined, body)
  }
})
