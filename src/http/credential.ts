// Which credential a request shows. Exactly one way counts; two at once are refused even where they agree
// (RFC 6750 §2), and a bad one never falls back to another (CVE-2026-25748).

import { type Refusal, refuse } from '../auth/decision.ts'
import { readCookie } from './cookie.ts'
import type { Headers } from './headers.ts'
import { decodePercent } from './resource.ts'
import type { Site } from './site.ts'

export type Credential =
  /** `inHeader`: in the Authorization header, the one place for a machine key. */
  { token: string; type: 'access' | 'ticket'; inHeader?: true } | Refusal

const BEARER = /^bearer +([^\s,]+)$/i // RFC 9110 §11.1: the scheme knows no case; RFC 6750 §2.1: 1*SP b64token
/**
 * One well-formed line of another scheme (RFC 9110 §11.4): browsers send Basic to everything, once nginx or an
 * application has asked for it. With a comma it may hold a second credential.
 */
const OTHER_SCHEME = /^(?!bearer )[\w!#$%&'*+.^`|~-]+ +[^\s,]+$/i
const USUAL = 'Bearer '
const NOT_OF_A_TOKEN = /[\s,]/
const TOKEN_NAMES: readonly string[] = ['authorization', 'token'] // the two that existing clients use
const TICKET_NAMES: readonly string[] = ['ticket']

/** On https a name that no other host, path or plain-http page can set; on http (loopback only) a plain one. */
export const accessCookieName = (secure: boolean): string => (secure ? '__Host-postern' : 'postern')

const bearerToken = (value: string): string | undefined => {
  // As every client writes it: 0.1 µs, where the pattern costs 0.7.
  const rest = value.startsWith(USUAL) ? value.slice(USUAL.length) : ''
  return rest !== '' && !NOT_OF_A_TOKEN.test(rest) ? rest : BEARER.exec(value)?.[1]
}

/** From the Authorization header alone. */
export const readBearer = (headers: Headers): Credential => {
  if (headers.isRepeated('authorization')) return refuse('invalid_request')
  const value = headers.get('authorization')
  if (value === undefined) return refuse('no_credential')
  const token = bearerToken(value)
  if (token !== undefined) return { token, type: 'access', inHeader: true }
  return refuse(OTHER_SCHEME.test(value) ? 'no_credential' : 'malformed_token')
}

/** From application/x-www-form-urlencoded, as browsers write it; undefined where it is malformed. */
const decode = (text: string): string | undefined => decodePercent(text.replaceAll('+', ' '))

/**
 * The one value under these names in a raw request target. Names are decoded once and compared whole; the same
 * credential twice counts as two. To nginx a `#` ends the target: what follows is neither query nor value.
 */
const readQuery = (uri: string, names: readonly string[]): { value: string } | Refusal => {
  const fragment = uri.indexOf('#')
  const target = fragment < 0 ? uri : uri.slice(0, fragment)
  const mark = target.indexOf('?')
  if (mark < 0) return refuse('no_credential')
  let found: string | undefined
  for (const pair of target.slice(mark + 1).split('&')) {
    const equals = pair.indexOf('=')
    const name = decode(equals < 0 ? pair : pair.slice(0, equals))
    if (name === undefined || !names.includes(name)) continue
    if (found !== undefined) return refuse('invalid_request')
    found = (equals < 0 ? '' : decode(pair.slice(equals + 1))) ?? ''
  }
  if (found === undefined) return refuse('no_credential')
  return found === '' ? refuse('malformed_token') : { value: found }
}

/** `Bearer%20…` and `Bearer+…` are accepted too, since the original documents them. */
const readQueryToken = (uri: string): Credential => {
  const found = readQuery(uri, TOKEN_NAMES)
  if ('refused' in found) return found
  return { token: BEARER.exec(found.value)?.[1] ?? found.value, type: 'access' }
}

const readTicket = (uri: string): Credential => {
  const found = readQuery(uri, TICKET_NAMES)
  return 'refused' in found ? found : { token: found.value, type: 'ticket' }
}

const NOTHING = refuse('no_credential')

const isShown = (way: Credential): boolean => !('refused' in way && way.refused === 'no_credential')

/** The access cookie, where a page of this very site sent it. */
export const readAccessCookie = (headers: Headers, site: Site, isWebSocket = false): Credential => {
  const cookie = readCookie(headers.get('cookie'), accessCookieName(site.isSecure(headers)))
  if ('problem' in cookie) {
    return refuse(cookie.problem === 'missing' ? 'no_credential' : 'invalid_request')
  }
  if (site.isCrossSite(headers, isWebSocket)) return refuse('cross_site')
  return { token: cookie.value, type: 'access' }
}

/** On our own endpoints: the Authorization header, else the cookie. */
export const readHolder = (headers: Headers, site: Site): Credential => {
  const bearer = readBearer(headers)
  return isShown(bearer) ? bearer : readAccessCookie(headers, site)
}

export interface ProtectedRequest {
  headers: Headers
  /** The kinds of credential that nginx's location accepts; others are not even read. */
  accept: string
  /** The request target as the client wrote it. */
  uri: string
  site: Site
  isWebSocket: boolean
}

/** The credential of a protected request; an explicit one beats the cookie and never falls back to it. */
export const readCredential = (asked: ProtectedRequest): Credential => {
  const { headers, accept, uri, site, isWebSocket } = asked
  if (accept === 'header') return readBearer(headers)
  const ways = accept.split(' ')
  const header = ways.includes('header') ? readBearer(headers) : NOTHING
  const query = ways.includes('query') ? readQueryToken(uri) : NOTHING
  const ticket = ways.includes('ticket') ? readTicket(uri) : NOTHING
  const inUri = isShown(query) ? query : ticket
  if (isShown(query) && isShown(ticket)) return refuse('invalid_request')
  if (isShown(header)) return isShown(inUri) ? refuse('invalid_request') : header
  if (isShown(inUri)) return inUri
  return ways.includes('cookie')
    ? readAccessCookie(headers, site, isWebSocket)
    : refuse('no_credential')
}
