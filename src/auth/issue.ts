// The tokens of a session. A token never outlives its session: its end is cut to the session's own.

import { randomBytes } from 'node:crypto'

import type { Dialect, Session } from '../store/store.ts'
import { createOpaqueToken } from './refresh-token.ts'
import type { Tokens } from './token.ts'

/** What the config says of one dialect's tokens. Seconds. */
export interface DialectTerms {
  dialect: Dialect
  accessTtl: number
  refreshTtl: number
  /** Whether a refresh trades its token for a new one. */
  rotate: boolean
  /** How long the predecessor still gets the same successor. */
  grace: number
  /** Seconds without a refresh that end a session; 0: never. */
  idleTtl: number
  /** Live sessions that a user may have; the oldest ends. 0: any number. */
  perUser: number
  /** Role → its name in this dialect's tokens, where its clients know another. */
  roleNames?: ReadonlyMap<string, string>
  /** Whether its refresh tokens are 64 hex digits instead of JWTs. */
  opaqueRefresh: boolean
  /** What its clients read in an access token beside our claims; RFC 7519 knows no such names. */
  claimsOf?(session: Session): Readonly<Record<string, string>>
}

/** 128 random bits (ASVS 7.2.3). Hex: an id that begins with `-` would be an option to the operator's shell. */
export const createId = (): string => randomBytes(16).toString('hex')

export const accessExpiry = (
  terms: DialectTerms,
  now: number,
  session: { expiresAt: number },
): number => Math.min(now + terms.accessTtl, session.expiresAt)

export const issueAccessToken = (
  tokens: Tokens,
  session: Session,
  terms: DialectTerms,
  now: number,
): Promise<string> =>
  tokens.issue({
    type: 'access',
    sub: String(session.userId),
    username: session.username,
    role: terms.roleNames?.get(session.role) ?? session.role,
    sid: session.sid,
    jti: createId(),
    iat: now,
    exp: accessExpiry(terms, now, session),
    extra: terms.claimsOf?.(session),
  })

export const issueRefreshToken = async (
  tokens: Tokens,
  session: Session,
  terms: DialectTerms,
  now: number,
): Promise<string> =>
  terms.opaqueRefresh
    ? createOpaqueToken()
    : tokens.issue({
        type: 'refresh',
        sub: String(session.userId),
        username: session.username,
        role: session.role,
        sid: session.sid,
        jti: createId(),
        iat: now,
        exp: session.expiresAt,
      })
