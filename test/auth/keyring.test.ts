// Which keys may sign, and what is said of the others: never a byte of a secret.

import { createPublicKey, randomBytes } from 'node:crypto'
import t from 'tap'
import { decodeProtectedHeader } from 'jose'
import {
  ALGORITHMS,
  formatKeySet,
  generateKey,
  generateKeySet,
  parseKeyring,
  publicKeySet,
} from '../../src/auth/keyring.ts'
import { NOW } from '../fixtures/clock.ts'
import { jwk, keySet, secretOf } from '../fixtures/keys.ts'
import { pairOf } from '../fixtures/pairs.ts'
import { createTestTokens, header, token } from '../fixtures/tokens.ts'

const problemsOf = async (text: string): Promise<readonly string[]> => {
  const found = await parseKeyring(text)
  return 'problems' in found ? found.problems : []
}

const encoded = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url')

void t.test('a good set is taken; its first key signs, every key verifies', async (t) => {
  const keyring = await parseKeyring(keySet(jwk('new'), jwk('old')))
  if ('problems' in keyring) throw new Error(keyring.problems.join())
  t.same([...keyring.byKid.keys()], ['new', 'old'])
  t.equal(keyring.signing.kid, 'new')
  const tokens = await createTestTokens({ keyring })
  for (const kid of ['new', 'old']) {
    const verdict = await tokens.verify(token({ header: header({ kid }), key: secretOf(kid) }))
    t.match(verdict, { username: '201' }, kid)
  }
  const swapped = token({ header: header({ kid: 'new' }), key: secretOf('old') })
  t.same(await tokens.verify(swapped), { refused: 'bad_signature' }, 'a kid names one key')
})

void t.test('a secret never leaves the keyring', async (t) => {
  const keyring = await parseKeyring(keySet(jwk('a')))
  if ('problems' in keyring) throw new Error(keyring.problems.join())
  t.notOk(keyring.signing.key.extractable)
  t.notOk(JSON.stringify(keyring).includes(secretOf('a').toString('base64url')))
})

void t.test('a generated set is good, and another one each time', async (t) => {
  const texts = Array.from({ length: 20 }, generateKeySet)
  t.equal(new Set(texts).size, 20)
  for (const text of texts) t.same(await problemsOf(text), [])
  const keyring = await parseKeyring(texts[0] ?? '')
  if ('problems' in keyring) throw new Error(keyring.problems.join())
  const tokens = await createTestTokens({ keyring })
  const issued = await tokens.issue({
    type: 'access',
    sub: '7',
    username: '201',
    role: 'user',
    sid: 's',
    jti: 'j',
    iat: NOW,
    exp: NOW + 900,
  })
  t.match(decodeProtectedHeader(issued), { kid: keyring.signing.kid })
  t.match(await tokens.verify(issued), { username: '201' })
})

const TWICE = 'names a member twice in one object: take out the one that does not count'

void t.test('what is no key set is refused', async (t) => {
  const rows: readonly (readonly [text: string, problems: readonly string[]])[] = [
    ['', ['is not JSON']],
    ['{', ['is not JSON']],
    ['null', ['is not a JWK Set: an object with a list "keys"']],
    ['[]', ['is not a JWK Set: an object with a list "keys"']],
    ['"keys"', ['is not a JWK Set: an object with a list "keys"']],
    ['{}', ['is not a JWK Set: an object with a list "keys"']],
    ['{"keys":{}}', ['is not a JWK Set: an object with a list "keys"']],
    [`{"keys":[],${keySet(jwk('a')).slice(1)}`, [TWICE]],
    [keySet(jwk('a')).replace('"k":', '"k":"AAAA","\\u006b":'), [TWICE]],
    ['{"keys":[]}', ['holds no key']], // an empty list lets nobody in
    [JSON.stringify(jwk('a')), ['is not a JWK Set: an object with a list "keys"']],
  ]
  for (const [text, problems] of rows) t.same(await problemsOf(text), problems, text)
})

const SHORT = 'HS256 needs at least 32 random bytes (RFC 7518 §3.2)'
const LOOKALIKE =
  'has a "k" that looks like hex digits or words: put random bytes there in base64url'
const NO_SECRET = 'has no secret "k" in base64url'

