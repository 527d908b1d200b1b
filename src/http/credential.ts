// Which credential a request shows. Exactly one way counts; two at once are refused even where they agree
// (RFC 6750 §2), and a bad one never falls back to another (CVE-2026-25748).

import { type Refusal, refuse } from '../auth/decision.ts'
import type { Headers } from './headers.ts'

export type Credential = { token: string } | Refusal

const BEARER = /^bearer +([^\s,]+)$/i // RFC 9110 §11.1: the scheme knows no case; RFC 6750 §2.1: 1*SP b64token
const QUERY_NAMES = new Set(['authorization', 'token']) // the two names that existing clients use

/** From the Authorization header alone. */
export const readBearer = (headers: Headers): Credential => {
  if (headers.isRepeated('authorization')) return refuse('invalid_request')
  const value = headers.get('authorization')
  if (value === undefined) return refuse('no_credential')
  const token = BEARER.exec(value)?.[1]
  return token === undefined ? refuse('malformed_token') : { token }
}

/** Application/x-www-form-urlencoded, as browsers write it; undefined where it is no such text. */
const decode = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text.replaceAll('+', ' '))
  } catch {
    return undefined
  }
}

/**
 * The query token of a raw request target, where existing clients put it. `Bearer%20…` and `Bearer+…` are
 * accepted, since the original documents them. Names count after one decoding, and only whole.
 */
const readQueryToken = (uri: string): Credential => {
  const mark = uri.indexOf('?')
  if (mark < 0) return refuse('no_credential')
  let found: string | undefined
  for (const pair of uri.slice(mark + 1).split('&')) {
    const equals = pair.indexOf('=')
    const name = decode(equals < 0 ? pair : pair.slice(0, equals))
    if (name === undefined || !QUERY_NAMES.has(name)) continue
    if (found !== undefined) return refuse('invalid_request')
    found = (equals < 0 ? '' : decode(pair.slice(equals + 1))) ?? ''
  }
  if (found === undefined) return refuse('no_credential')
  const token = BEARER.exec(found)?.[1] ?? found
  return token === '' ? refuse('malformed_token') : { token }
}

/** The ways a location may accept; what is not named does not count there, and is not looked at. */
export const ACCEPTED = ['header', 'query'] as const

/** The credential of a protected request. `accept` is what nginx's location says; without it: header only. */
export const readCredential = (headers: Headers, accept: string, uri: string): Credential => {
  const ways = accept.split(' ')
  const byHeader: Credential = ways.includes('header')
    ? readBearer(headers)
    : refuse('no_credential')
  if (!ways.includes('query')) return byHeader
  const byQuery = readQueryToken(uri)
  const shown = [byHeader, byQuery].filter(
    (way) => !('refused' in way && way.refused === 'no_credential'),
  )
  if (shown.length > 1) return refuse('invalid_request')
  return shown[0] ?? refuse('no_credential')
}
