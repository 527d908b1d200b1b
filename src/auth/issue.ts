// The tokens of a session. A token never outlives its session.

import { randomBytes } from 'node:crypto'

import type { Dialect, Session } from '../store/store.ts'
import { isNumber } from './claims.ts'
import { createOpaqueToken } from './refresh-token.ts'
import type { Tokens } from './token.ts'

/** How one dialect's tokens are made, and how long they live, in seconds. */
export interface DialectTerms {
  dialect: Dialect
  accessTtl: number
  refreshTtl: number
  /** Whether a refresh trades its token for a new one. */
  rotate: boolean
  /** How long a rotated token still gets the same successor. */
  grace: number
  /** The same, while nobody has seen that successor, nor an access token issued with it. */
  unseenGrace: number
  /** Seconds without a refresh that end a session; 0: never. */
  idleTtl: number
  /** Live sessions that a user may have; one more ends the oldest. 0: any number. */
  perUser: number
  /** Role → its name in this dialect's tokens, where its clients know another. */
  roleNames?: ReadonlyMap<string, string>
  /** Whether its refresh tokens are 64 hex digits instead of JWTs. */
  opaqueRefresh: boolean
  /** Claims that its clients read beside ours; RFC 7519 has no names for them. */
  claimsOf?(session: Session): Readonly<Record<string, string>>
}

/** 128 random bits (ASVS 7.2.3). Hex: an id that begins with `-` would be an option to the operator's shell. */
export const createId = (): string => randomBytes(16).toString('hex')

export const accessExpiry = (
  terms: DialectTerms,
  now: number,
  session: { expiresAt: number },
): number => Math.min(now + terms.accessTtl, session.expiresAt)

/** The claims that access and refresh tokens have in common. */
const sharedClaims = ({ userId, username, sid }: Session, now: number) => ({
  sub: String(userId),
  username,
  sid,
  jti: createId(),
  iat: now,
})

export const issueAccessToken = (
  tokens: Tokens,
  session: Session,
  terms: DialectTerms,
  now: number,
  { gen, number }: { gen?: number | undefined; number?: string | undefined } = {},
): Promise<string> =>
  tokens.issue({
    ...sharedClaims(session, now),
    gen,
    num: isNumber(number) ? number : undefined,
    type: 'access',
    role: terms.roleNames?.get(session.role) ?? session.role,
    exp: accessExpiry(terms, now, session),
    extra: terms.claimsOf?.(session),
  })

export const issueRefreshToken = async (
  tokens: Tokens,
  session: Session,
  terms: DialectTerms,
  now: number,
  predecessor?: string,
): Promise<string> => {
  if (terms.opaqueRefresh) return createOpaqueToken(predecessor)
  const { role, expiresAt: exp } = session
  return tokens.issue({ ...sharedClaims(session, now), type: 'refresh', role, exp })
}