void t.test('a secret that could be guessed is refused, with the rule', async (t) => {
  const word = Buffer.alloc(32, 'password')
  const bytes31 = secretOf('a').subarray(0, 31)
  const rows: readonly (readonly [what: string, k: unknown, problem: string])[] = [
    ['31 bytes', encoded(bytes31), `is 31 bytes long: ${SHORT}`],
    ['1 byte', 'AA', `is 1 bytes long: ${SHORT}`],
    ['no whole byte', 'A', `is 0 bytes long: ${SHORT}`],
    ['empty', '', NO_SECRET],
    ['absent', undefined, NO_SECRET],
    ['a number', 7, NO_SECRET],
    ['raw bytes', bytes31.toString('latin1'), NO_SECRET],
    ['base64', `${secretOf('a').toString('base64')}+/`, NO_SECRET],
    ['31 bytes in hex', bytes31.toString('hex'), LOOKALIKE],
    ['32 bytes in hex', secretOf('a').toString('hex'), LOOKALIKE],
    ['32 bytes in HEX', secretOf('a').toString('hex').toUpperCase(), LOOKALIKE],
    ['words for k', 'correct-horse-battery-staple-correct-horse-battery', LOOKALIKE],
    ['32 zeros', encoded(Buffer.alloc(32)), 'repeats itself: it is not random'],
    ['32 times one value', encoded(Buffer.alloc(32, 0xa7)), 'repeats itself: it is not random'],
    [
      'a word, padded',
      encoded(Buffer.from('dictionary'.padEnd(32, '\0'))),
      'repeats itself: it is not random',
    ],
    ['a word, repeated', encoded(word), 'repeats itself: it is not random'],
    [
      'a passphrase',
      encoded(Buffer.from('correct horse battery staple, and more words')),
      'is plain text: a word or passphrase can be guessed (RFC 8725 §3.5)',
    ],
    [
      'hex digits as bytes',
      encoded(Buffer.from(secretOf('a').toString('hex'))),
      'is plain text: a word or passphrase can be guessed (RFC 8725 §3.5)',
    ],
    [
      'the key of RFC 7515 A.1',
      'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
      'is printed in a public document: anybody can sign with it',
    ],
    [
      'the key of RFC 7520 §3.5',
      'hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg',
      'is printed in a public document: anybody can sign with it',
    ],
  ]
  for (const [what, k, problem] of rows) {
    t.same(await problemsOf(keySet(jwk('a', { k }))), [`key 1 (a) ${problem}`], what)
  }
})

const KNOWN = [
  'your-256-bit-secret',
  'a-string-secret-at-least-256-bits-long',
  'super-secret-jwt-token-with-at-least-32-characters-long',
  'SecretKey012345678901234567890123456789012345678901234567890123456789',
  'ThisIsMySuperSecretKeyForJwtTokens',
  'Ein langes Geheimnis für die Prüfung, und noch ein Wort',
]
const RFC_7515 = Buffer.from(
  'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
  'base64url',
)

void t.test('a published secret is refused in whatever form it was copied', async (t) => {
  const forms: readonly ((secret: Buffer) => Buffer)[] = [
    (secret) => secret,
    (secret) => Buffer.concat([secret, Buffer.from('\n')]),
    (secret) => Buffer.concat([secret, Buffer.from('\r\n')]),
    (secret) => Buffer.concat([secret, Buffer.alloc(64)]).subarray(0, 64), // HMAC's own padding
    (secret) => Buffer.concat([secret, Buffer.alloc(8, 8)]), // PKCS #7
    (secret) => Buffer.concat([secret, Buffer.alloc(9, 0xff)]),
    (secret) => Buffer.from(secret.toString('base64')),
    (secret) => Buffer.from(secret.toString('hex')),
  ]
  const texts = KNOWN.flatMap((text) => [
    Buffer.from(text),
    Buffer.from(text, 'utf16le'),
    Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, 'utf16le')]),
  ])
  for (const secret of [...texts.filter((text) => !text.includes(0xfc)), RFC_7515]) {
    for (const [at, form] of forms.entries()) {
      const bytes = form(secret)
      const found = await problemsOf(keySet(jwk('a', { k: encoded(bytes) })))
      t.equal(found.length, 1, `form ${at} of ${secret.toString('latin1')}`)
    }
  }
  t.equal((await problemsOf(keySet(jwk('a', { k: encoded(RFC_7515.subarray(0, 32)) })))).length, 1)
  // The text itself where base64url belongs: it decodes to what looks random.
  for (const k of KNOWN.slice(0, 5)) {
    t.equal((await problemsOf(keySet(jwk('a', { k })))).length, 1, k)
  }
})

void t.test('a published key pair is refused', async (t) => {
  const d = 'nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A'
  const x = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo'
  const pair = { kty: 'OKP', crv: 'Ed25519', kid: 'a', alg: 'EdDSA', d, x }
  t.same(await problemsOf(keySet(pair)), [
    'key 1 (a) is printed in a public document: anybody can sign with it',
  ])
})

