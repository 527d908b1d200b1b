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
  /** The role as this dialect's clients know it. */
  roleName(role: string): string
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
    role: terms.roleName(session.role),
    sid: session.sid,
    jti: createId(),
    iat: now,
    exp: accessExpiry(terms, now, session),
    // RFC 7519 knows no such claims: what this dialect's clients read beside ours.
    ...(session.dialect === 'mikopbx' && {
      extra: { userId: session.username, language: session.language },
    }),
  })

/** A refresh token in the form that the dialect's clients know: a JWT, or 64 hex digits. */
export const issueRefreshToken = async (
  tokens: Tokens,
  session: Session,
  now: number,
): Promise<string> =>
  session.dialect === 'mikopbx'
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
