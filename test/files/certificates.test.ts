// Real servers, whose certificates come from a private authority that is made here, and every place that asks one.

import { execFile, spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import * as tls from 'node:tls'
import { promisify } from 'node:util'
import t from 'tap'

import { systemClock } from '../../src/clock.ts'
import { probe } from '../../src/doctor/probe.ts'
import type * as certificates from '../../src/files/certificates.ts'
import { findCertificateFault, readTrust, systemTrust } from '../../src/files/certificates.ts'
import { fetchJwks } from '../../src/issuers/load-jwks.ts'
import { sendRequest } from '../../src/http-client.ts'
import { fetchToken } from '../../src/token-client/fetch-token.ts'
import { openHttpUsers } from '../../src/users/http.ts'
import {
  answer,
  createAuthority,
  createCertificate,
  createToken,
  needsOpenssl,
  openCannedServer,
} from '../fixtures/canned-server.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const NOWHERE = '/nonexistent'

/** What `sendRequest` makes of an address in a process of its own, whose environment is `env` and nothing else of ours. */
const CHILD = `
const { sendRequest } = await import(${JSON.stringify(join(ROOT, 'src/http-client.ts'))})
const url = new URL(process.env.ASKED)
const exchange = await sendRequest({ method: 'GET', url, headers: {}, timeout: 5, maxBytes: 1000 })
console.log(exchange.failed ?? exchange.status)
`
const OURS = new Set([
  'NODE_OPTIONS',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'NODE_EXTRA_CA_CERTS',
  'CURL_CA_BUNDLE',
])
const without = Object.fromEntries(Object.entries(process.env).filter(([name]) => !OURS.has(name)))
const NODE = [process.execPath, '--input-type=module', '--eval', CHILD]

const run = async (command: readonly string[], env: Record<string, string>): Promise<string> => {
  const [file = '', ...args] = command
  const { stdout } = await promisify(execFile)(file, args, { env: { ...without, ...env } })
  return stdout.trim()
}

void t.test('the authorities are those of the machine', needsOpenssl, async (t) => {
  const folder = t.testdir({ authorities: {}, 'not-pem': 'not a certificate\n' })
  const own = createAuthority(folder, 'IP:127.0.0.1,DNS:localhost')
  const server = await openCannedServer(t, [answer(200, 'hello')], { tls: own })
  const ASKED = `https://127.0.0.1:${server.port}/`
  copyFileSync(own.authority, join(folder, 'authorities', 'company.crt'))
  const both = { SSL_CERT_FILE: NOWHERE, SSL_CERT_DIR: NOWHERE }
  const unknown = 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'

  const rows: readonly [name: string, Record<string, string>, said: string][] = [
    ['the bundle', { ...both, SSL_CERT_FILE: own.authority }, '200'],
    ['any file of the folder', { ...both, SSL_CERT_DIR: join(folder, 'authorities') }, '200'],
    [
      'the folder, where the file holds none',
      { SSL_CERT_FILE: join(folder, 'not-pem'), SSL_CERT_DIR: join(folder, 'authorities') },
      '200',
    ],
    ['one more of the user', { NODE_EXTRA_CA_CERTS: own.authority }, '200'],
    ['one more, where the system has none', { ...both, NODE_EXTRA_CA_CERTS: own.authority }, '200'],
    ['a stranger to the system', {}, unknown],
    ['a stranger to Node, where the system has none', both, unknown],
    ['no check by the environment', { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, unknown],
  ]
  for (const [name, env, said] of rows) {
    t.equal(await run(NODE, { ...env, ASKED }), said, name)
  }
})

const bindMounts =
  isRoot &&
  existsSync('/usr/local/share/ca-certificates') &&
  spawnSync('unshare', ['--mount', 'true']).status === 0
const needsMounts = needs(
  bindMounts && spawnSync('curl', ['--version']).status === 0 && needsOpenssl.skip === false,
  'needs root, unshare, curl, openssl and ca-certificates',
)

void t.test(
  'what update-ca-certificates takes in is trusted, as by curl',
  needsMounts,
  async (t) => {
    const folder = t.testdir({ taken: {} })
    const own = createAuthority(folder, 'IP:127.0.0.1')
    const server = await openCannedServer(t, [answer(200, 'hello')], { tls: own })
    const ASKED = `https://127.0.0.1:${server.port}/`
    const certs = join(folder, 'certs')
    cpSync('/etc/ssl/certs', certs, { recursive: true, verbatimSymlinks: true })
    const ask = async (before: string): Promise<string[]> => {
      const script = `
      mount --bind "${join(folder, 'taken')}" /usr/local/share/ca-certificates
      mount --bind "${certs}" /etc/ssl/certs
      ${before}
      curl --silent --output /dev/null --write-out '%{ssl_verify_result} ' "$ASKED" || true
      exec "$@"`
      const command = ['unshare', '--mount', 'sh', '-ec', script, 'sh', ...NODE]
      return (await run(command, { ASKED })).split(' ')
    }
    const [curl, ours] = await ask('')
    t.not(curl, '0', 'curl refuses it')
    t.equal(ours, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE')
    copyFileSync(own.authority, join(folder, 'taken', 'company.crt'))
    t.same(await ask('update-ca-certificates --hooksdir /nonexistent >/dev/null 2>&1'), [
      '0',
      '200',
    ])
  },
)

void t.test('every place that asks a server goes by them', needsOpenssl, async (t) => {
  const folder = t.testdir({ strange: {} })
  const own = createAuthority(folder, 'IP:127.0.0.1')
  const strange = createAuthority(join(folder, 'strange'), 'IP:127.0.0.1')
  // Read when they are first needed, once a process: nothing of this process has asked before.
  process.env['SSL_CERT_FILE'] = own.authority
  process.env['SSL_CERT_DIR'] = NOWHERE
  t.equal(systemTrust(), systemTrust(), 'once')
  const exp = Math.ceil(systemClock.now()) + 900
  const body = { name: '201', role: 'user', keys: [], data: { accessToken: createToken({ exp }) } }
  const [known, unknown] = await Promise.all(
    [own, strange].map((pair) => openCannedServer(t, [answer(200, body)], { tls: pair })),
  )
  const toTrust = /is not trusted here.*: .*\/usr\/local\/share\/ca-certificates.*update-ca-cert/
  const restart = /restart Postern$/

  const places: Readonly<Record<string, (url: URL) => Promise<unknown>>> = {
    async http_users({ href }) {
      const problems: string[] = []
      const source = openHttpUsers({
        loginUrl: href,
        lookupUrl: href,
        timeout: 5,
        hashDecoy: async () => undefined,
        onProblem: (problem) => problems.push(problem),
      })
      t.teardown(() => source.close())
      const answered = await source.authenticate('201', 'x')
      return 'user' in answered ? true : problems[0]
    },
    async jwks_url({ href }) {
      const loaded = await fetchJwks(href)
      return 'problem' in loaded ? loaded.problem : true
    },
    async 'get-auth-token'(url) {
      const common = { login: '201', password: 'x', timeout: 5, retries: 0 }
      const verdict = await fetchToken(
        { ...common, url, insecure: false, trust: undefined, debug: false },
        { clock: systemClock, explain: () => undefined },
      )
      return 'token' in verdict ? true : verdict.message
    },
    async 'doctor --url'(url) {
      const [first] = await probe(url)
      return first?.text.includes('answered 200') === true ? true : first?.cure
    },
  }
  for (const [name, ask] of Object.entries(places)) {
    t.equal(await ask(new URL(`https://127.0.0.1:${known?.port}/x`)), true, name)
    const refused = await ask(new URL(`https://127.0.0.1:${unknown?.port}/x`))
    t.match(refused, toTrust, name)
    const isDaemon = name === 'http_users' || name === 'jwks_url'
    t.equal(restart.test(String(refused)), isDaemon, `${name}: who has to read them again`)
  }
  t.same(unknown?.requests, [], 'nothing was sent to the stranger')
})

void t.test('where the system has none, Node has its own', needsOpenssl, async (t) => {
  const own = createAuthority(t.testdir({}), 'IP:127.0.0.1')
  const server = await openCannedServer(t, [answer(200, 'hello')], { tls: own })
  const url = new URL(`https://127.0.0.1:${server.port}/`)
  const pem = readFileSync(own.authority, 'utf8')
  for (const home of ['bundled', 'system', 'extra'] as const) {
    const mocked = await t.mockImport<typeof certificates>('../../src/files/certificates.ts', {
      'node:tls': { ...tls, getCACertificates: (kind: string) => (kind === home ? [pem] : []) },
    })
    const asked = { method: 'GET' as const, url, headers: {}, timeout: 5, maxBytes: 1000 }
    t.match(await sendRequest({ ...asked, trust: mocked.systemTrust() }), { status: 200 }, home)
  }
})

void t.test('a file that holds no certificate is refused', needsOpenssl, (t) => {
  const folder = t.testdir({ empty: '' })
  const { file, key } = createCertificate(folder, 'DNS:x')
  writeFileSync(join(folder, 'key'), key)
  mkdirSync(join(folder, 'sub'))
  t.ok('secureContext' in readTrust(file, 'x'))
  const hostnames = join(folder, 'hostname') // what a wrong completion of a path finds
  writeFileSync(hostnames, `${hostname()}\n`)
  const rows = [
    [hostnames, /^x\.ca_file: holds no PEM certificate: give the PEM file of the authority/],
    [join(folder, 'empty'), /holds no PEM/],
    [join(folder, 'key'), /holds no PEM/],
    [join(folder, 'sub'), /^x\.ca_file: cannot be read \(EISDIR\): give/],
    [join(dirname(file), 'none'), /^x\.ca_file: cannot be read \(ENOENT\): give/],
  ] as const
  for (const [path, problem] of rows) t.match(readTrust(path, 'x.ca_file'), { problem }, path)
  t.end()
})

void t.test('what is wrong with a certificate comes with its cure', (t) => {
  const system =
    'put its authority as a .crt file into /usr/local/share/ca-certificates and run update-ca-certificates'
  const self = 'DEPTH_ZERO_SELF_SIGNED_CERT'
  t.equal(findCertificateFault(self), `its certificate is self-signed: ${system}`)
  t.equal(
    findCertificateFault(self, { name: 'store.ca_file', restart: true }),
    `its certificate is self-signed: name the file of its authority in store.ca_file; without that, ${system}; then restart Postern`,
  )
  t.match(findCertificateFault('CERT_HAS_EXPIRED', { name: 'x', restart: true }), /: renew it$/)
  t.match(findCertificateFault('CERT_NOT_YET_VALID'), /clocks/)
  t.match(findCertificateFault('CERT_SIGNATURE_FAILURE'), /issued again/)
  t.match(findCertificateFault('ERR_TLS_CERT_ALTNAME_INVALID'), /another name: use that name/)
  t.equal(findCertificateFault('ECONNREFUSED'), undefined)
  t.end()
})
