// Access tokens of other systems: which of them count, as whom and in which role. Keys come from the config
// alone, never from the token (RFC 8725bis §3.10), and none of their names can ever be a name of ours.

import { createHash } from 'node:crypto'

import { isAudience, isInstant, isName } from './claims.ts'
import { decodeObject, type Members, verifyCompact } from './compact.ts'
import { refuse } from './decision.ts'
import {
  algorithmOf,
  type Asymmetric,
  importPublic,
  type Jwk,
  mayBeUsed,
  type VerifyingKey,
} from './jwk.ts'
import { parseStrictObject } from './strict-json.ts'
import { type Claims, MAX_LIFE, type TrustedIssuers, type Verdict } from './token.ts'
import { createVerdictCache } from './verdict-cache.ts'

/** What the config says of one issuer. */
export interface IssuerTerms {
  /** What we call it: the prefix of its users' names, and a metric label. */
  readonly name: string
  /** Its `iss`, compared byte by byte. */
  readonly issuer: string
  /** What it calls us: must be its tokens' `aud`, or among them. */
  readonly audience: string
  readonly algorithms: readonly Asymmetric[]
  readonly usernameClaim: string
  /** The name of a claim, or a dotted path to one. */
  readonly roleClaim: string
  /** Its role → ours. Where a token has several, the first one listed here counts. */
  readonly roles: ReadonlyMap<string, string>
}

export type KeySet = ReadonlyMap<string, VerifyingKey>

/** Where an issuer's keys come from. */
export interface IssuerKeys {
  /** The current keys: the same object until they change; undefined where there are none. */
  current(): KeySet | undefined
  /** A key is missing: resolves once the source was asked again, or at once if that was just done. */
  renew(): Promise<void>
}

export interface TrustedIssuer {
  readonly terms: IssuerTerms
  readonly keys: IssuerKeys
}

/** Its tokens can be neither accepted nor refused: a fault, not a refusal. */
export class IssuerAwayError extends Error {
  constructor(name: string) {
    super(`the keys of the trusted issuer ${name} could not be loaded: see [issuers.${name}]`)
    this.name = 'IssuerAwayError'
  }
}

const MAX_KEYS = 100 // the largest public sets hold about 20
const KID = /^[!-~]{1,256}$/

/** Somebody else's JWK Set. Keys that are not for us are skipped (RFC 7517 §5); a broken set is refused whole. */
export const parseIssuerKeys = async (
  text: string,
  algorithms: readonly Asymmetric[],
): Promise<KeySet | { problem: string }> => {
  const set = parseStrictObject(Buffer.from(text))
  const { keys } = (set ?? {}) as { keys?: unknown }
  if (!Array.isArray(keys)) return { problem: 'is not a JWK Set: an object with a list "keys"' }
  if (keys.length > MAX_KEYS) return { problem: `holds more than ${MAX_KEYS} keys` }
  const found = new Map<string, VerifyingKey>()
  for (const jwk of keys as unknown[]) {
    if (typeof jwk !== 'object' || jwk === null) continue
    const { kid, use, key_ops } = jwk as Record<'kid' | 'use' | 'key_ops', unknown>
    const alg = algorithmOf(jwk as Jwk)
    if (!alg || !algorithms.includes(alg) || (use !== undefined && use !== 'sig')) continue
    if (!mayBeUsed(key_ops, 'verify')) continue
    if (typeof kid !== 'string' || !KID.test(kid)) continue
    if (found.has(kid)) return { problem: 'names two keys with one kid' }
    const read = await importPublic(jwk as Jwk, alg)
    if ('key' in read) found.set(kid, { kid, alg, key: read.key })
  }
  return found.size > 0
    ? found
    : { problem: `holds no key for ${algorithms.join(', ')} with a kid that can be used` }
}

// Most issuers write `JWT`, few the at+jwt of RFC 9068. With `JWT` only the audience keeps other kinds of token
// apart, so whatever declares itself to be another kind is refused.
const TYPES: ReadonlySet<unknown> = new Set(['at+jwt', 'application/at+jwt', 'jwt'])
// Thumbprints only name the key again and are ignored; jwk, jku, x5u, x5c, crit, b64 and zip are refused.
const HEADER_MEMBERS = new Set(['alg', 'kid', 'typ', 'x5t', 'x5t#S256'])
const OTHER_KINDS: ReadonlySet<unknown> = new Set(['id', 'refresh', 'offline', 'logout'])

const isOtherKind = (payload: Members): boolean => {
  const { typ, token_use: use } = payload as Record<'typ' | 'token_use', unknown>
  if (typeof typ === 'string' && OTHER_KINDS.has(typ.toLowerCase())) return true // Keycloak
  if (use !== undefined && use !== 'access') return true // Cognito
  // OpenID Connect Core §3.1.3.6 and Back-Channel Logout §2.4
  return payload['at_hash'] !== undefined || payload['events'] !== undefined
}

/** The whole name first: some claims, such as `https://example.org/roles`, have dots in their name. */
const readPath = (payload: Members, path: string): unknown => {
  if (Object.hasOwn(payload, path)) return payload[path]
  let found: unknown = payload
  for (const name of path.split('.')) {
    const isObject = typeof found === 'object' && found !== null && Object.hasOwn(found, name)
    if (!isObject) return undefined
    found = (found as Members)[name]
  }
  return found
}

const roleOf = (payload: Members, { roleClaim, roles }: IssuerTerms): string | undefined => {
  const claim = readPath(payload, roleClaim)
  const theirs: readonly unknown[] = Array.isArray(claim) ? claim : [claim]
  for (const [name, ours] of roles) if (theirs.includes(name)) return ours
  return undefined
}

