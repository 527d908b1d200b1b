// GET /check/<resource>, what nginx's auth_request asks. With auth/check.ts this is the whole hot path: no body, no
// waiting for a remembered token, and nothing but 204, 401 or 403 (a fault becomes the server's 503).

import type { CheckRequest, Decision, Guard, Identity } from '../auth/check.ts'
import type { Refusal } from '../auth/decision.ts'
import type { Tickets } from '../auth/ticket.ts'
import { isForSip } from '../auth/token.ts'
import { type Admissions, createStreamOpener, mayBeWebSocket } from './admission.ts'
import { readCredential } from './credential.ts'
import { type Exemption, readExemption } from './exemption.ts'
import { challenge, type Reply, type SecurityEvent, STATUS } from './reply.ts'
import type { Request } from './request.ts'
import type { readResource } from './resource.ts'
import type { Route } from './routes.ts'
import type { Site } from './site.ts'

export interface CheckObservation {
  action: string | undefined
  decision: Decision | Exemption
  /** Seconds, by a monotonic clock. */
  took: number
}

const PLAIN = /^[!-$&-+\--~]+$/ // visible ASCII but `%` and `,`

/** A name as one header value: all but plain ASCII is percent-encoded, so it can hold no CR and no comma. */
const headerText = (text: string): string => (PLAIN.test(text) ? text : encodeURIComponent(text))

const allow = ({ claims, role }: Identity): string[] => [
  'X-Auth-User',
  headerText(claims.username),
  'X-Auth-Role',
  headerText(role),
  'X-Auth-Session',
  claims.sid,
  'X-Auth-Expires',
  String(claims.exp),
]

const passExempt = ({ exempt }: Exemption): string[] =>
  exempt === '-' ? [] : ['X-Auth-User', headerText(exempt)]

const DENIED: Readonly<Record<string, SecurityEvent['name']>> = {
  read: 'MEDIA_ACCESS_DENIED',
  write: 'MEDIA_ACCESS_DENIED',
  subscribe: 'SUBSCRIBE_DENIED',
}
// No attack: an honest client does this (it comes a second late), and a jail must never count it.
const NO_EVENT: ReadonlySet<string> = new Set([
  'no_credential',
  'expired',
  'session_ended',
  'limit', // a page in many tabs
  'unknown_call', // one's own call, which the source has yet to hear of
  // These two have an event of their own.
  'unknown_machine_key',
  'wrong_network',
])

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

/** Memory may know too little: a ticket for SIP outlives what is remembered of its session. */
const needsSession = (decision: Decision): decision is Identity =>
  !('refused' in decision) && isForSip(decision.claims.ticket?.pattern)

/** `atOnce` answers a remembered token; `handler` all else: one seen first, whoever needs an id or the store. */
export const createCheckHandlers = (parts: {
  guard: Guard
  /** The rules in force now: a reload may have come while a ticket was used up. */
  today(): Pick<Guard, 'check'>
  tickets: Pick<Tickets, 'redeem'>
  admissions: Admissions
  site: Site
  resourceOf: typeof readResource
  observe(observation: CheckObservation): void
  monotonic(): number
}): Pick<Route, 'atOnce' | 'handler'> => {
  const { guard, today, tickets, site, observe, monotonic } = parts
  const { admit, admitExempt, follow, isFollowed } = createStreamOpener(parts)

  const read = (request: Request, action: string | undefined): CheckRequest | Refusal => {
    const { headers } = request
    const credential = readCredential({
      headers,
      // Missing, or sent twice: no way to show a credential counts.
      accept: headers.get('x-auth-accept') ?? '',
      uri: headers.get('x-original-uri') ?? '',
      site,
      isWebSocket: action === 'connect' || mayBeWebSocket(headers),
    })
    if ('refused' in credential) return credential
    const { token, type, inHeader } = credential
    const keyFrom = inHeader ? request.address : undefined
    return { token, type, keyFrom, action, resource: parts.resourceOf(request) }
  }

  const answer = (
    request: Request,
    action: string | undefined,
    began: number,
    decision: Decision | Exemption,
    more: readonly string[] = [],
  ): Reply => {
    observe({ action, decision, took: monotonic() - began })
    if ('refused' in decision) {
      return {
        ...deny(decision, action),
        ...(decision.refused === 'cross_site' && site.blame(request.headers)),
      }
    }
    const identity = 'exempt' in decision ? passExempt(decision) : allow(decision)
    return { status: 204, headers: [...identity, ...more] }
  }

  /** A refusal stands, unless the location needs no login of whoever comes from there. */
  const excuse = (
    request: Request,
    action: string | undefined,
    decision: Decision,
  ): Decision | Exemption =>
    'refused' in decision
      ? (readExemption(request.headers, site, action, parts.resourceOf(request)) ?? decision)
      : decision

  /** What the credential is good for, and what nginx needs besides to open a stream. */
  const decide = async (
    request: Request,
    action: string | undefined,
  ): Promise<[Decision, readonly string[]]> => {
    const asked = read(request, action)
    if ('refused' in asked) return [asked, []]
    let decision = await guard.check(asked)
    if (needsSession(decision)) {
      const ended = await tickets.redeem(decision, '')
      // The right may end while the store is asked.
      decision = ended ?? (await today().check(asked))
    }
    if ('refused' in decision) return [decision, []]
    if (action !== 'subscribe') {
      const ended = isFollowed(request.headers) ? await follow(request, asked, decision) : undefined
      return [ended ?? decision, []]
    }
    const outcome = await admit(request, asked, decision)
    return 'refused' in outcome ? [outcome, []] : [decision, outcome]
  }

  return {
    atOnce(request) {
      const began = monotonic()
      const action = request.headers.get('x-auth-action')
      if (action === 'subscribe' || isFollowed(request.headers)) return undefined // needs an id
      const asked = read(request, action)
      const decision = 'refused' in asked ? asked : guard.checkRemembered(asked)
      if (!decision || needsSession(decision)) return undefined
      return answer(request, action, began, excuse(request, action, decision))
    },
    async handler(request) {
      const began = monotonic()
      const action = request.headers.get('x-auth-action')
      const [decision, more] = await decide(request, action)
      const excused = excuse(request, action, decision)
      if (action !== 'subscribe' || !('exempt' in excused)) {
        return answer(request, action, began, excused, more)
      }
      const opened = await admitExempt(request, excused)
      return 'refused' in opened
        ? answer(request, action, began, opened)
        : answer(request, action, began, excused, opened)
    },
  }
}
