// A name and a password become a session and its tokens, or a refusal. The answer is sent only once the
// session is durable. A try is counted before its hash runs, so that no race gains more tries.

import type { Clock } from '../clock.ts'
import type { EndCause, Session, Store } from '../store/store.ts'
import type { Authentication, Lookup, User } from '../users/source.ts'
import {
  accessExpiry,
  createId,
  type DialectTerms,
  issueAccessToken,
  issueRefreshToken,
} from './issue.ts'
import { findByNames, hashRefreshToken, namesOf } from './refresh-token.ts'
import type { Sessions } from './sessions.ts'
import type { Throttle } from './throttle.ts'
import type { Tokens } from './token.ts'

export interface LoginRequest {
  username: string
  password: string
  address: string
  agent: string
  language: string
  persistent: boolean
  /** The refresh token that a browser showed: its session ends once the new one stands (ASVS 7.2.4). */
  replaces?: string | undefined
}

export interface IssuedTokens {
  session: Session
  accessToken: string
  refreshToken: string
  /** Seconds. */
  expiresIn: number
}

export type LoginFailure = 'unknown_user' | 'wrong_password' | 'disabled'

export type LoginResult =
  | { issued: IssuedTokens }
  /** For the log and the metric: the client is not told which it was. */
  | { refused: LoginFailure }
  | { throttled: 'pair' | 'address' | 'account'; retryAfter: number; first: boolean }
  | { unavailable: 'hash_queue_full' | 'source_away'; retryAfter: number }

/** What has changed about the user meanwhile; undefined: nothing that matters. */
export const judgeAgain = (
  today: Lookup | undefined,
  user: User,
): { refused: LoginFailure; cause: EndCause } | undefined => {
  if (!today || 'unavailable' in today) return undefined
  if ('refused' in today) {
    const cause = today.refused === 'disabled' ? 'user_disabled' : 'user_removed'
    return { refused: today.refused, cause }
  }
  const { credential, credentials = [credential] } = today.user
  if (credentials.includes(user.credential)) return undefined
  return { refused: 'wrong_password', cause: 'password_changed' }
}

export type Login = (request: LoginRequest) => Promise<LoginResult>

export const createLogin = (
  parts: {
    users: {
      authenticate(username: string, password: string): Promise<Authentication>
      peek(username: string): Lookup | undefined
    }
    store: Pick<Store, 'findByRefresh' | 'identify' | 'openSession'>
    sessions: Pick<Sessions, 'end' | 'ended'>
    tokens: Tokens
    throttle: Throttle
    clock: Clock
  },
  terms: DialectTerms,
): Login => {
  const { users, store, sessions, tokens, throttle, clock } = parts

  const authenticate = async ({ username, password, address }: LoginRequest) => {
    let attempt = await throttle.begin(username, address)
    while ('wait' in attempt) {
      await attempt.wait
      attempt = await throttle.begin(username, address)
    }
    if ('retryAfter' in attempt) {
      return { throttled: attempt.by, retryAfter: attempt.retryAfter, first: attempt.first }
    }
    let outcome: 'succeeded' | 'failed' | 'not_judged' = 'not_judged'
    try {
      const found = await users.authenticate(username, password)
      if ('user' in found) outcome = 'succeeded'
      else if ('refused' in found) outcome = 'failed'
      return found
    } finally {
      attempt.settle(outcome)
    }
  }

  /** Somebody else's session is theirs to end, whoever sits at their browser now. */
  const endReplaced = async (refreshToken: string, username: string): Promise<void> => {
    const found = await findByNames(store, namesOf(refreshToken), clock.now())
    if (found.state !== 'live' || found.session.username !== username) return
    await sessions.end(found.session.sid, 'user')
  }

  return async (request) => {
    const found = await authenticate(request)
    if (!('user' in found)) return found
    const { user } = found
    const now = clock.now()
    const expiresAt = now + terms.refreshTtl
    const session: Session = {
      sid: createId(),
      userId: await store.identify(user.name),
      username: user.name,
      role: user.role,
      dialect: terms.dialect,
      credential: user.credential,
      language: request.language,
      persistent: request.persistent,
      createdAt: now,
      expiresAt,
      accessUntil: accessExpiry(terms, now, { expiresAt }),
      seenAt: now,
      address: request.address,
      agent: request.agent,
    }
    const refreshToken = await issueRefreshToken(tokens, session, terms, now)
    const accessToken = await issueAccessToken(tokens, session, terms, now, user)
    const surplus = await store.openSession(session, hashRefreshToken(refreshToken), terms.perUser)
    // All are revoked at once, before any of them waits for its streams to close.
    await Promise.all(surplus.map(async (ended) => sessions.ended(ended)))
    // The user may have been disabled, or the password changed, while the hash ran and the session was
    // written: what ended the user's other sessions then did not see this one.
    const gone = judgeAgain(users.peek(user.name), user)
    if (gone) {
      await sessions.end(session.sid, gone.cause)
      return { refused: gone.refused }
    }
    if (request.replaces !== undefined) await endReplaced(request.replaces, user.name)
    return {
      issued: { session, accessToken, refreshToken, expiresIn: session.accessUntil - now },
    }
  }
}
