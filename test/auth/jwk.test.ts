// One key, one algorithm: what is taken for a key of it, and what is said of the others.

import { generateKeyPairSync } from 'node:crypto'
import t from 'tap'
import {
  algorithmOf,
  ASYMMETRIC,
  generateJwk,
  importPrivate,
  importPublic,
} from '../../src/auth/jwk.ts'
import { pairOf } from '../fixtures/pairs.ts'

const PAIRS = new Map(ASYMMETRIC.map((alg) => [alg, pairOf(alg, `key-${alg}`)]))
const jwkOf = (alg: (typeof ASYMMETRIC)[number]): Record<string, unknown> => ({
  ...PAIRS.get(alg)?.jwk,
})

void t.test('the algorithm is told by kty and crv, and alg may only agree', async (t) => {
  for (const alg of ASYMMETRIC) {
    const jwk = jwkOf(alg)
    t.equal(algorithmOf(jwk), alg)
    t.equal(algorithmOf({ ...jwk, alg: undefined }), alg, 'without alg')
  }
  const rows: readonly (readonly [what: string, jwk: Record<string, unknown>])[] = [
    ['HS256 on an RSA key', { ...jwkOf('RS256'), alg: 'HS256' }],
    ['RS384', { ...jwkOf('RS256'), alg: 'RS384' }],
    ['PS256', { ...jwkOf('RS256'), alg: 'PS256' }],
    ['ES256 on an RSA key', { ...jwkOf('RS256'), alg: 'ES256' }],
    ['another curve', { ...jwkOf('ES256'), crv: 'P-384' }],
    ['Ed448', { ...jwkOf('EdDSA'), crv: 'Ed448' }],
    ['X25519', { kty: 'OKP', crv: 'X25519' }],
    ['a secret', { kty: 'oct', alg: 'HS256', k: 'AA' }],
    ['none', { ...jwkOf('RS256'), alg: 'none' }],
    ['nothing', {}],
  ]
  for (const [what, jwk] of rows) t.equal(algorithmOf(jwk), undefined, what)
})

void t.test('both halves of a pair are taken, and neither can be read back', async (t) => {
  for (const alg of ASYMMETRIC) {
    const jwk = jwkOf(alg)
    const open = await importPublic(jwk, alg)
    if ('problem' in open) throw new Error(open.problem)
    t.notOk('d' in open.open, 'nothing of the private part')
    t.same(open.key.usages, ['verify'])
    const secret = await importPrivate(jwk, alg, open.key)
    if ('problem' in secret) throw new Error(secret.problem)
    t.same(secret.key.usages, ['sign'])
    t.notOk(secret.key.extractable)
  }
})

void t.test('what is no public key is refused', async (t) => {
  const weak = (bits: number) => pairOf('RS256', 'a', bits).open
  const even = { ...jwkOf('RS256'), e: Buffer.from([1, 0, 2]).toString('base64url') }
  const three = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 })
  const rows: readonly (readonly [
    what: string,
    alg: (typeof ASYMMETRIC)[number],
    jwk: Record<string, unknown>,
    problem: RegExp,
  ])[] = [
    ['no modulus', 'RS256', { ...jwkOf('RS256'), n: undefined }, /lacks n, e in base64url/],
    ['base64', 'RS256', { ...jwkOf('RS256'), n: 'a+b=' }, /lacks n, e in base64url/],
    ['1024 bits', 'RS256', weak(1024), /has 1024 bits: RS256 needs at least 2048/],
    [
      '9216 bits',
      'RS256',
      { kty: 'RSA', e: 'AQAB', n: Buffer.alloc(1152, 0xa7).toString('base64url') },
      /has 9216 bits: 8192 are the most/,
    ],
    ['e = 1', 'RS256', { ...jwkOf('RS256'), e: 'AQ' }, /weak public exponent|do not fit/],
    ['e = 3', 'RS256', { ...three.publicKey.export({ format: 'jwk' }) }, /weak public exponent/],
    ['an even e', 'RS256', even, /weak public exponent|do not fit/],
    [
      'no point of the curve',
      'ES256',
      { ...jwkOf('ES256'), y: jwkOf('ES256')['x'] },
      /is no ES256 key/,
    ],
    ['no y', 'ES256', { ...jwkOf('ES256'), y: undefined }, /lacks crv, x, y/],
    ['a short x', 'EdDSA', { ...jwkOf('EdDSA'), x: 'AAAA' }, /is no EdDSA key/],
  ]
  for (const [what, alg, jwk, problem] of rows) {
    const found = await importPublic(jwk, alg)
    t.match('problem' in found ? found.problem : 'taken', problem, what)
  }
})

void t.test('a private half belongs to its public one', async (t) => {
  for (const alg of ASYMMETRIC) {
    const jwk = jwkOf(alg)
    const open = await importPublic(jwk, alg)
    const other = await importPublic(pairOf(alg, 'other').jwk, alg)
    if ('problem' in open || 'problem' in other) throw new Error('no key')
    t.match(await importPrivate({ ...jwk, d: undefined }, alg, open.key), {
      problem: /lacks its private part: d/,
    })
    const broken = alg === 'RS256' ? { q: 'AAAA' } : { d: 'AAAA' } // RSA signs by its primes
    t.match(await importPrivate({ ...jwk, ...broken }, alg, open.key), { problem: /\w/ })
    t.match(await importPrivate(jwk, alg, other.key), {
      problem: 'has a private part that belongs to another public one',
    })
  }
})

void t.test('a generated pair is good, and another one each time', async (t) => {
  for (const alg of ASYMMETRIC) {
    const jwk = generateJwk(alg)
    t.equal(algorithmOf(jwk), alg)
    const open = await importPublic(jwk, alg)
    if ('problem' in open) throw new Error(open.problem)
    t.match(await importPrivate(jwk, alg, open.key), { key: Object })
    t.not(generateJwk(alg)['d'], jwk['d'])
  }
})