/** There is no session of ours behind such a token, so it is its own: the same id at every use. */
const sidOf = (issuer: string, jti: string): string =>
  createHash('sha256')
    .update(JSON.stringify([issuer, jti]))
    .digest()
    .subarray(0, 16)
    .toString('base64url')

/** The claims of a payload that the issuer signed, but for `sub`: the store numbers users. */
const readForeign = (
  payload: Members,
  terms: IssuerTerms,
  token: string,
): Omit<Claims, 'sub' | 'kid'> | Exclude<Verdict, Claims> => {
  const {
    iss,
    aud,
    jti,
    exp,
    iat,
    nbf = iat,
  } = payload as Record<'iss' | 'aud' | 'jti' | 'exp' | 'iat' | 'nbf', unknown>
  /* c8 ignore next: the same text selected the keys; only now is it signed, and only now does it count */
  if (iss !== terms.issuer) return refuse('wrong_issuer')
  if (!isAudience(aud, terms.audience)) return refuse('wrong_audience')
  if (isOtherKind(payload)) return refuse('wrong_type')
  if (!isInstant(iat) || !isInstant(nbf) || !isInstant(exp)) return refuse('bad_claims')
  if (exp - iat > MAX_LIFE.access) return refuse('bad_claims')
  if (jti !== undefined && !isName(jti, 256)) return refuse('bad_claims')
  if (!isName(payload['sub'], 256)) return refuse('bad_claims') // RFC 9068 §2.2
  const name = readPath(payload, terms.usernameClaim)
  if (!isName(name, 190)) return refuse('bad_claims') // with our prefix below 256
  const role = roleOf(payload, terms)
  if (role === undefined) return refuse('unknown_role')
  const sid = sidOf(terms.issuer, jti ?? token)
  return {
    type: 'access',
    username: foreignName(terms.name, name),
    role,
    sid,
    jti: sid,
    iat,
    nbf,
    exp,
    foreign: true,
  }
}

export const foreignName = (issuer: string, username: string): string => `${issuer}:${username}`

/** Whether the name carries an issuer's prefix: no user of ours may have it. */
export const isForeignName = (issuers: Iterable<string>, username: string): boolean =>
  [...issuers].some((issuer) => username.startsWith(foreignName(issuer, '')))

interface Remembered {
  verdict: Verdict
  issuer: TrustedIssuer
  keys: KeySet
}

const BAD_VERDICTS = 1000 // apart from the good ones, so that a flood of garbage evicts none of them

/** Undefined where the config names none, so that no token costs more for it. */
export const createTrustedIssuers = (
  issuers: readonly TrustedIssuer[],
  options: {
    cacheSize: number
    /** The user's number, which never changes. */
    identify(username: string): Promise<number>
  },
): TrustedIssuers | undefined => {
  if (issuers.length === 0) return undefined
  const byIss = new Map(issuers.map((issuer) => [issuer.terms.issuer, issuer]))
  const good = createVerdictCache<Remembered>(options.cacheSize)
  const bad = createVerdictCache<Remembered>(BAD_VERDICTS)

  const findKey = async (
    { terms, keys }: TrustedIssuer,
    kid: string,
  ): Promise<{ keys: KeySet; key: VerifyingKey | undefined }> => {
    let now = keys.current()
    if (!now?.has(kid)) {
      await keys.renew()
      now = keys.current()
    }
    if (!now) throw new IssuerAwayError(terms.name)
    return { keys: now, key: now.get(kid) }
  }

  const verify = async (
    token: string,
    header: Members,
    issuer: TrustedIssuer,
  ): Promise<Verdict> => {
    if (!Object.keys(header).every((name) => HEADER_MEMBERS.has(name))) {
      return refuse('malformed_token')
    }
    const { alg, kid, typ } = header as Record<'alg' | 'kid' | 'typ', unknown>
    if (!TYPES.has(typeof typ === 'string' ? typ.toLowerCase() : typ)) return refuse('wrong_type')
    if (typeof kid !== 'string' || !KID.test(kid)) return refuse('unknown_key')
    const { keys, key } = await findKey(issuer, kid)
    if (!key) return refuse('unknown_key') // not remembered: the issuer may publish it at any moment
    const verdict =
      alg === key.alg ? await judge(token, key, issuer.terms) : refuse('bad_signature')
    const cache = 'refused' in verdict ? bad : good
    cache.set(token, { verdict, issuer, keys })
    return verdict
  }

  const judge = async (token: string, key: VerifyingKey, terms: IssuerTerms): Promise<Verdict> => {
    const signed = await verifyCompact(token, key)
    if ('refused' in signed) return signed
    const claims = readForeign(signed.payload, terms, token)
    if ('refused' in claims) return claims
    const sub = String(await options.identify(claims.username))
    return Object.freeze({ ...claims, sub, kid: key.kid })
  }

  return {
    remembered(token) {
      const found = good.get(token) ?? bad.get(token)
      // The keys have changed since: the one that signed it may have been withdrawn.
      return found && found.issuer.keys.current() === found.keys ? found.verdict : undefined
    },
    verify(token, { header, payload }) {
      // Not trusted: it only selects whose keys to try, and is compared again once the signature is verified.
      const iss = decodeObject(payload)?.['iss']
      const issuer = typeof iss === 'string' ? byIss.get(iss) : undefined
      return issuer && verify(token, header, issuer)
    },
  }
}
