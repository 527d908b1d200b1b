// Tickets: short-lived, for one action and one resource (or folder), safe in a URL because they are worthless
// anywhere else. A ticket belongs to the session it was issued in and ends with it.

import type { Clock } from '../clock.ts'
import type { Store } from '../store/store.ts'
import type { Identity } from './check.ts'
import { type Refusal, refuse } from './decision.ts'
import { ACTIONS, coversPattern, isAction, parseGrant, type Policy } from './grants.ts'
import { createId } from './issue.ts'
import type { Tokens } from './token.ts'

export interface TicketRequest {
  action: string
  /** A resource, or a grant's pattern without placeholders: `recordings/2026/**`. */
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
  store: Pick<Store, 'useTicket'>
  policy: Policy
  clock: Clock
  maxTtl: number
}) => {
  const { tokens, store, policy, clock, maxTtl } = parts
  return {
    async issue(
      { claims, role }: Identity,
      { action, resource, ttl = Math.min(TTL, maxTtl) }: TicketRequest,
    ): Promise<TicketResult> {
      const bad = (problem: string): TicketResult => ({ refused: 'bad_request', problem })
      if (!isAction(action)) return bad(`action must be one of ${ACTIONS.join(', ')}`)
      const pattern = parseGrant(`${action}:${resource}`)
      if ('problem' in pattern || /[{}]/.test(resource)) {
        return bad('resource must be a resource, or a pattern of * and **')
      }
      // With two, what stands between them is searched for everywhere: its holder would choose what a check costs.
      if (resource.indexOf('**') !== resource.lastIndexOf('**')) {
        return bad('resource must have ** once at most')
      }
      if (!Number.isSafeInteger(ttl) || ttl < 1 || ttl > maxTtl) {
        return bad(`ttl must be a whole number of seconds from 1 to ${maxTtl}`)
      }
      // A ticket belongs to a session of ours, and another system's token has none.
      if (claims.foreign) return { refused: 'no_grant' }
      const subject = { username: claims.username, id: claims.sub, role }
      if (!coversPattern(policy.get(role) ?? [], action, resource, subject)) {
        return { refused: 'no_grant' }
      }
      const now = clock.now()
      const exp = Math.min(now + ttl, claims.exp) // never beyond the token it was issued for
      const ticket = await tokens.issue({
        type: 'ticket',
        sub: claims.sub,
        username: claims.username,
        role: claims.role,
        sid: claims.sid,
        jti: createId(),
        iat: now,
        exp,
        extra: { action, resource, until: claims.exp },
      })
      return { ticket, expiresIn: exp - now }
    },
    /**
     * Uses the ticket up, where its action allows one use; undefined: it may pass. nginx may ask twice about one
     * request (an internal redirect), so the same request id gets the same answer for a few seconds.
     */
    redeem({ claims }: Identity, requestId: string): undefined | Promise<Refusal | undefined> {
      if (claims.ticket?.action !== 'subscribe') return undefined // a player's Range requests are many
      return (
        store
          // Without an id no request is a repetition of another.
          .useTicket(claims.jti, requestId === '' ? createId() : requestId, clock.now(), claims.exp)
          .then((use) => (use === 'used' ? refuse('ticket_used') : undefined))
      )
    },
  }
}

export type Tickets = ReturnType<typeof createTickets>
