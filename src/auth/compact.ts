// A compact JWS, first as text, then against a key. jose verifies the signature; the checks on the text catch what
// jose lets through (about 40 of 130 malformed tokens). Nothing in a token counts until its signature is verified.

import { compactVerify } from 'jose'

import { type Refusal, refuse } from './decision.ts'
import type { VerifyingKey } from './jwk.ts'
import { parseStrictObject } from './strict-json.ts'

export type Members = Readonly<Record<string, unknown>>

/** Well-formed; nothing in it is trusted yet. */
export interface Compact {
  readonly header: Members
  /** The payload, still encoded. */
  readonly payload: string
}

export const MAX_TOKEN = 8192 // ours are below 700; bounds the cost of hostile text
// RFC 8725bis §3.14: letters, digits, - and _ only. jose alone takes spaces, tabs and `=` inside.
const COMPACT = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/

/** One byte string has one spelling: unused low bits must be zero, else a token has twins (wycheproof 375). */
const isCanonical = (segment: string): boolean =>
  Buffer.from(segment, 'base64url').toString('base64url') === segment

export const decodeObject = (encoded: string): Members | undefined =>
  parseStrictObject(Buffer.from(encoded, 'base64url'))

/** All that the text alone can tell, before any cryptography. */
export const parseCompact = (token: string): Compact | Refusal => {
  if (token.length > MAX_TOKEN) return refuse('malformed_token')
  const segments = COMPACT.exec(token)
  if (!segments?.slice(1).every(isCanonical)) return refuse('malformed_token')
  const { 1: encoded = '', 2: payload = '' } = segments
  const header = decodeObject(encoded)
  return header ? { header, payload } : refuse('malformed_token')
}

/** The payload, if this key signed it with its own algorithm. */
export const verifyCompact = async (
  token: string,
  { key, alg }: VerifyingKey,
): Promise<{ payload: Members } | Refusal> => {
  let bytes: Uint8Array
  try {
    bytes = (await compactVerify(token, key, { algorithms: [alg] })).payload
  } catch {
    return refuse('bad_signature') // whatever jose throws, this is what it means
  }
  const payload = parseStrictObject(bytes)
  return payload ? { payload } : refuse('bad_claims')
}