void t.test('no key that was made at random is refused', async (t) => {
  const keys = Array.from({ length: 2000 }, (_, i) => jwk(`k${i}`, { k: encoded(randomBytes(32)) }))
  t.same(await problemsOf(keySet(...keys)), [])
  t.same(await problemsOf(keySet(jwk('a', { k: encoded(randomBytes(64)) }))), [], '64 bytes')
})

const NOT_OURS = 'is none of HS256, EdDSA, ES256, RS256 with the kty and crv that belong to it'

void t.test('no other kind of key or algorithm is taken', async (t) => {
  const rows: readonly (readonly [what: string, changes: Readonly<Record<string, unknown>>])[] = [
    ['RSA without alg', { kty: 'RSA', alg: undefined, n: 'AAAA', e: 'AQAB' }],
    ['RSA under RS512', { kty: 'RSA', alg: 'RS512', n: 'AAAA', e: 'AQAB' }],
    ['EC on another curve', { kty: 'EC', alg: 'ES256', crv: 'P-384', x: 'AAAA', y: 'AAAA' }],
    ['ES256 without a curve', { kty: 'EC', alg: 'ES256', x: 'AAAA', y: 'AAAA' }],
    ['EdDSA under ES256', { kty: 'OKP', alg: 'ES256', crv: 'Ed25519', x: 'AAAA' }],
    ['an RSA key under HS256', { kty: 'RSA' }],
    ['HS384', { alg: 'HS384' }],
    ['HS512', { alg: 'HS512' }],
    ['none', { alg: 'none' }],
    ['no alg', { alg: undefined }],
    ['lower case', { alg: 'hs256' }],
    ['no kty', { kty: undefined }],
    ['a list', { alg: ['HS256'] }],
    ['a cipher', { alg: 'A256GCM' }],
  ]
  for (const [what, changes] of rows) {
    const problems = await problemsOf(keySet(jwk('a', changes)))
    t.same(problems, [`key 1 (a) ${NOT_OURS}`], what)
  }
})

void t.test('a kid is what a header can carry and nothing else', async (t) => {
  for (const kid of [undefined, null, 7, '', 'a b', '../a', 'ключ', 'a'.repeat(65), ['a'], 'a\n']) {
    t.same(
      await problemsOf(keySet(jwk('a', { kid }))),
      ['key 1 has no usable kid: 1 to 64 letters, digits, - or _'],
      JSON.stringify(kid),
    )
  }
  t.same(await problemsOf(keySet(jwk('k'.repeat(64)))), [])
})

void t.test('two keys of one kid are refused', async (t) => {
  const twins = keySet(jwk('a'), jwk('a', { k: encoded(secretOf('b')) }))
  t.same(await problemsOf(twins), ['key 2 has the kid a of another key'])
  t.same(await problemsOf(keySet(jwk('a'), jwk('b'), jwk('a'))), [
    'key 3 has the kid a of another key',
  ])
})

void t.test('every problem is named at once, and no key material with it', async (t) => {
  const secret = encoded(secretOf('a').subarray(0, 20))
  const text = keySet(
    7,
    null,
    ['a'],
    jwk('a', { k: secret }),
    jwk('b', { alg: 'none' }),
    jwk('good'),
  )
  const problems = await problemsOf(text)
  t.same(problems, [
    'key 1 is not an object',
    'key 2 is not an object',
    'key 3 is not an object',
    `key 4 (a) is 20 bytes long: ${SHORT}`,
    `key 5 (b) ${NOT_OURS}`,
  ])
  t.notOk(problems.join('').includes(secret))
})

const issueWith = async (text: string) => {
  const keyring = await parseKeyring(text)
  if ('problems' in keyring) throw new Error(keyring.problems.join())
  const tokens = await createTestTokens({ keyring })
  const issued = await tokens.issue({
    type: 'access',
    sub: '7',
    username: '201',
    role: 'user',
    sid: 's',
    jti: 'j',
    iat: NOW,
    exp: NOW + 900,
  })
  return { keyring, tokens, issued }
}

