// POST /auth/ticket: for what cannot send headers (EventSource, WebSocket, <audio>), a short-lived ticket for exactly
// one action and resource, which may be put in a URL. A machine key names the user for whom.

import type { ActFor } from '../../auth/act-for.ts'
import type { Identity } from '../../auth/check.ts'
import type { Members } from '../../auth/compact.ts'
import type { Tickets } from '../../auth/ticket.ts'
import { parseJsonBody } from '../body.ts'
import { challenge, failure, type Reply, retryAfter } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import { forHolder, type HolderParts } from './holder.ts'
import { success } from './reply.ts'

export const createTicketHandler = (
  parts: HolderParts & {
    tickets: Pick<Tickets, 'issue'>
    actFor: ActFor
    observe: { ticket(result: 'issued' | 'bad_request' | 'no_grant'): void }
  },
): Handler => {
  const { tickets, actFor, observe } = parts
  const bad = (error: string): Reply => {
    observe.ticket('bad_request')
    return failure(400, error)
  }

  const forbid = (error: string): Reply => {
    observe.ticket('no_grant')
    return failure(403, error, {
      headers: ['WWW-Authenticate', challenge({ refused: 'no_grant' })],
    })
  }

  const issue = async (holder: Identity, fields: Members): Promise<Reply> => {
    const { action, resource, ttl } = fields as Record<'action' | 'resource' | 'ttl', unknown>
    if (typeof action !== 'string' || typeof resource !== 'string') {
      return bad('A JSON object with action and resource is required')
    }
    if (ttl !== undefined && typeof ttl !== 'number') return bad('ttl must be a number of seconds')
    const result = await tickets.issue(holder, { action, resource, ttl })
    if ('problem' in result) return bad(result.problem)
    if ('ticket' in result) {
      observe.ticket('issued')
      return success({ ticket: result.ticket, expires_in: result.expiresIn })
    }
    return forbid('Not granted: the role of this user has no right to it')
  }

  const issueForUser = async (
    holder: Identity,
    fields: Members,
    { address }: Request,
  ): Promise<Reply> => {
    const { user, action } = fields
    if (typeof user !== 'string') return bad('A machine key says for which user: "user": "201"')
    if (action !== 'read' && action !== 'subscribe') {
      return bad("A ticket in a user's name is to read or to subscribe")
    }
    const acted = await actFor(holder, user, address)
    if ('unavailable' in acted) {
      return failure(503, 'Try again later', { headers: retryAfter(1) })
    }
    if ('refused' in acted) {
      return forbid(
        acted.refused === 'no_grant'
          ? 'Not granted: this machine key makes no tickets for that user'
          : `Not granted: that user is ${acted.refused === 'disabled' ? 'disabled' : 'unknown'}`,
      )
    }
    const { username, sid } = acted.identity.claims
    const message = `session opened by ${holder.claims.username}`
    const events = [{ name: 'AUTH_SUCCESS', message, user: username, sid }] as const
    return { ...(await issue(acted.identity, fields)), ...(acted.opened && { events }) }
  }

  return async (request) => {
    const body = await request.body()
    const fields = parseJsonBody(request.headers, body) ?? {}
    const answer = (holder: Identity): Reply | Promise<Reply> => {
      if (holder.claims.machine) return issueForUser(holder, fields, request)
      return fields['user'] === undefined
        ? issue(holder, fields)
        : bad('Only a machine key names a user: leave "user" out')
    }
    return forHolder(parts, answer, true)(request)
  }
}
