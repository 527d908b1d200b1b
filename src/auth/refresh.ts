// A refresh token becomes a new access token, and with rotation a new refresh token. The user is
// looked up each time: a removed or disabled user, or a changed password, ends the session here at the latest.

import type { Clock } from '../clock.ts'
import type { EndCause, EndedSession, Renewal, Session, Store } from '../store/store.ts'
import type { Lookup } from '../users/source.ts'
import { accessExpiry, type DialectTerms, issueAccessToken, issueRefreshToken } from './issue.ts'
import {
  findByNames,
  hashRefreshToken,
  isOpaque,
  mayBeStored,
  namesOf,
  sealSuccessor,
  unsealSuccessor,
} from './refresh-token.ts'
import type { Sessions } from './sessions.ts'
import type { Sights } from './sights.ts'
import { judgeTime, type Tokens } from './token.ts'

export type RefreshRefusal =
  | 'invalid' // not a refresh token of ours
  | 'wrong_type' // an access token, properly signed
  | 'expired'
  | 'ended'
  | 'reused' // a rotated token after its grace, whose successor was seen: the session ends
  | 'user_gone'

/** `recovered`: after the grace, by who had lost the answer of the refresh before. */
type Outcome = 'renewed' | 'rotated' | 'replayed' | 'recovered'

export type RefreshResult =
  | {
      session: Session
      accessToken: string
      expiresIn: number
      /** Only where the dialect rotates. */
      refreshToken?: string
      outcome: Outcome
    }
  | { refused: RefreshRefusal; ended?: EndedSession }
  | { unavailable: 'source_away'; retryAfter: number }

/** A session that goes on: what the refresh updates, and the number of its user as of today. */
interface Going {
  renewal: Renewal
  number: string | undefined
}

export type Refresh = (refreshToken: string) => Promise<RefreshResult>

const SOURCE_RETRY = 5 // seconds: the user source is away, the session stays

export const createRefresh = (
  parts: {
    users: { lookup(username: string): Promise<Lookup> }
    store: Pick<Store, 'findByRefresh' | 'renew' | 'rotate'>
    sessions: Sessions
    sights: Pick<Sights, 'saw' | 'settle'>
    tokens: Tokens
    clock: Clock
    /** The session goes on, and so may the streams opened with its tokens. */
    onRenewed?(session: Session): void
  },
  terms: DialectTerms,
): Refresh => {
  const { users, store, sessions, sights, tokens, clock, onRenewed } = parts

  /** What the token alone tells: of a JWT the signature, the type and the time; if it may pass, its names. */
  const judgeText = async (
    token: string,
  ): Promise<{ refused: RefreshRefusal } | ReturnType<typeof namesOf>> => {
    if (terms.opaqueRefresh) return isOpaque(token) ? namesOf(token) : { refused: 'invalid' }
    const verdict = await tokens.verify(token)
    if ('refused' in verdict) {
      return mayBeStored(verdict) ? namesOf(token) : { refused: 'invalid' }
    }
    if (verdict.type !== 'refresh') return { refused: 'wrong_type' }
    const untimely = judgeTime(verdict, clock.now())
    if (!untimely) return namesOf(token, verdict.sid)
    return { refused: untimely.refused === 'expired' ? 'expired' : 'invalid' }
  }

  const end = async (session: Session, cause: EndCause): Promise<RefreshResult> => {
    const ended = await sessions.end(session.sid, cause)
    return { refused: 'user_gone', ...(ended && { ended }) }
  }

  const answer = async (
    session: Session,
    now: number,
    outcome: Outcome,
    {
      number,
      gen,
      refreshToken,
    }: { number: string | undefined; gen?: number; refreshToken?: string },
  ): Promise<RefreshResult> => {
    onRenewed?.(session)
    return {
      session,
      accessToken: await issueAccessToken(tokens, session, terms, now, { gen, number }),
      expiresIn: accessExpiry(terms, now, session) - now,
      outcome,
      ...(refreshToken !== undefined && { refreshToken }),
    }
  }

  /** Whether the user as of today may go on; if so, what the refresh updates. */
  const judgeSession = async (session: Session, now: number): Promise<RefreshResult | Going> => {
    const today = await users.lookup(session.username)
    if ('unavailable' in today) return { unavailable: today.unavailable, retryAfter: SOURCE_RETRY }
    if ('refused' in today) {
      return end(session, today.refused === 'disabled' ? 'user_disabled' : 'user_removed')
    }
    const { credential, credentials = [credential] } = today.user
    if (!credentials.includes(session.credential)) return end(session, 'password_changed')
    const accessUntil = accessExpiry(terms, now, session)
    const { role, number } = today.user
    return { renewal: { now, role, accessUntil, idleTtl: terms.idleTtl }, number }
  }

  const renew = async (hash: Buffer, { renewal, number }: Going): Promise<RefreshResult> => {
    const renewed = await store.renew(hash, renewal)
    if (renewed.state === 'live') return answer(renewed.session, renewal.now, 'renewed', { number })
    return { refused: renewed.state === 'unknown' ? 'invalid' : renewed.state }
  }

  const rotate = async (
    presented: string,
    [hash, family]: ReturnType<typeof namesOf>,
    session: Session,
    { renewal, number }: Going,
  ): Promise<RefreshResult> => {
    const { now } = renewal
    const successor = await issueRefreshToken(tokens, session, terms, now, presented)
    const sealed = sealSuccessor(presented, successor)
    const next = { hash: hashRefreshToken(successor), sealed, family }
    // The store is back, and has yet to hear that somebody has shown what this token was traded for.
    await sights.settle(session.sid)
    const trade = (name: Buffer) =>
      store.rotate(name, next, renewal, terms.grace, terms.unseenGrace)
    let rotation = await trade(hash)
    if (rotation.outcome === 'unknown' && family) rotation = await trade(family)
    switch (rotation.outcome) {
      case 'rotated': {
        const { generation: gen } = rotation
        return answer(rotation.session, now, 'rotated', { number, gen, refreshToken: successor })
      }
      case 'replayed': // the first successor wins: all who still hold its predecessor get that one
      case 'recovered': {
        const { outcome, generation: gen, sealed } = rotation
        const refreshToken = unsealSuccessor(presented, sealed)
        return answer(rotation.session, now, outcome, { number, gen, refreshToken })
      }
      case 'reused':
        await sessions.ended(rotation.ended)
        return { refused: 'reused', ended: rotation.ended }
      case 'unknown':
        return { refused: 'invalid' }
      case 'ended':
      case 'expired':
        return { refused: rotation.outcome }
    }
  }

  return async (presented) => {
    const names = await judgeText(presented)
    if ('refused' in names) return names
    const now = clock.now()
    const found = await findByNames(store, names, now)
    if (found.state === 'unknown') return { refused: 'invalid' }
    if (found.state !== 'live') return { refused: found.state }
    if (found.session.dialect !== terms.dialect) return { refused: 'invalid' }
    // The store is back, and has yet to hear of a logout that it could not write.
    if (sessions.owes(found.session)) return { refused: 'ended' }
    const judged = await judgeSession(found.session, now)
    const goesOn = 'renewal' in judged
    if (goesOn && terms.rotate) return rotate(presented, names, found.session, judged)
    sights.saw(found.session.sid, found.generation) // a rotation says so itself
    return goesOn ? renew(names[0], judged) : judged
  }
}
