// Keys as text, from a file or over HTTP: what is read, and what is refused before it is looked at.

import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { readFileSync } from 'node:fs'
import type { AddressInfo, Server } from 'node:net'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { fetchJwks, readJwksFile } from '../../src/issuers/load-jwks.ts'
import { needs } from '../fixtures/needs.ts'

const listen = async (t: Test, server: Server & { closeAllConnections(): void }) => {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

const serve = async (t: Test, listener: RequestListener): Promise<string> =>
  `http://127.0.0.1:${await listen(t, createServer(listener))}/jwks`

void t.test('a file is read where only its owner could have written it', async (t) => {
  const folder = t.testdir({ 'good.json': '{"keys":[]}', 'open.json': '{}', sub: {} })
  const at = (name: string): string => join(folder, name)
  chmodSync(at('good.json'), 0o644)
  t.same(await readJwksFile(at('good.json')), { text: '{"keys":[]}' })
  chmodSync(at('open.json'), 0o664)
  writeFileSync(at('large.json'), ' '.repeat(256 * 1024 + 1), { mode: 0o644 })
  mkdirSync(at('folder'))
  spawnSync('mkfifo', [at('pipe')])
  const rows: readonly (readonly [string, RegExp])[] = [
    ['open.json', /can be written by others.*chmod go-w/],
    ['large.json', /larger than 262144 bytes/],
    ['folder', /is not a regular file/],
    ['pipe', /is not a regular file/],
    ['none.json', /cannot be read \(ENOENT\)/],
  ]
  for (const [name, problem] of rows) t.match(await readJwksFile(at(name)), { problem }, name)
})

void t.test('an answer is its text, and how long it may be kept', async (t) => {
  const rows: readonly (readonly [cacheControl: string | undefined, maxAge: number | undefined])[] =
    [
      [undefined, undefined],
      ['public, max-age=600', 600],
      ['Max-Age="60"', 60],
      ['no-store', 0],
      ['no-cache, max-age=600', 0],
      ['max-age=-1', undefined],
      ['private', undefined],
    ]
  for (const [cacheControl, maxAge] of rows) {
    const url = await serve(t, (request, response) => {
      t.equal(request.method, 'GET')
      if (cacheControl !== undefined) response.setHeader('Cache-Control', cacheControl)
      response.end('{"keys":[]}')
    })
    t.same(await fetchJwks(url), { text: '{"keys":[]}', maxAge }, cacheControl ?? 'nothing said')
  }
})

void t.test(
  'anything but a whole 200 in time is a problem, and no redirect is followed',
  async (t) => {
    let followed = 0
    const target = await serve(t, (_, response) => {
      followed++
      response.end('{"keys":[]}')
    })
    const rows: readonly (readonly [what: string, RequestListener, RegExp])[] = [
      [
        'a redirect',
        (_, r) => r.writeHead(302, { Location: target }).end(),
        /answered 302, not 200/,
      ],
      ['an error', (_, r) => r.writeHead(500).end(), /answered 500, not 200/],
      ['a flood', (_, r) => r.end(' '.repeat(300_000)), /no complete answer \(TOO_LARGE\)/],
      [
        'half an answer',
        (_, r) => r.writeHead(200, { 'Content-Length': 9 }).end('x', () => r.destroy()),
        /no complete answer/,
      ],
      ['silence', () => undefined, /no complete answer \(TIMEOUT\)/],
    ]
    for (const [what, listener, problem] of rows) {
      t.match(await fetchJwks(await serve(t, listener), 0.3), { problem }, what)
    }
    t.equal(followed, 0)
    t.match(await fetchJwks('http://127.0.0.1:1/jwks'), {
      problem: /ECONNREFUSED.*check the address/,
    })
  },
)

const openssl = needs(
  spawnSync('openssl', ['version']).status === 0,
  'no openssl: install it to test certificates',
)
void t.test('a certificate that nobody vouches for is not believed', openssl, async (t) => {
  const folder = t.testdir({})
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  spawnSync('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    '/CN=localhost',
    '-days',
    '1',
    '-keyout',
    key,
    '-out',
    cert,
  ])
  const tls = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) =>
    response.end('{"keys":[]}'),
  )
  const port = await listen(t, tls)
  t.match(await fetchJwks(`https://localhost:${port}/jwks`), {
    problem: /SELF_SIGNED|UNABLE_TO_VERIFY/,
  })
})
