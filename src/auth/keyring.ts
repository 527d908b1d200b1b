// The keys that sign and verify, as values. A key is used with exactly one algorithm (RFC 8725bis §3.1),
// and none is ever made up silently: a token signed by a key that dies with the process looks fine until
// the next restart logs everybody out.

import { createHash, randomBytes, timingSafeEqual, webcrypto } from 'node:crypto'

export interface Key {
  readonly kid: string
  readonly alg: 'HS256'
  /** Imported once: jose takes 52 µs with a CryptoKey and 101 µs with bytes. */
  readonly key: webcrypto.CryptoKey
}

export interface Keyring {
  /** Signs what is issued from now on: the first of the set. */
  readonly signing: Key
  readonly byKid: ReadonlyMap<string, Key>
}

const MIN_BYTES = 32 // RFC 7518 §3.2: a key at least as long as the hash output
const KID = /^[A-Za-z0-9_-]{1,64}$/
const BASE64URL = /^[A-Za-z0-9_-]+$/

// Keys that stand in a document everybody can read, by their SHA-256: RFC 7515 A.1, RFC 7520 §3.5,
// and the secrets that JWT tutorials and debuggers come with.
const PUBLIC_KNOWLEDGE = [
  'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
  'hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg',
].map((k) => Buffer.from(k, 'base64url'))

const fingerprint = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()
const publicFingerprints = PUBLIC_KNOWLEDGE.map(fingerprint)

/** Why no attacker must be assumed not to have this secret, or undefined where nothing speaks against it. */
const weakness = (bytes: Uint8Array): string | undefined => {
  if (bytes.length < MIN_BYTES) {
    return `is ${bytes.length} bytes long: HS256 needs at least ${MIN_BYTES} random bytes (RFC 7518 §3.2)`
  }
  const print = fingerprint(bytes)
  if (publicFingerprints.some((known) => timingSafeEqual(known, print))) {
    return 'is printed in a public document: anybody can sign with it'
  }
  // 32 random bytes hold fewer than 16 different values with a chance below 10^-12.
  if (new Set(bytes).size < 16) return 'repeats itself: it is not random'
  // All of 32 random bytes are printable with a chance of 10^-14; words and hex digits always are.
  if (bytes.every((byte) => byte >= 0x20 && byte < 0x7f)) {
    return 'is plain text: a word or passphrase can be guessed (RFC 8725 §3.5)'
  }
  return undefined
}

// 43 random letters of base64url hold no capital, or no small letter, with a chance below 10^-9. Hex digits
// and passphrases pass for base64url and decode to bytes that look random, but were guessable or meant otherwise.
const lookalike = (k: string): string | undefined =>
  /[A-Z]/.test(k) && /[a-z]/.test(k)
    ? undefined
    : 'has a "k" that looks like hex digits or words: put random bytes there in base64url'

const importSecret = (secret: Uint8Array<ArrayBuffer>): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
    'verify',
  ])

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The keys of a JWK Set (RFC 7517 §5), or every problem in it. No problem text holds key material. */
export const parseKeyring = async (text: string): Promise<Keyring | { problems: string[] }> => {
  let set: unknown
  try {
    set = JSON.parse(text)
  } catch {
    return { problems: ['is not JSON'] }
  }
  const list = isRecord(set) ? set['keys'] : undefined
  if (!Array.isArray(list)) return { problems: ['is not a JWK Set: an object with a list "keys"'] }
  const problems: string[] = []
  const found: Key[] = []
  const kids = new Set<string>()
  for (const [index, jwk] of (list as unknown[]).entries()) {
    const problem = (what: string): void => {
      problems.push(`key ${index + 1} ${what}`)
    }
    if (!isRecord(jwk)) {
      problem('is not an object')
      continue
    }
    const { kid, kty, alg, k } = jwk as Record<'kid' | 'kty' | 'alg' | 'k', unknown>
    if (typeof kid !== 'string' || !KID.test(kid)) {
      problem('has no usable kid: 1 to 64 letters, digits, - or _')
      continue
    }
    if (kids.has(kid)) problem(`has the kid ${kid} of another key`)
    kids.add(kid)
    if (kty !== 'oct' || alg !== 'HS256') {
      problem(`(${kid}) is not kty oct with alg HS256`)
      continue
    }
    if (typeof k !== 'string' || !BASE64URL.test(k)) {
      problem(`(${kid}) has no secret "k" in base64url`)
      continue
    }
    const secret = Buffer.from(k, 'base64url')
    const weak = weakness(secret) ?? lookalike(k)
    if (weak) {
      problem(`(${kid}) ${weak}`)
      continue
    }
    found.push({ kid, alg: 'HS256', key: await importSecret(secret) })
  }
  const [signing] = found
  if (problems.length > 0) return { problems }
  if (!signing) return { problems: ['holds no key'] }
  return { signing, byKid: new Map(found.map((key) => [key.kid, key])) }
}

/** A JWK Set with one fresh HS256 key, as the text of the file. */
export const generateKeySet = (): string => {
  const kid = randomBytes(9).toString('base64url')
  const k = randomBytes(MIN_BYTES).toString('base64url')
  return `${JSON.stringify({ keys: [{ kty: 'oct', kid, alg: 'HS256', use: 'sig', k }] }, undefined, 2)}\n`
}
