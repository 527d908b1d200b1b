// Issues and verifies our own tokens; those of a trusted issuer are passed on to its rules. The raw text is checked
// before the signature, the claims' types after. Time and revocation are no part of a verdict: they are judged each
// time it is used.

import { SignJWT } from 'jose'

import { isAudience, isId, isInstant, isName, isNumber } from './claims.ts'
import { type Compact, MAX_TOKEN, type Members, parseCompact, verifyCompact } from './compact.ts'
import { type Refusal, refuse } from './decision.ts'
import { type Action, type Grant, isAction, parseGrant } from './grants.ts'
import type { VerifyingKey } from './jwk.ts'
import type { Keyring } from './keyring.ts'
import type { MachineGrants } from './machine-key.ts'
import { createVerdictCache } from './verdict-cache.ts'

export type TokenType = keyof typeof TYP

/** What a properly signed token says. `exp` and `nbf` are not judged yet. */
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
  /** Of the key that signed it. */
  readonly kid: string
  /** Under which their calls were found when it was issued. */
  readonly number?: string
  /** Only in tickets. */
  readonly ticket?: TicketClaims
  /** Only where another system issued it: never a user of ours, whatever the name. */
  readonly foreign?: true
  /** Only of a machine key: all that it may do, whatever a role says. Its name is no user's. */
  readonly machine?: MachineGrants
}

/** Tokens of other systems: see src/auth/issuer.ts. */
export interface TrustedIssuers {
  /** Its verdict, where it still holds. */
  remembered(token: string): Verdict | undefined
  /** Undefined: not a trusted issuer's. Rejects where its keys could not be loaded. */
  verify(token: string, form: Compact): Promise<Verdict> | undefined
}

/** What a ticket is for. */
export interface TicketClaims {
  readonly action: Action
  /** A grant's pattern: usually one resource, or a folder of them. */
  readonly pattern: Grant
  /** When a stream opened with it must end: when the access token it was issued for does. */
  readonly until: number
}

/** What differs from token to token. */
export interface TokenRequest {
  type: TokenType
  sub: string
  username: string
  role: string
  sid: string
  jti: string
  iat: number
  exp: number
  /** Of an access token: how many rotations led to the refresh token that was issued with it, where any did. */
  gen?: number | undefined
  /** Of an access token or ticket: under which number its user's calls are found, where any is. */
  num?: string | undefined
  /** Further claims for a dialect's clients; they never replace ours. */
  extra?: Readonly<Record<string, string | number>> | undefined
}

export type Verdict = Claims | Refusal

const HEADER_MEMBERS = new Set(['alg', 'kid', 'typ']) // we never write crit, b64, jwk, jku, zip …
// RFC 9068 §2.1: no other kind of JWT may pass for an access token.
const TYP = { access: 'at+jwt', refresh: 'rt+jwt', ticket: 'tk+jwt' } as const
const TYPES = ['access', 'refresh', 'ticket'] as const
const HOUR = 3600
export const MAX_LIFE: Readonly<Record<TokenType, number>> = {
  access: 24 * HOUR, // the config's limit: a longer one is not ours, or its exp is in milliseconds
  refresh: 400 * 24 * HOUR,
  ticket: 24 * HOUR, // the config's limit for SIP
}
const MAX_SHORT = HOUR // the life of any other ticket

/**
 * Whether it is a ticket for SIP: JsSIP and SIP.js connect again with the URL they were given first, for as long as they
 * run. So it may be shown until its session ends, and lives too long to be believed without asking for that session.
 */
export const isForSip = (pattern: Grant | undefined): boolean => pattern?.text === 'connect:sip'

const readTicket = (payload: Members): TicketClaims | undefined => {
  const { action, resource, until } = payload as Record<'action' | 'resource' | 'until', unknown>
  if (typeof action !== 'string' || typeof resource !== 'string' || !isInstant(until))
    return undefined
  if (!isAction(action)) return undefined // `read:x` and `y` would read as another ticket's `read` and `x:y`
  const pattern = parseGrant(`${action}:${resource}`)
  return 'problem' in pattern ? undefined : { action: pattern.action, pattern, until }
}