void t.test('each algorithm signs and verifies, and only under its own kid', async (t) => {
  const keys = ALGORITHMS.map((alg) => generateKey(alg, NOW))
  for (const [index, alg] of ALGORITHMS.entries()) {
    const rest = keys.filter((_, at) => at !== index)
    const { keyring, tokens, issued } = await issueWith(formatKeySet([keys[index], ...rest]))
    t.equal(keyring.signing.alg, alg)
    t.equal(keyring.signing.created, NOW)
    t.match(decodeProtectedHeader(issued), { alg, kid: keyring.signing.kid })
    t.match(await tokens.verify(issued), { username: '201' }, alg)
    const [, payload, signature] = issued.split('.')
    for (const other of keyring.byKid.values()) {
      if (other.alg === alg) continue
      const head = encoded(Buffer.from(JSON.stringify(header({ kid: other.kid, alg: other.alg }))))
      t.same(
        await tokens.verify([head, payload, signature].join('.')),
        { refused: 'bad_signature' },
        `${alg} under the kid of ${other.alg}`,
      )
    }
  }
})

void t.test('no public key is ever taken for the secret of an HMAC', async (t) => {
  for (const alg of ['RS256', 'ES256', 'EdDSA'] as const) {
    const pair = pairOf(alg, 'a')
    const { tokens } = await issueWith(keySet(pair.jwk))
    const open = createPublicKey(pair.privateKey)
    const pem = open.export({ format: 'pem', type: 'spki' }).toString()
    const secrets: readonly (readonly [string, Buffer])[] = [
      ['PEM', Buffer.from(pem)],
      ['PEM without its line feed', Buffer.from(pem.trim())],
      ['PEM after a blank', Buffer.from(` ${pem}`)],
      ['PEM after a line feed', Buffer.from(`\n${pem}`)],
      ['DER', open.export({ format: 'der', type: 'spki' })],
      ['JWK', Buffer.from(JSON.stringify(open.export({ format: 'jwk' })))],
    ]
    for (const [what, key] of secrets) {
      const forged = token({ header: header({ kid: 'a' }), key })
      t.same(await tokens.verify(forged), { refused: 'bad_signature' }, `${alg}, ${what}`)
    }
  }
})

void t.test('a retired key verifies and never signs', async (t) => {
  const { keyring, tokens } = await issueWith(
    keySet(jwk('old', { retired: NOW, created: 7 }), jwk('new')),
  )
  t.equal(keyring.signing.kid, 'new')
  t.match(keyring.byKid.get('old'), { retired: NOW, created: 7 })
  const verdict = await tokens.verify(
    token({ header: header({ kid: 'old' }), key: secretOf('old') }),
  )
  t.match(verdict, { username: '201' })
  t.same(await problemsOf(keySet(jwk('a', { retired: NOW }))), [
    'holds retired keys only, and none signs: take "retired" off one of them',
  ])
})

void t.test('what stands beside a key must make sense', async (t) => {
  const rows: readonly (readonly [Record<string, unknown>, string])[] = [
    [{ use: 'enc' }, 'has a use other than sig'],
    [{ key_ops: ['verify'] }, 'has key_ops that do not let it sign'],
    [{ key_ops: ['encrypt', 'decrypt'] }, 'has key_ops that do not let it sign'],
    [{ key_ops: 'sign' }, 'has key_ops that do not let it sign'],
    [{ retired: 'yes' }, 'has a "retired" that is not in whole Unix seconds'],
    [{ retired: null }, 'has a "retired" that is not in whole Unix seconds'],
    [{ created: 1.5 }, 'has a "created" that is not in whole Unix seconds'],
  ]
  for (const [changes, problem] of rows) {
    t.same(await problemsOf(keySet(jwk('a', changes))), [`key 1 (a) ${problem}`])
  }
  t.same(await problemsOf(keySet(jwk('a', { use: undefined }))), [])
})

void t.test('a pair of which half is missing or another is refused', async (t) => {
  const { jwk: good, open } = pairOf('ES256', 'a')
  t.match(await problemsOf(keySet(open)), [/^key 1 \(a\) lacks its private part: d$/])
  t.match(await problemsOf(keySet({ ...good, x: undefined })), [/^key 1 \(a\) lacks crv, x, y/])
})

void t.test('others see the public half of asymmetric keys, and nothing of a secret', async (t) => {
  const pairs = [pairOf('EdDSA', 'e'), pairOf('RS256', 'r')]
  const { keyring } = await issueWith(
    keySet(
      jwk('h'),
      ...pairs.map((pair) => ({ ...pair.jwk, retired: NOW })),
      pairOf('ES256', 'p').jwk,
    ),
  )
  const { keys } = publicKeySet(keyring)
  t.same(
    keys.map(({ kid }) => kid),
    ['e', 'r', 'p'],
  )
  t.same(keys[0], pairs[0]?.open)
  t.same(keys[1], pairs[1]?.open)
  t.same(publicKeySet((await issueWith(keySet(jwk('h')))).keyring), { keys: [] })
})
