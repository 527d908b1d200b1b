// The keys that sign and verify, as values. A key is used with exactly one algorithm (RFC 8725bis §3.1),
// and none is ever generated silently: tokens signed by a key that dies with the process look fine until the next
// restart logs everybody out.

import { isUtf8 } from 'node:buffer'
import { randomBytes, webcrypto } from 'node:crypto'

import { isId, isInstant } from './claims.ts'
import {
  algorithmOf,
  type Asymmetric,
  ASYMMETRIC,
  BASE64URL,
  generateJwk,
  importPrivate,
  importPublic,
  type Jwk,
  mayBeUsed,
  type PublicJwk,
  type VerifyingKey,
} from './jwk.ts'
import { hasDuplicateNames } from './strict-json.ts'

export const ALGORITHMS = ['HS256', ...ASYMMETRIC] as const
export type Algorithm = (typeof ALGORITHMS)[number]

export interface Key extends VerifyingKey {
  /** Unix seconds, where the file says so. */
  readonly created?: number
  /** Since then it signs nothing; what it signed before still counts. */
  readonly retired?: number
  /** Only of an asymmetric key: what others may verify our tokens with. */
  readonly open?: PublicJwk
}

/** The signing half; for HS256 the same key verifies. */
export type SigningKey = Pick<Key, 'kid' | 'alg' | 'key' | 'created'>

export interface Keyring {
  /** Signs all new tokens: the first of the set that is not retired. */
  readonly signing: SigningKey
  readonly byKid: ReadonlyMap<string, Key>
}

const MIN_BYTES = 32 // RFC 7518 §3.2: a key at least as long as the hash output

// Keys printed in RFC 7515 A.1, RFC 7520 §3.5 and §3.6. The secrets of tutorials are words, which are refused as such.
const PUBLISHED_SECRETS = [
  'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
  'hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg',
  'AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8',
].map((k) => Buffer.from(k, 'base64url'))

// How "d" begins in the key pairs printed in RFC 7515 A.2 and A.3, RFC 7517 A.2 and RFC 8037 A.1.
const PUBLISHED_PRIVATE = [
  'Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ul',
  'jpsQnnGQmL-YBIffH1136cspYG6-0iY',
  '870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4',
  'X4cTteJY_gn4FYPsXB8rdXix5vwsg1F',
  'nWGxne_9WmC6hEr0kuwsxERJxWl7Mmk',
]
const PUBLISHED = 'is printed in a public document: anybody can sign with it'

/** Also one with a line break or padding, or cut to the length that is asked for. */
const isPublished = (bytes: Buffer): boolean =>
  PUBLISHED_SECRETS.some((known) => bytes.includes(known) || known.includes(bytes))

const PADDING = /^(?:\xff\xfe|\xfe\xff)|(.)\1{3,}$/gs // the mark of UTF-16, and one byte at least four times

/**
 * UTF-8, which ASCII, UTF-16 of it, and text with line breaks or zeroes are as well. 32 random bytes are valid UTF-8
 * by a chance below 10^-8.
 */
const isText = (bytes: Buffer): boolean =>
  isUtf8(Buffer.from(bytes.toString('latin1').replaceAll(PADDING, ''), 'latin1'))

/** Why this secret must be assumed known, or undefined where nothing speaks against it. */
const weakness = (bytes: Buffer): string | undefined => {
  if (bytes.length < MIN_BYTES) {
    return `is ${bytes.length} bytes long: HS256 needs at least ${MIN_BYTES} random bytes (RFC 7518 §3.2)`
  }
  if (isPublished(bytes)) return PUBLISHED
  // The chance that 32 random bytes have fewer than 16 different values is below 10^-12.
  if (new Set(bytes).size < 16) return 'repeats itself: it is not random'
  if (isText(bytes)) {
    return 'is plain text: a word or passphrase can be guessed (RFC 8725 §3.5)'
  }
  return undefined
}

// The chance that 43 random base64url characters have one of these in them is below 10^-7.
const WORDS =
  /secret|password|private|changeme|example|default|signing|develop|letmein|postern|mikopbx|12345678|abcdefgh|qwertyui/i

// The chance that 43 random base64url characters have no capital, or no small letter, is below 10^-9. Hex digits and
// passphrases are valid base64url too, and decode to bytes that look random but may be guessable.
const lookalike = (k: string): string | undefined =>
  /[A-Z]/.test(k) && /[a-z]/.test(k) && !WORDS.test(k)
    ? undefined
    : 'has a "k" that looks like hex digits or words: put random bytes there in base64url'

const importSecret = (secret: Uint8Array<ArrayBuffer>): Promise<webcrypto.CryptoKey> =>
  webcrypto.subtle.importKey('raw', secret, { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
    'verify',
  ])

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A key with the half that signs; or what is wrong with it, as the end of a sentence. */
type Read = { key: Key; signing: webcrypto.CryptoKey } | { problem: string }

