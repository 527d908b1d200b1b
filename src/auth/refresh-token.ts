// Refresh tokens as the store sees them: a hash to find them by, and a successor sealed so that only the holder of
// its predecessor can open it. The token itself is stored nowhere.

import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'

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

/** 64 lower-case hex digits. */
export const createOpaqueToken = (): string => randomBytes(32).toString('hex')

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
