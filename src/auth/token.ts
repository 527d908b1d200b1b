// Our own tokens, made and verified. jose does every signature; around it stands what jose lets through
// (measured: about 40 odd tokens of 130): the raw text is checked before, the claims' types after.
// Nothing here looks at the clock or at revocation: that is asked anew at every use of a verdict.

import { compactVerify, SignJWT } from 'jose'

import { type Refusal, refuse } from './decision.ts'
import { type Action, type Grant, parseGrant } from './grants.ts'
import type { Key, Keyring } from './keyring.ts'
import { parseStrictObject } from './strict-json.ts'
import { createVerdictCache } from './verdict-cache.ts'

export type TokenType = 'access' | 'refresh' | 'ticket'

/** What a rightly signed token of ours says. `exp` and `nbf` are not judged yet. */
export interface Claims {
  readonly type: TokenType
  readonly sub: string
  readonly username: string
  readonly role: string
  readonly sid: string
  readonly jti: string
  readonly iat: number
  readonly nbf: number
  readonly exp: number
  /** Only in tickets. */
  readonly ticket?: TicketClaims
}

/** What a ticket is for. */
export interface TicketClaims {
  readonly action: Action
  /** A grant's pattern: usually one resource, or a folder of them. */
  readonly pattern: Grant
  /** When the right to a subscription opened with it ends: the end of the access token it was got with. */
  readonly until: number
}

/** What differs from token to token; the rest is the issuer's. */
export interface TokenRequest {
  type: TokenType
  sub: string
  username: string
  role: string
  sid: string
  jti: string
  iat: number
  exp: number
  /** More claims for a dialect's clients; never one of ours. */
  extra?: Readonly<Record<string, string | number>>
}

export interface Tokens {
  issue(request: TokenRequest): Promise<string>
  /** At once where a verdict is remembered, which is what keeps a check from waiting. */
  verify(token: string): Verdict | Promise<Verdict>
}

export type Verdict = Claims | Refusal

const MAX_TOKEN = 8192 // ours are below 700; bounds what hostile text can cost
// RFC 8725bis §3.14: letters, digits, - and _ only. jose alone takes spaces, tabs and `=` inside.
const COMPACT = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$/
const HEADER_MEMBERS = new Set(['alg', 'kid', 'typ']) // crit, b64, jwk, jku, zip …: never written by us
const TYPES: ReadonlyMap<string, TokenType> = new Map([
  ['at+jwt', 'access'], // RFC 9068 §2.1: no other kind of JWT may pass for an access token
  ['application/at+jwt', 'access'],
  ['rt+jwt', 'refresh'],
  ['application/rt+jwt', 'refresh'],
  ['tk+jwt', 'ticket'],
])
const TYP: Readonly<Record<TokenType, string>> = {
  access: 'at+jwt',
  refresh: 'rt+jwt',
  ticket: 'tk+jwt',
}
const HOUR = 3600
const MAX_LIFE: Readonly<Record<TokenType, number>> = {
  access: 24 * HOUR, // the config allows no more: a longer one was not issued by us, or exp is in milliseconds
  refresh: 400 * 24 * HOUR,
  ticket: HOUR,
}

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

/** One byte string has one spelling: unused low bits must be zero, else a token has twins (wycheproof 375). */
const isCanonical = (segment: string): boolean => {
  const rest = segment.length % 4
  if (rest === 0) return true
  if (rest === 1) return false
  const last = ALPHABET.indexOf(segment.charAt(segment.length - 1))
  return (last & (rest === 2 ? 0b1111 : 0b11)) === 0
}

const isText = (value: unknown, max: number): value is string =>
  typeof value === 'string' && value.length > 0 && value.length <= max && value.isWellFormed()

// Unicode is welcome in a name, what a terminal, a log or a header could choke on is not.
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u

const isName = (value: unknown, max: number): value is string =>
  isText(value, max) && !UNPRINTABLE.test(value) && value === value.trim()

const isInstant = (value: unknown): value is number =>
  Number.isSafeInteger(value) && Number(value) > 0

const ID = /^[A-Za-z0-9_-]{1,64}$/

const isId = (value: unknown): value is string => typeof value === 'string' && ID.test(value)

const isAudience = (aud: unknown, ours: string): boolean =>
  aud === ours ||
  (Array.isArray(aud) && aud.every((entry) => typeof entry === 'string') && aud.includes(ours))

const readTicket = (payload: Readonly<Record<string, unknown>>): TicketClaims | undefined => {
  const { action, resource, until } = payload as Record<'action' | 'resource' | 'until', unknown>
  if (typeof action !== 'string' || typeof resource !== 'string' || !isInstant(until))
    return undefined
  const pattern = parseGrant(`${action}:${resource}`)
  return 'problem' in pattern ? undefined : { action: pattern.action, pattern, until }
}

