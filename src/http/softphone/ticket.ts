// POST /auth/ticket: for what cannot send headers (EventSource, WebSocket, <audio>): something short-lived for
// exactly one action and resource, that may stand in a URL.

import type { Tickets } from '../../auth/ticket.ts'
import { parseJsonBody } from '../body.ts'
import { challenge, failure } from '../reply.ts'
import type { Handler } from '../request.ts'
import { type HolderParts, identifyHolder } from './holder.ts'
import { refusal, shape, success } from './reply.ts'

export const createTicketHandler = (
  parts: HolderParts & {
    tickets: Pick<Tickets, 'issue'>
    observe: { ticket(result: 'issued' | 'bad_request' | 'no_grant'): void }
  },
): Handler => {
  const { tickets, observe, now } = parts
  return async (request) => {
    const body = await request.body()
    if (!Buffer.isBuffer(body)) return body
    const holder = await identifyHolder(request, parts)
    if ('refused' in holder) return refusal(holder, now())
    const fields = parseJsonBody(request.headers, body)
    const { action, resource, ttl } = (fields ?? {}) as Record<
      'action' | 'resource' | 'ttl',
      unknown
    >
    if (typeof action !== 'string' || typeof resource !== 'string') {
      observe.ticket('bad_request')
      return failure(shape, 400, 'A JSON object with action and resource is required', now())
    }
    if (ttl !== undefined && typeof ttl !== 'number') {
      observe.ticket('bad_request')
      return failure(shape, 400, 'ttl must be a number of seconds', now())
    }
    const result = await tickets.issue(holder, { action, resource, ttl })
    if ('ticket' in result) {
      observe.ticket('issued')
      return success({ ticket: result.ticket, expires_in: result.expiresIn })
    }
    observe.ticket(result.refused)
    if (result.refused === 'bad_request') return failure(shape, 400, result.problem, now())
    return failure(shape, 403, 'Not granted', now(), {
      headers: ['WWW-Authenticate', challenge({ refused: 'no_grant' })],
    })
  }
}
