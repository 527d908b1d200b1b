// What proves a password: each kind of auth section, and what it takes for one.
import { createHash } from 'node:crypto'
import t from 'tap'
import {
  createPasswordProof,
  credentialOf,
  isEmptySecret,
  readAuthDefaults,
  readSecret,
} from '../../src/users/asterisk-secret.ts'
import { fold, type Section } from '../../src/users/asterisk-section.ts'

const DEFAULTS = readAuthDefaults([])

/** `name=value` each. */
const section = (...lines: string[]): Section => ({
  name: 'a',
  broken: false,
  template: false,
  place: 'pjsip.conf:1',
  variables: ['username=201', ...lines].map((line) => {
    const [written = '', ...value] = line.split('=')
    return { name: fold(written), written, value: value.join('=') }
  }),
})
const hex = (algorithm: string, text: string): string =>
  createHash(algorithm).update(text).digest('hex')
const md5 = hex('md5', '201:asterisk:right')
const sha256 = hex('sha256', '201:asterisk:right')
const sha512 = hex('sha512-256', '201:asterisk:right')
const both = ['SHA-256', 'SHA-512-256'].flatMap((name) => [name])

const proofs: [string, string[], string[]][] = [
  ['a password', ['password=right'], ['right']],
  ['a password, whatever the type', ['auth_type=MD5', 'password=right'], ['right']],
  ['a hash, whatever the type', [`md5_cred=${md5}`], ['right']],
  ['a hash with its name', ['auth_type=digest', `md5_cred=MD5:${md5}`], ['right']],
  ['the hash counts before the password', [`md5_cred=${md5}`, 'password=other'], ['right']],
  [
    'a hash of SHA-256, for both directions',
    [
      'auth_type=digest',
      `password_digest=sha-256:${sha256}`,
      'supported_algorithms_uas=SHA-256',
      'supported_algorithms_uac=SHA-256',
    ],
    ['right'],
  ],
  [
    'several hashes in one line',
    [
      `password_digest=SHA-256:${sha256}, SHA-512-256:${sha512}`,
      `supported_algorithms_uas=${both.join()}`,
      `supported_algorithms_uac=${both.join()}`,
    ],
    ['right'],
  ],
  [
    'either, where each algorithm has its own',
    [`password_digest=SHA-256:${sha256}`, 'password=other', 'supported_algorithms_uas=SHA-256,MD5'],
    ['right', 'other'],
  ],
  [
    'a hash for an algorithm that is not offered',
    [`password_digest=SHA-256:${sha256}`, 'password=other'],
    ['other'],
  ],
  ['nothing', [], []],
  ['an empty hash', ['auth_type=md5', 'md5_cred='], []],
]
const provesPassword = createPasswordProof()

for (const [name, lines, expected] of proofs) {
  void t.test(`${name} proves what it should and nothing else`, async (t) => {
    const read = readSecret(section(...lines), DEFAULTS)
    if ('unusable' in read) throw new Error(read.unusable)
    t.equal(isEmptySecret(read.secret), expected.length === 0)
    if (expected.length === 0) return
    for (const shown of ['', 'right', 'other', 'Right', 'right ', 'righ', md5, sha256, sha512]) {
      t.equal(provesPassword('201', read.secret, shown), expected.includes(shown), shown)
    }
    t.match(credentialOf('201', read.secret), /^[0-9a-f]{8}$/)
    t.not(credentialOf('201', read.secret), credentialOf('202', read.secret))
  })
}

const unusable: [string[], RegExp][] = [
  [['username=', 'password=hunter2'], /has no username/],
  [['auth_type=google_oauth', 'password=hunter2'], /has an auth_type/],
  [['auth_type=md5', 'md5_cred=hunter2'], /md5_cred or password_digest that is none/],
  [['password_digest=SHA-1:hunter2'], /md5_cred or password_digest that is none/],
  [[`md5_cred=${md5.toUpperCase()}`], /lower-case hex/],
  [[`password_digest=SHA-256:${sha256}`], /no hash for one of its supported_algorithms/],
  [
    [`password_digest=SHA-256:${sha256}`, 'supported_algorithms_uas=SHA-256'],
    /no hash for one of its supported_algorithms/,
  ],
  [['password=hunter2', 'supported_algorithms_uas=hunter2'], /a supported algorithm that is none/],
]

void t.test('what proves none is told with its place, and not quoted', async (t) => {
  for (const [lines, told] of unusable) {
    const read = readSecret(section(...lines), DEFAULTS)
    t.match(read, { unusable: told }, lines.join())
    t.match(read, { unusable: /^pjsip\.conf:1: \[a\] / })
    t.notMatch(JSON.stringify(read), /hunter/)
  }
})

void t.test('the mark of a session that an earlier version opened still fits', async (t) => {
  const mark = (secret: object): string =>
    hex('sha256', JSON.stringify(['201', secret])).slice(0, 8)
  for (const [lines, secret] of [
    [['password=right'], { password: 'right' }],
    [['auth_type=md5', `md5_cred=${md5}`], { md5, realm: 'asterisk' }],
  ] as const) {
    const read = readSecret(section(...lines), DEFAULTS)
    t.match(read, { secret })
    if ('secret' in read) t.equal(credentialOf('201', read.secret), mark(secret))
  }
})

void t.test('what holds for each section stands in [global]', async (t) => {
  const read = (name: string, ...lines: string[]) =>
    readAuthDefaults([{ ...section(...lines), name }])
  t.same(DEFAULTS, { realm: 'asterisk', uas: 'MD5', uac: 'MD5' })
  t.same(read('x', 'type=global'), DEFAULTS)
  t.same(read('x', 'default_realm=pbx'), DEFAULTS, 'another section')
  for (const name of ['x', 'global']) {
    t.same(
      read(
        name,
        ...(name === 'x' ? ['type=global'] : []),
        'default_realm=pbx',
        'default_auth_algorithms_uas=SHA-256',
      ),
      { realm: 'pbx', uas: 'SHA-256', uac: 'MD5' },
    )
  }
})
