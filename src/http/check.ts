// GET /check, what nginx's auth_request asks. With auth/check.ts this is the whole hot path: no body, no
// wait for a remembered token, and nothing but 204, 401 or 403 (a fault becomes the server's 503).

import type { Decision, Guard, Identity } from '../auth/check.ts'
import type { Refusal } from '../auth/decision.ts'
import { readCredential } from './credential.ts'
import { challenge, type Reply, type SecurityEvent, STATUS } from './reply.ts'
import type { Handler, Request } from './request.ts'

export interface CheckObservation {
  action: string | undefined
  decision: Decision
  /** Seconds, by a monotonic clock. */
  took: number
}

const PLAIN = /^[!-$&-+\--~]+$/ // visible ASCII but `%` and `,`

/** One header line that says one name: anything but plain ASCII goes percent-encoded, never a bare CR or comma. */
const headerText = (text: string): string => (PLAIN.test(text) ? text : encodeURIComponent(text))

const allow = ({ claims, role }: Identity, action: string, resource: string): Reply => {
  const headers = [
    'X-Auth-User',
    headerText(claims.username),
    'X-Auth-Role',
    headerText(role),
    'X-Auth-Session',
    claims.sid,
    'X-Auth-Expires',
    String(claims.exp),
  ]
  if (action === 'subscribe') headers.push('X-Auth-Channel', resource)
  return { status: 204, headers }
}

const DENIED: Readonly<Record<string, SecurityEvent['name']>> = {
  read: 'MEDIA_ACCESS_DENIED',
  subscribe: 'SUBSCRIBE_DENIED',
}
// Not an attack, and what a client does that comes a second late: a jail must never count these.
const NO_EVENT: ReadonlySet<string> = new Set(['no_credential', 'expired', 'session_ended'])

const deny = (refusal: Refusal, action: string | undefined): Reply => {
  const { refused } = refusal
  const event = NO_EVENT.has(refused) ? undefined : DENIED[action ?? '']
  return {
    status: STATUS[refused],
    headers: ['WWW-Authenticate', challenge(refusal), 'X-Auth-Reason', refused],
    reason: refused,
    ...(event && { events: [{ name: event, message: refused }] }),
  }
}

export const createCheckHandler = (parts: {
  guard: Guard
  observe(observation: CheckObservation): void
  monotonic(): number
}): Handler => {
  const { guard, observe, monotonic } = parts

  const decide = ({ headers }: Request, action?: string, resource?: string) => {
    const credential = readCredential(
      headers,
      headers.get('x-auth-accept') ?? 'header',
      headers.get('x-original-uri') ?? '',
    )
    if ('refused' in credential) return credential
    return guard.check({ token: credential.token, action, resource })
  }

  return (request) => {
    const began = monotonic()
    const action = request.headers.get('x-auth-action')
    const resource = request.headers.get('x-auth-resource')
    const answer = (decision: Decision): Reply => {
      observe({ action, decision, took: monotonic() - began })
      return 'refused' in decision
        ? deny(decision, action)
        : allow(decision, action ?? '', resource ?? '')
    }
    const decision = decide(request, action, resource)
    return decision instanceof Promise ? decision.then(answer) : answer(decision)
  }
}
