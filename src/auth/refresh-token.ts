// Refresh tokens as the store sees them: a hash to find them by, and a successor sealed so that only the holder of
// its predecessor can open it. The token itself is stored nowhere.

import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'

import type { Found, Store } from '../store/store.ts'
import type { Reason, Refusal } from './decision.ts'

/** What the store keeps instead of the token. Tokens have ≥ 128 random bits, so no dictionary breaks a plain hash. */
export const hashRefreshToken = (token: string): Buffer =>
  createHash('sha256').update(token).digest()

const ROTATED: ReadonlySet<Reason> = new Set([
  'unknown_key',
  'bad_signature',
  'wrong_issuer',
  'wrong_audience',
])

/**
 * Whether a refresh token may still be valid although it no longer verifies: a rotated key, or a changed issuer or
 * audience, ends no session. The store recognises it by its hash.
 */
export const mayBeStored = ({ refused }: Refusal): boolean => ROTATED.has(refused)

const OPAQUE = /^[0-9a-f]{64}$/
const FAMILY = 32 // digits: 128 bits, and as many are left for the token itself

export const isOpaque = (token: string): boolean => OPAQUE.test(token)

/** 64 lower-case hex digits. One that was traded for another has the first half in common with it: their family. */
export const createOpaqueToken = (predecessor?: string): string =>
  predecessor === undefined
    ? randomBytes(32).toString('hex')
    : predecessor.slice(0, FAMILY) + randomBytes(32 - FAMILY / 2).toString('hex')

/**
 * What the store may know a refresh token by: itself, and its family, which is all that is left of one that was traded
 * long ago. Only who has seen a token of a family can show it: of an opaque one it is secret, and a JWT is believed
 * its session (`sid`) by its signature alone.
 */
export const namesOf = (
  token: string,
  sid?: string,
): readonly [hash: Buffer, family: Buffer | undefined] => {
  const family = isOpaque(token) ? `opaque ${token.slice(0, FAMILY)}` : sid && `jwt ${sid}`
  // Shorter than the hash of a token: a logout looks for whatever text a cookie has, and "jwt SID" is no secret.
  return [hashRefreshToken(token), family ? hashRefreshToken(family).subarray(0, 16) : undefined]
}

export const findByNames = async (
  store: Pick<Store, 'findByRefresh'>,
  names: ReturnType<typeof namesOf>,
  now: number,
): Promise<Found> => {
  const [hash, family] = names
  const found = await store.findByRefresh(hash, now)
  return found.state === 'unknown' && family ? store.findByRefresh(family, now) : found
}

const NONCE = 12 // GCM's own size (NIST SP 800-38D §5.2.1.1)
const TAG = 16

const sealingKey = (token: string): Buffer =>
  Buffer.from(hkdfSync('sha256', token, '', 'postern refresh successor', 32))

/** `successor`, readable only with `presented`: a dump of the store reveals nothing. */
export const sealSuccessor = (presented: string, successor: string): Buffer => {
  const nonce = randomBytes(NONCE)
  const cipher = createCipheriv('aes-256-gcm', sealingKey(presented), nonce)
  return Buffer.concat([
    nonce,
    cipher.update(successor, 'utf8'),
    cipher.final(),
    cipher.getAuthTag(),
  ])
}

export const unsealSuccessor = (presented: string, sealed: Uint8Array): string => {
  const bytes = Buffer.from(sealed)
  const decipher = createDecipheriv(
    'aes-256-gcm',
    sealingKey(presented),
    bytes.subarray(0, NONCE),
    {
      authTagLength: TAG,
    },
  )
  decipher.setAuthTag(bytes.subarray(-TAG))
  return Buffer.concat([decipher.update(bytes.subarray(NONCE, -TAG)), decipher.final()]).toString(
    'utf8',
  )
}
