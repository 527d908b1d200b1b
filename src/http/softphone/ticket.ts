// POST /auth/ticket: for what cannot send headers (EventSource, WebSocket, <audio>), a short-lived ticket for exactly
// one action and resource, which may be put in a URL.

import type { Identity } from '../../auth/check.ts'
import type { Members } from '../../auth/compact.ts'
import type { Tickets } from '../../auth/ticket.ts'
import { parseJsonBody } from '../body.ts'
import { challenge, failure, type Reply } from '../reply.ts'
import type { Handler } from '../request.ts'
import { forHolder, type HolderParts } from './holder.ts'
import { shape, success } from './reply.ts'

export const createTicketHandler = (
  parts: HolderParts & {
    tickets: Pick<Tickets, 'issue'>
    observe: { ticket(result: 'issued' | 'bad_request' | 'no_grant'): void }
  },
): Handler => {
  const { tickets, observe, now } = parts
  const bad = (error: string): Reply => {
    observe.ticket('bad_request')
    return failure(shape, 400, error, now())
  }

  const issue = async (holder: Identity, fields: Members = {}): Promise<Reply> => {
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
    observe.ticket('no_grant')
    return failure(shape, 403, 'Not granted: the role of this user has no right to it', now(), {
      headers: ['WWW-Authenticate', challenge({ refused: 'no_grant' })],
    })
  }

  return async (request) => {
    const body = await request.body()
    if (!Buffer.isBuffer(body)) return body
    const fields = parseJsonBody(request.headers, body)
    return forHolder(parts, (holder) => issue(holder, fields))(request)
  }
}