/** Instants are whole seconds: with a fraction a token would live on within its last second. */
const readClaims = (
  payload: Members,
  { type, key: { kid } }: { type: TokenType; key: VerifyingKey },
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
  const { gen, num: number } = payload as Record<'gen' | 'num', unknown>
  if (gen !== undefined && !isInstant(gen)) return refuse('bad_claims')
  if (number !== undefined && !isNumber(number)) return refuse('bad_claims')
  const known = { type, sub, username, role, sid, jti, iat, nbf, exp, kid }
  const claims = number === undefined ? known : { ...known, number }
  if (type !== 'ticket') return Object.freeze(claims)
  const ticket = readTicket(payload)
  if (!ticket) return refuse('bad_claims')
  if (exp - iat > MAX_SHORT && !isForSip(ticket.pattern)) return refuse('bad_claims')
  return Object.freeze({ ...claims, ticket })
}

const BAD_VERDICTS = 1000 // apart from the good ones, so that a flood of garbage evicts none of them

export const createTokens = (options: {
  keyring: Keyring
  issuer: string
  audience: string
  /** How many good tokens are remembered, in each of two generations. */
  cacheSize: number
  /** Whose tokens are accepted beside ours. */
  trusted?: TrustedIssuers | undefined
  /** A token that was issued with the refresh token of this generation is shown, and none remembers it. */
  onShown?(sid: string, generation: number): void
}) => {
  const { keyring, issuer, audience, trusted, onShown } = options
  const good = createVerdictCache<Claims>(options.cacheSize)
  const bad = createVerdictCache<Refusal>(BAD_VERDICTS)
  const underWay = new Map<string, Promise<Verdict>>()

  const remember = (token: string, verdict: Verdict): Verdict => {
    if ('refused' in verdict) bad.set(token, verdict)
    else good.set(token, verdict)
    return verdict
  }

  /** The header of a token of ours. */
  const readHeader = (header: Members): Refusal | { type: TokenType; key: VerifyingKey } => {
    if (!Object.keys(header).every((name) => HEADER_MEMBERS.has(name))) {
      return refuse('malformed_token')
    }
    const { alg, kid, typ } = header as Record<'alg' | 'kid' | 'typ', unknown>
    if (typeof typ !== 'string') return refuse('wrong_type')
    const kind = typ.toLowerCase().replace(/^application\//, '') // a media type (RFC 7515 §4.1.9)
    const type = TYPES.find((name) => TYP[name] === kind)
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
    const verdict = readClaims(signed.payload, read, issuer, audience)
    const { gen } = signed.payload as { gen?: number }
    if (gen !== undefined && 'sid' in verdict) onShown?.(verdict.sid, gen)
    return remember(token, verdict)
  }

  /** The verdict, where it is remembered and still holds: this keeps a check from waiting. */
  const remembered = (token: string): Verdict | undefined =>
    good.get(token) ?? bad.get(token) ?? trusted?.remembered(token)

  return {
    issue: ({ extra, ...claims }: TokenRequest): Promise<string> =>
      new SignJWT({ ...extra, ...claims, iss: issuer, aud: audience, nbf: claims.iat })
        .setProtectedHeader({
          alg: keyring.signing.alg,
          typ: TYP[claims.type],
          kid: keyring.signing.kid,
        })
        .sign(keyring.signing.key),
    remembered,
    verify(token: string): Promise<Verdict> {
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

export type Tokens = ReturnType<typeof createTokens>

const LEEWAY = 5 // seconds that the clocks of two machines may differ; a host by NTP is within one

/**
 * Whether a token is within its time. LEEWAY allows for clocks that run ahead, but never extends the `exp` of a token
 * of ours: a client whose stream has ended with it would come back for seconds.
 */
export const judgeTime = ({ foreign, exp, nbf, iat }: Claims, now: number): Refusal | undefined => {
  if (now >= exp + (foreign ? LEEWAY : 0)) return refuse('expired') // RFC 7519 §4.1.4: on or after
  const latest = now + LEEWAY
  return nbf > latest || iat > latest ? refuse('not_yet_valid') : undefined
}
