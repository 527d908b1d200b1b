// Tickets: short-lived, for one action and one resource (or folder), safe in a URL because they are worthless
// anywhere else. A ticket belongs to the session it was issued in and ends with it; one for SIP lives nearly as long.

import type { Clock } from '../clock.ts'
import type { Session, Store } from '../store/store.ts'
import type { Identity, StillGranted } from './check.ts'
import { type Refusal, refuse } from './decision.ts'
import { ACTIONS, coversPattern, isAction, parseGrant, type Policy } from './grants.ts'
import { createId } from './issue.ts'
import { type Claims, isForSip, type Tokens } from './token.ts'

export interface TicketRequest {
  action: string
  /** A resource as a grant would name it, or a grant's pattern without placeholders: `recordings/2026/**`. */
  resource: string
  /** Seconds; undefined: the default. */
  ttl?: number | undefined
}

export type TicketResult =
  | { ticket: string; expiresIn: number }
  | { refused: 'bad_request'; problem: string }
  | { refused: 'no_grant' }

const TTL = 30 // seconds, where the client asks for no other life: a page opens its stream at once

export const createTickets = (parts: {
  tokens: Pick<Tokens, 'issue'>
  store: Pick<Store, 'listSessions' | 'useTicket'>
  policy: Policy
  stillGranted: StillGranted
  clock: Clock
  maxTtl: number
  /** The longest life of a ticket for SIP, and its life where the client asks for no other. */
  connectTtl: number
  /** Seconds without a refresh that end a session; 0: never. */
  idleTtl: number
}) => {
  const { tokens, store, policy, stillGranted, clock, maxTtl, connectTtl, idleTtl } = parts

  /** By the store, which also knows of sessions that ran out, and of ends that memory has forgotten. */
  const findLive = async ({ username, sid }: Claims): Promise<Session | undefined> => {
    const now = clock.now()
    const sessions = await store.listSessions(now, username)
    const isIdle = ({ seenAt }: Session): boolean => idleTtl > 0 && now >= seenAt + idleTtl
    return sessions.find((session) => session.sid === sid && !isIdle(session))
  }

  const judgeSession = async (claims: Claims): Promise<Refusal | undefined> => {
    const session = await findLive(claims)
    if (!session) return refuse('session_ended')
    const subject = { username: claims.username, id: claims.sub }
    // The role in the ticket may be half a day old; each refresh has brought the session's up to date.
    return stillGranted(session.role, 'connect', 'sip', subject) ? undefined : refuse('no_grant')
  }

  return {
    async issue(
      { claims, role, number }: Identity,
      { action, resource, ttl: asked }: TicketRequest,
    ): Promise<TicketResult> {
      const bad = (problem: string): TicketResult => ({ refused: 'bad_request', problem })
      if (!isAction(action)) return bad(`action must be one of ${ACTIONS.join(', ')}`)
      const pattern = parseGrant(`${action}:${resource}`)
      if ('problem' in pattern || /[{}]/.test(resource)) {
        return bad(
          'resource must be a resource, or a pattern of * and **: write *, %, { and } of a name as %2A, %25, %7B and %7D',
        )
      }
      // With two, what stands between them is searched for everywhere: its holder would choose what a check costs.
      if (resource.indexOf('**') !== resource.lastIndexOf('**')) {
        return bad('resource must have ** once at most')
      }
      const forSip = isForSip(pattern)
      const longest = forSip ? connectTtl : maxTtl
      const ttl = asked ?? (forSip ? connectTtl : Math.min(TTL, maxTtl))
      if (!Number.isSafeInteger(ttl) || ttl < 1 || ttl > longest) {
        return bad(`ttl must be a whole number of seconds from 1 to ${longest}`)
      }
      // A ticket belongs to a session of ours, and another system's token has none.
      if (claims.foreign) return { refused: 'no_grant' }
      const subject = { username: claims.username, id: claims.sub, role, number }
      if (!coversPattern(policy.get(role) ?? [], action, resource, subject)) {
        return { refused: 'no_grant' }
      }
      // Never beyond the token it was issued for; for SIP, never beyond the session.
      const latest = forSip ? (await findLive(claims))?.expiresAt : claims.exp
      if (latest === undefined) return { refused: 'no_grant' }
      const now = clock.now()
      const exp = Math.min(now + ttl, latest)
      const ticket = await tokens.issue({
        type: 'ticket',
        sub: claims.sub,
        username: claims.username,
        role: claims.role,
        sid: claims.sid,
        jti: createId(),
        iat: now,
        exp,
        num: number,
        extra: { action, resource, until: claims.exp },
      })
      return { ticket, expiresIn: exp - now }
    },
    /**
     * Uses the ticket up, where its action allows one use; undefined: it may pass. nginx may ask twice about one
     * request (an internal redirect), so the same request id gets the same answer for a few seconds. One for SIP may be
     * shown again for as long as its session is live.
     */
    redeem({ claims }: Identity, requestId: string): undefined | Promise<Refusal | undefined> {
      if (isForSip(claims.ticket?.pattern)) return judgeSession(claims)
      if (claims.ticket?.action !== 'subscribe') return undefined // a player's Range requests are many
      const { jti, exp, sid } = claims
      // Without an id no request is a repetition of another.
      const request = requestId === '' ? createId() : requestId
      return store
        .useTicket(jti, request, clock.now(), exp, sid)
        .then((use) => (use === 'used' ? refuse('ticket_used') : undefined))
    },
  }
}

export type Tickets = ReturnType<typeof createTickets>
