// One JSON Web Key of an asymmetric algorithm → a CryptoKey. The algorithm is the key's, never the token's
// (RFC 8725bis §3.1): a public key must never be taken for the secret of an HMAC.

import { generateKeyPairSync, type KeyObject, webcrypto } from 'node:crypto'

/** For our own keys and trusted issuers': whoever verifies with these cannot sign. */
export const ASYMMETRIC = ['EdDSA', 'ES256', 'RS256'] as const
export type Asymmetric = (typeof ASYMMETRIC)[number]

export type Jwk = Readonly<Record<string, unknown>>

/** A key as a stranger may see it. */
export type PublicJwk = Readonly<Record<string, string>>

/** What verifies one kid's tokens. */
export interface VerifyingKey {
  readonly kid: string
  readonly alg: 'HS256' | Asymmetric
  /** Imported once: jose takes 52 µs with a CryptoKey and 101 µs with bytes. */
  readonly key: webcrypto.CryptoKey
}

interface Kind {
  readonly kty: string
  readonly crv?: string
  /** Members beside kty: those of a public key, and those that a private one adds. */
  readonly open: readonly string[]
  readonly secret: readonly string[]
  readonly params: Readonly<Record<string, unknown>> & { readonly name: string }
}

const KINDS: Readonly<Record<Asymmetric, Kind>> = {
  EdDSA: {
    kty: 'OKP',
    crv: 'Ed25519',
    open: ['crv', 'x'],
    secret: ['d'],
    params: { name: 'Ed25519' },
  },
  ES256: {
    kty: 'EC',
    crv: 'P-256',
    open: ['crv', 'x', 'y'],
    secret: ['d'],
    params: { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  },
  RS256: {
    kty: 'RSA',
    open: ['n', 'e'],
    secret: ['d', 'p', 'q', 'dp', 'dq', 'qi'],
    params: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  },
}

const MIN_BITS = 2048 // RFC 7518 §3.3
const MAX_BITS = 8192 // one verification takes 1 ms there, and grows with the square
const MIN_EXPONENT = 65_537n // NIST SP 800-56B §6.2; with e = 1 every message is its own signature
export const BASE64URL = /^[A-Za-z0-9_-]+$/

/** The one algorithm that this key may be used with; undefined where that is none of ours. */
export const algorithmOf = (jwk: Jwk): Asymmetric | undefined => {
  const { kty, crv, alg } = jwk as Record<'kty' | 'crv' | 'alg', unknown>
  const found = ASYMMETRIC.find((name) => KINDS[name].kty === kty && KINDS[name].crv === crv)
  return alg === undefined || alg === found ? found : undefined
}

/** Whether `key_ops` (RFC 7517 §4.3), where there is one, says that the key may do this. */
export const mayBeUsed = (operations: unknown, operation: 'sign' | 'verify'): boolean =>
  operations === undefined || (Array.isArray(operations) && operations.includes(operation))

const pick = (jwk: Jwk, names: readonly string[]): Record<string, string> | undefined => {
  const members = names.map((name) => [name, jwk[name]] as const)
  const whole = members.every(([, value]) => typeof value === 'string')
  return whole ? (Object.fromEntries(members) as Record<string, string>) : undefined
}

const exponentOf = (e = ''): bigint => BigInt(`0x0${Buffer.from(e, 'base64url').toString('hex')}`)

const importAs = async (
  { kty, params }: Kind,
  members: Readonly<Record<string, string>>,
  usage: 'sign' | 'verify',
): Promise<webcrypto.CryptoKey | undefined> => {
  try {
    return await webcrypto.subtle.importKey('jwk', { kty, ...members }, params, false, [usage])
  } catch {
    return undefined // OpenSSL's own words may quote the key
  }
}

/** The verifying half, or what is wrong with it, as the end of a sentence. */
export const importPublic = async (
  jwk: Jwk,
  alg: Asymmetric,
): Promise<{ key: webcrypto.CryptoKey; open: PublicJwk } | { problem: string }> => {
  const kind = KINDS[alg]
  const open = pick(jwk, kind.open)
  if (!open || !Object.entries(open).every(([name, v]) => name === 'crv' || BASE64URL.test(v))) {
    return { problem: `lacks ${kind.open.join(', ')} in base64url` }
  }
  const key = await importAs(kind, open, 'verify')
  if (!key) return { problem: `is no ${alg} key: its members do not fit together` }
  if (alg === 'RS256') {
    const bits = (key.algorithm as webcrypto.RsaHashedKeyAlgorithm).modulusLength
    const exponent = exponentOf(open['e'])
    if (bits < MIN_BITS) {
      return { problem: `has ${bits} bits: RS256 needs at least ${MIN_BITS} (RFC 7518 §3.3)` }
    }
    if (bits > MAX_BITS) return { problem: `has ${bits} bits: ${MAX_BITS} are the most` }
    if (exponent < MIN_EXPONENT || exponent % 2n === 0n) {
      return { problem: 'has a weak public exponent: 65537 (AQAB) is the one to use' }
    }
  }
  return { key, open: { kty: kind.kty, ...open } }
}

const PROBE = new Uint8Array(32)

/** The signing half that belongs to `open`, or what is wrong with it. */
export const importPrivate = async (
  jwk: Jwk,
  alg: Asymmetric,
  verifying: webcrypto.CryptoKey,
): Promise<{ key: webcrypto.CryptoKey } | { problem: string }> => {
  const kind = KINDS[alg]
  const members = pick(jwk, [...kind.open, ...kind.secret])
  if (!members) return { problem: `lacks its private part: ${kind.secret.join(', ')}` }
  const key = await importAs(kind, members, 'sign')
  if (!key) return { problem: `is no ${alg} key: its members do not fit together` }
  // Halves of two different keys load too: nobody could verify what they sign, and all would be logged out.
  const fits = await webcrypto.subtle
    .sign(kind.params, key, PROBE)
    .then((signature) => webcrypto.subtle.verify(kind.params, verifying, signature, PROBE))
    .catch(() => false) // an RSA key whose primes are none
  return fits ? { key } : { problem: 'has a private part that belongs to another public one' }
}

/** A fresh key pair as a private JWK. */
export const generateJwk = (alg: Asymmetric): Jwk => GENERATE[alg]().export({ format: 'jwk' })

const GENERATE: Readonly<Record<Asymmetric, () => KeyObject>> = {
  EdDSA: () => generateKeyPairSync('ed25519').privateKey,
  ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
  RS256: () => generateKeyPairSync('rsa', { modulusLength: 3072 }).privateKey, // 128 bits (SP 800-57)
}
