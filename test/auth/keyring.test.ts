// Which keys may sign, and what is said of the others: never a byte of a secret.

import { randomBytes } from 'node:crypto'
import t from 'tap'
import { decodeProtectedHeader } from 'jose'
import { generateKeySet, parseKeyring } from '../../src/auth/keyring.ts'
import { NOW } from '../fixtures/clock.ts'
import { jwk, keySet, secretOf } from '../fixtures/keys.ts'
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

void t.test('what is no key set is refused', async (t) => {
  const rows: readonly (readonly [text: string, problems: readonly string[]])[] = [
    ['', ['is not JSON']],
    ['{', ['is not JSON']],
    ['null', ['is not a JWK Set: an object with a list "keys"']],
    ['[]', ['is not a JWK Set: an object with a list "keys"']],
    ['"keys"', ['is not a JWK Set: an object with a list "keys"']],
    ['{}', ['is not a JWK Set: an object with a list "keys"']],
    ['{"keys":{}}', ['is not a JWK Set: an object with a list "keys"']],
    ['{"keys":[]}', ['holds no key']], // S200: an empty list lets nobody in
    [JSON.stringify(jwk('a')), ['is not a JWK Set: an object with a list "keys"']],
  ]
  for (const [text, problems] of rows) t.same(await problemsOf(text), problems, text)
})

const SHORT = 'HS256 needs at least 32 random bytes (RFC 7518 §3.2)'
const LOOKALIKE =
  'has a "k" that looks like hex digits or words: put random bytes there in base64url'
const NO_SECRET = 'has no secret "k" in base64url'

void t.test('S193: a secret that could be guessed is refused, with the rule', async (t) => {
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

void t.test('no key that was made at random is refused', async (t) => {
  const keys = Array.from({ length: 2000 }, (_, i) => jwk(`k${i}`, { k: encoded(randomBytes(32)) }))
  t.same(await problemsOf(keySet(...keys)), [])
  t.same(await problemsOf(keySet(jwk('a', { k: encoded(randomBytes(64)) }))), [], '64 bytes')
})

void t.test('S8 S200: no other kind of key or algorithm is taken', async (t) => {
  const rows: readonly (readonly [what: string, changes: Readonly<Record<string, unknown>>])[] = [
    ['RSA', { kty: 'RSA', alg: 'RS256', n: 'AAAA', e: 'AQAB' }],
    ['EC', { kty: 'EC', alg: 'ES256', crv: 'P-256', x: 'AAAA', y: 'AAAA' }],
    ['OKP', { kty: 'OKP', alg: 'EdDSA', crv: 'Ed25519', x: 'AAAA' }],
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
    t.same(problems, ['key 1 (a) is not kty oct with alg HS256'], what)
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

void t.test('S197: two keys of one kid are refused', async (t) => {
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
    'key 5 (b) is not kty oct with alg HS256',
  ])
  t.notOk(problems.join('').includes(secret))
})
