// Our own tokens, made and verified; those of a trusted issuer are handed on to its rules. The raw text is
// checked before the signature, the claims' types after. Nothing here looks at the clock or at revocation:
// that is asked anew at every use of a verdict.

import { SignJWT } from 'jose'

import { isAudience, isId, isInstant, isName } from './claims.ts'
import { type Compact, MAX_TOKEN, type Members, parseCompact, verifyCompact } from './compact.ts'
import { type Refusal, refuse } from './decision.ts'
import { type Action, type Grant, parseGrant } from './grants.ts'
import type { VerifyingKey } from './jwk.ts'
import type { Keyring } from './keyring.ts'
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
  /** Only where another system issued it: nobody of ours, whatever the name says. */
  readonly foreign?: Foreign
}

export interface Foreign {
  /** The issuer's name in our config. */
  readonly issuer: string
  /** Seconds that its clock may differ from ours, at both ends of a token's life. */
  readonly leeway: number
}

/** Tokens of other systems, as src/auth/issuer.ts knows them. */
export interface TrustedIssuers {
  /** A verdict that still holds. */
  remembered(token: string): Verdict | undefined
  /** Undefined: no trusted issuer's. Rejects where its keys are not to be had. */
  verify(token: string, form: Compact): Promise<Verdict> | undefined
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
  extra?: Readonly<Record<string, string | number>> | undefined
}

export interface Tokens {
  issue(request: TokenRequest): Promise<string>
  /** A verdict that still holds, at once: it is what keeps a check from waiting. */
  remembered(token: string): Verdict | undefined
  verify(token: string): Promise<Verdict>
}

export type Verdict = Claims | Refusal

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
export const MAX_LIFE: Readonly<Record<TokenType, number>> = {
  access: 24 * HOUR, // the config allows no more: a longer one was not issued by us, or exp is in milliseconds
  refresh: 400 * 24 * HOUR,
  ticket: HOUR,
}

const readTicket = (payload: Members): TicketClaims | undefined => {
  const { action, resource, until } = payload as Record<'action' | 'resource' | 'until', unknown>
  if (typeof action !== 'string' || typeof resource !== 'string' || !isInstant(until))
    return undefined
  const pattern = parseGrant(`${action}:${resource}`)
  return 'problem' in pattern ? undefined : { action: pattern.action, pattern, until }
}

/** Instants are whole seconds: a fraction would let a token outlive itself within its last second. */
const readClaims = (
  payload: Members,
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
  /** Whose tokens count beside ours. */
  trusted?: TrustedIssuers | undefined
}): Tokens => {
  const { keyring, issuer, audience, trusted } = options
  const good = createVerdictCache<Claims>(options.cacheSize)
  const bad = createVerdictCache<Refusal>(BAD_VERDICTS)
  const underWay = new Map<string, Promise<Verdict>>()

  const remember = (token: string, verdict: Verdict): Verdict => {
    if ('refused' in verdict) bad.set(token, verdict)
    else good.set(token, verdict)
    return verdict
  }

  /** What the header says of a token of ours. */
  const readHeader = (header: Members): Refusal | { type: TokenType; key: VerifyingKey } => {
    if (!Object.keys(header).every((name) => HEADER_MEMBERS.has(name))) {
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

  const verifyNew = async (token: string): Promise<Verdict> => {
    const form = parseCompact(token)
    if ('refused' in form) return token.length > MAX_TOKEN ? form : remember(token, form)
    const foreign = trusted?.verify(token, form)
    if (foreign) return foreign
    const read = readHeader(form.header)
    if ('refused' in read) return remember(token, read)
    const signed = await verifyCompact(token, read.key)
    if ('refused' in signed) return remember(token, signed)
    return remember(token, readClaims(signed.payload, read.type, issuer, audience))
  }

  const remembered = (token: string): Verdict | undefined =>
    good.get(token) ?? bad.get(token) ?? trusted?.remembered(token)

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
    remembered,
    verify(token) {
      const known = remembered(token)
      if (known) return Promise.resolve(known)
      const shared =
        underWay.get(token) ??
        verifyNew(token).finally(() => {
          underWay.delete(token)
        })
      underWay.set(token, shared)
      return shared
    },
  }
}

/** Seconds that the clocks of two machines may differ; a host by NTP is within one. */
export const LEEWAY = 5

/**
 * Whether a rightly signed token is in its time. `leeway` excuses clocks that run ahead, never the `exp` of a
 * token of ours: else a client that was kicked would come back for seconds.
 */
export const judgeTime = (claims: Claims, now: number, leeway: number): Refusal | undefined => {
  const { foreign, exp, nbf, iat } = claims
  if (now >= exp + (foreign?.leeway ?? 0)) return refuse('expired') // RFC 7519 §4.1.4: on or after
  const latest = now + (foreign?.leeway ?? leeway)
  return nbf > latest || iat > latest ? refuse('not_yet_valid') : undefined
}