const readSecret = async (jwk: Jwk, base: Omit<Key, 'alg' | 'key'>): Promise<Read> => {
  const { k } = jwk as Record<'k', unknown>
  if (typeof k !== 'string' || !BASE64URL.test(k)) {
    return { problem: 'has no secret "k" in base64url' }
  }
  const secret = Buffer.from(k, 'base64url')
  const weak = weakness(secret) ?? lookalike(k)
  if (weak) return { problem: weak }
  const key = await importSecret(secret)
  return { key: { ...base, alg: 'HS256', key }, signing: key }
}

const readPair = async (
  jwk: Jwk,
  alg: Asymmetric,
  base: Omit<Key, 'alg' | 'key'>,
): Promise<Read> => {
  const open = await importPublic(jwk, alg)
  if ('problem' in open) return open
  const isKnown = PUBLISHED_PRIVATE.some((start) => String(jwk['d']).startsWith(start))
  if (isKnown) return { problem: PUBLISHED }
  const secret = await importPrivate(jwk, alg, open.key)
  if ('problem' in secret) return secret
  return { key: { ...base, alg, ...open }, signing: secret.key }
}

const readKey = async (kid: string, jwk: Jwk): Promise<Read> => {
  const {
    kty,
    alg,
    use,
    key_ops: operations,
    created,
    retired,
  } = jwk as Record<'kty' | 'alg' | 'use' | 'key_ops' | 'created' | 'retired', unknown>
  const pair = alg === undefined ? undefined : algorithmOf(jwk)
  if (!pair && (kty !== 'oct' || alg !== 'HS256')) {
    return { problem: `is none of ${ALGORITHMS.join(', ')} with the kty and crv that belong to it` }
  }
  if (use !== undefined && use !== 'sig') return { problem: 'has a use other than sig' }
  if (!mayBeUsed(operations, 'sign')) return { problem: 'has key_ops that do not let it sign' }
  for (const [name, at] of Object.entries({ created, retired })) {
    if (at !== undefined && !isInstant(at)) {
      return { problem: `has a "${name}" that is not in whole Unix seconds` }
    }
  }
  const base = {
    kid,
    ...(created !== undefined && { created: Number(created) }),
    ...(retired !== undefined && { retired: Number(retired) }),
  }
  return pair ? readPair(jwk, pair, base) : readSecret(jwk, base)
}

/** The keys of a JWK Set (RFC 7517 §5), or every problem in it. No problem text holds key material. */
export const parseKeyring = async (text: string): Promise<Keyring | { problems: string[] }> => {
  let set: unknown
  try {
    set = JSON.parse(text)
  } catch {
    return { problems: ['is not JSON'] }
  }
  if (hasDuplicateNames(text)) {
    return {
      problems: ['names a member twice in one object: take out the one that does not count'],
    }
  }
  const list = isRecord(set) ? set['keys'] : undefined
  if (!Array.isArray(list)) return { problems: ['is not a JWK Set: an object with a list "keys"'] }
  const problems: string[] = []
  const byKid = new Map<string, Key>()
  const kids = new Set<string>()
  let signing: SigningKey | undefined
  for (const [index, jwk] of (list as unknown[]).entries()) {
    const problem = (what: string): void => {
      problems.push(`key ${index + 1} ${what}`)
    }
    if (!isRecord(jwk)) {
      problem('is not an object')
      continue
    }
    const { kid } = jwk as Record<'kid', unknown>
    if (!isId(kid)) {
      problem('has no usable kid: 1 to 64 letters, digits, - or _')
      continue
    }
    if (kids.has(kid)) problem(`has the kid ${kid} of another key`)
    kids.add(kid)
    const read = await readKey(kid, jwk)
    if ('problem' in read) {
      problem(`(${kid}) ${read.problem}`)
      continue
    }
    byKid.set(kid, read.key)
    if (read.key.retired === undefined) signing ??= { ...read.key, key: read.signing }
  }
  if (problems.length > 0) return { problems }
  if (byKid.size === 0) return { problems: ['holds no key'] }
  if (!signing) {
    return { problems: ['holds retired keys only, and none signs: take "retired" off one of them'] }
  }
  return { signing, byKid }
}

/** A new key as it is written to the file. */
export const generateKey = (alg: Algorithm, now?: number): Jwk & { readonly kid: string } => ({
  kid: randomBytes(8).toString('hex'), // hex never begins with `-`: it is an argument of `postern key`
  alg,
  use: 'sig',
  created: now,
  ...(alg === 'HS256'
    ? { kty: 'oct', k: randomBytes(MIN_BYTES).toString('base64url') }
    : generateJwk(alg)),
})

export const formatKeySet = (keys: readonly unknown[]): string =>
  `${JSON.stringify({ keys }, undefined, 2)}\n`

/** A JWK Set with one fresh HS256 key, as the text of the file. */
export const generateKeySet = (now?: number): string => formatKeySet([generateKey('HS256', now)])

/** What others may see of the keys (RFC 7517 §5): of a shared secret, nothing. */
export const publicKeySet = ({ byKid }: Keyring): { keys: PublicJwk[] } => ({
  keys: [...byKid.values()].flatMap(({ kid, alg, open }) =>
    open ? [{ kid, alg, use: 'sig', ...open }] : [],
  ),
})