/** Instants are whole seconds: a fraction would let a token outlive itself within its last second. */
const readClaims = (
  payload: Readonly<Record<string, unknown>>,
  type: TokenType,
  issuer: string,
  audience: string,
): Verdict => {
  const { iss, aud, sub, username, role, sid, jti, iat, nbf, exp } = payload as Record<
    'iss' | 'aud' | 'sub' | 'username' | 'role' | 'sid' | 'jti' | 'iat' | 'nbf' | 'exp',
    unknown
  >
  if (iss !== issuer) return refuse('wrong_issuer')
  if (!isAudience(aud, audience)) return refuse('wrong_audience')
  if (payload['type'] !== type) return refuse('wrong_type')
  if (!isId(sub) || !isId(sid) || !isId(jti)) return refuse('bad_claims')
  if (!isName(username, 256) || !isName(role, 64)) return refuse('bad_claims')
  if (!isInstant(iat) || !isInstant(nbf) || !isInstant(exp)) return refuse('bad_claims')
  if (exp - iat > MAX_LIFE[type]) return refuse('bad_claims')
  const claims = { type, sub, username, role, sid, jti, iat, nbf, exp }
  if (type !== 'ticket') return Object.freeze(claims)
  const ticket = readTicket(payload)
  return ticket ? Object.freeze({ ...claims, ticket }) : refuse('bad_claims')
}

const BAD_VERDICTS = 1000 // on their own, so that a flood of garbage drives out no good token

export const createTokens = (options: {
  keyring: Keyring
  issuer: string
  audience: string
  /** How many verdicts on good tokens are remembered, in each of two generations. */
  cacheSize: number
}): Tokens => {
  const { keyring, issuer, audience } = options
  const good = createVerdictCache<Claims>(options.cacheSize)
  const bad = createVerdictCache<Refusal>(BAD_VERDICTS)
  const underWay = new Map<string, Promise<Verdict>>()

  const verifySignature = async (token: string, type: TokenType, key: Key): Promise<Verdict> => {
    let payload: Uint8Array
    try {
      payload = (await compactVerify(token, key.key, { algorithms: [key.alg] })).payload
    } catch {
      return refuse('bad_signature') // jose's errors end here: each of them means this
    }
    const claims = parseStrictObject(payload)
    return claims ? readClaims(claims, type, issuer, audience) : refuse('bad_claims')
  }

  const remember = (token: string, verdict: Verdict): Verdict => {
    if ('refused' in verdict) bad.set(token, verdict)
    else good.set(token, verdict)
    return verdict
  }

  /** All that can be told from the text alone, before any cryptography. */
  const precheck = (token: string): Refusal | { type: TokenType; key: Key } => {
    if (token.length > MAX_TOKEN) return refuse('malformed_token')
    const segments = COMPACT.exec(token)
    if (!segments?.slice(1).every(isCanonical)) return refuse('malformed_token')
    const { 1: encoded = '' } = segments
    const header = parseStrictObject(Buffer.from(encoded, 'base64url'))
    if (!header || !Object.keys(header).every((name) => HEADER_MEMBERS.has(name))) {
      return refuse('malformed_token')
    }
    const { alg, kid, typ } = header as Record<'alg' | 'kid' | 'typ', unknown>
    if (typeof typ !== 'string') return refuse('wrong_type')
    const type = TYPES.get(typ.toLowerCase()) // RFC 7515 §4.1.9: media types know no case
    if (!type) return refuse('wrong_type')
    if (!isId(kid)) return refuse('unknown_key') // never a path, never tried against every key
    const key = keyring.byKid.get(kid)
    if (!key) return refuse('unknown_key')
    if (alg !== key.alg) return refuse('bad_signature') // RFC 8725bis §3.1: one key, one algorithm
    return { type, key }
  }

  const verifyNew = (token: string): Verdict | Promise<Verdict> => {
    const form = precheck(token)
    if ('refused' in form) return token.length > MAX_TOKEN ? form : remember(token, form)
    const verdict = verifySignature(token, form.type, form.key).then((found) => {
      underWay.delete(token)
      return remember(token, found)
    })
    underWay.set(token, verdict)
    return verdict
  }

  return {
    issue: ({ extra, type, sub, username, role, sid, jti, iat, exp }) =>
      new SignJWT({
        ...extra,
        sub,
        username,
        role,
        type,
        sid,
        jti,
        iss: issuer,
        aud: audience,
        iat,
        nbf: iat,
        exp,
      })
        .setProtectedHeader({ alg: keyring.signing.alg, typ: TYP[type], kid: keyring.signing.kid })
        .sign(keyring.signing.key),
    verify: (token) => good.get(token) ?? bad.get(token) ?? underWay.get(token) ?? verifyNew(token),
  }
}

/** Whether a rightly signed token is in its time. `leeway` excuses clocks that run ahead, never `exp`. */
export const judgeTime = (claims: Claims, now: number, leeway: number): Refusal | undefined => {
  if (now >= claims.exp) return refuse('expired') // RFC 7519 §4.1.4: on or after
  if (claims.nbf > now + leeway || claims.iat > now + leeway) return refuse('not_yet_valid')
  return undefined
}
