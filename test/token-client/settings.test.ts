import { join } from 'node:path'
import t from 'tap'
import { parseSettings } from '../../src/token-client/settings.ts'
import type { Environment } from '../../src/token-client/settings.ts'
import { createCertificate, needsOpenssl } from '../fixtures/canned-server.ts'

const ENV = { MIKOPBX_API_URL: 'http://pbx/pbxcore/api/v3', MIKOPBX_PASSWORD: 'pw' }

void t.test('defaults: admin, ten seconds, two retries, certificates checked', (t) => {
  t.same(parseSettings([], ENV), {
    settings: {
      url: new URL('http://pbx/pbxcore/api/v3/auth:login'),
      login: 'admin',
      password: 'pw',
      timeout: 10,
      retries: 2,
      insecure: false,
      trust: undefined,
      debug: false,
    },
  })
  t.end()
})

const accepted: [string, string[], Environment, object][] = [
  [
    'a trailing slash',
    [],
    { MIKOPBX_API_URL: 'http://pbx/v3//' },
    { url: new URL('http://pbx/v3/auth:login') },
  ],
  [
    'ten thousand slashes that are not at the end',
    [],
    { MIKOPBX_API_URL: `http://pbx/${'/'.repeat(10_000)}v3` },
    { url: new URL(`http://pbx/${'/'.repeat(10_000)}v3/auth:login`) },
  ],
  [
    'no path at all',
    [],
    { MIKOPBX_API_URL: 'https://pbx:8443' },
    { url: new URL('https://pbx:8443/auth:login') },
  ],
  ['an empty login is the default', [], { MIKOPBX_LOGIN: '' }, { login: 'admin' }],
  [
    '"0" is a login and a password',
    [],
    { MIKOPBX_LOGIN: '0', MIKOPBX_PASSWORD: '0' },
    { login: '0', password: '0' },
  ],
  ['--timeout in fractions', ['--timeout', '0.25'], {}, { timeout: 0.25 }],
  ['--timeout=600', ['--timeout=600'], {}, { timeout: 600 }],
  ['--retries 0', ['--retries', '0'], {}, { retries: 0 }],
  ['--retries 10', ['--retries', '10'], {}, { retries: 10 }],
  ['--insecure', ['--insecure'], {}, { insecure: true }],
  ['--debug', ['--debug'], {}, { debug: true }],
  ['DEBUG=1', [], { DEBUG: '1' }, { debug: true }],
  ['the DEBUG of another program', [], { DEBUG: 'express:*' }, { debug: false }],
]

for (const [name, args, env, settings] of accepted) {
  void t.test(`accepted: ${name}`, (t) => {
    t.match(parseSettings(args, { ...ENV, ...env }), { settings })
    t.end()
  })
}

const refused: [string, string[], Environment, RegExp][] = [
  ['no URL', [], { MIKOPBX_API_URL: undefined }, /^MIKOPBX_API_URL is not set/],
  ['an empty URL', [], { MIKOPBX_API_URL: '' }, /^MIKOPBX_API_URL is not set/],
  ['a URL without a scheme', [], { MIKOPBX_API_URL: 'secret:8081/v3' }, /is no http:/],
  ['no URL at all', [], { MIKOPBX_API_URL: 'secret' }, /is no http:/],
  [
    'a URL with a password',
    [],
    { MIKOPBX_API_URL: 'http://a:secret@pbx/' },
    /move them to MIKOPBX_LOGIN/,
  ],
  [
    'a URL with a login',
    [],
    { MIKOPBX_API_URL: 'http://secret@pbx/' },
    /move them to MIKOPBX_LOGIN/,
  ],
  ['a URL with a query', [], { MIKOPBX_API_URL: 'http://pbx/?secret' }, /has a query/],
  ['a URL with a fragment', [], { MIKOPBX_API_URL: 'http://pbx/#secret' }, /has a query/],
  ['no password', [], { MIKOPBX_PASSWORD: undefined }, /^MIKOPBX_PASSWORD is not set/],
  ['an empty password', [], { MIKOPBX_PASSWORD: '' }, /^MIKOPBX_PASSWORD is not set/],
  ['an unknown option', ['--password=secret'], {}, /^unknown or incomplete option/],
  ['a bare argument', ['secret'], {}, /^unknown or incomplete option/],
  ['an option without its value', ['--timeout'], {}, /^unknown or incomplete option/],
  ['a timeout of nothing', ['--timeout', '0'], {}, /^--timeout/],
  ['a timeout of words', ['--timeout', '10s'], {}, /^--timeout/],
  ['a timeout too long', ['--timeout', '601'], {}, /^--timeout/],
  ['retries below nothing', ['--retries=-1'], {}, /^--retries/],
  ['retries without end', ['--retries', '11'], {}, /^--retries/],
  [
    'a CA file that is not there',
    ['--cacert', '/nonexistent/secret'],
    {},
    /^--cacert: cannot be read \(ENOENT\)/,
  ],
  ['a CA file without a certificate', ['--cacert', import.meta.filename], {}, /holds no PEM/],
  ['--insecure with --cacert', ['--insecure', '--cacert', '/nonexistent'], {}, /contradict/],
]

for (const [name, args, env, problem] of refused) {
  void t.test(`refused: ${name}`, (t) => {
    const parsed = parseSettings(args, { ...ENV, ...env })
    t.match(parsed, { problems: [problem] })
    t.notMatch(JSON.stringify(parsed), /secret/)
    t.end()
  })
}

void t.test('every problem is named at once', (t) => {
  const parsed = parseSettings(['--timeout=0', '--retries=x'], {})
  t.match(parsed, { problems: [/URL/, /PASSWORD/, /--timeout/, /--retries/] })
  t.end()
})

void t.test('help needs nothing else', (t) => {
  t.same(parseSettings(['--help'], {}), { help: true })
  t.same(parseSettings(['-h'], {}), { help: true })
  t.end()
})

void t.test('a CA file is read', needsOpenssl, (t) => {
  const { file } = createCertificate(t.testdir(), 'DNS:pbx')
  t.match(parseSettings(['--cacert', file], ENV), {
    settings: { trust: { rejectUnauthorized: true } },
  })
  t.match(parseSettings(['--cacert', join(file, '..', 'key.pem')], ENV), {
    problems: [/^--cacert/],
  })
  t.end()
})
