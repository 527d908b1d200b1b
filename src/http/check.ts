// GET /check/<resource>, what nginx's auth_request asks. With auth/check.ts this is the whole hot path: no body, no
// waiting for a remembered token, and nothing but 204, 401 or 403 (a fault becomes the server's 503).

import type { CheckRequest, Decision, Guard, Identity } from '../auth/check.ts'
import { type Refusal, refuse } from '../auth/decision.ts'
import type { Tickets } from '../auth/ticket.ts'
import { isForSip } from '../auth/token.ts'
import { readCredential } from './credential.ts'
import { type Exemption, readExemption } from './exemption.ts'
import type { Headers } from './headers.ts'
import { challenge, type Reply, type SecurityEvent, STATUS } from './reply.ts'
import { readAgent, type Request } from './request.ts'
import type { readResource } from './resource.ts'
import { readResume } from './resume.ts'
import type { Route } from './routes.ts'
import type { Site } from './site.ts'

export interface CheckObservation {
  action: string | undefined
  decision: Decision | Exemption
  /** Seconds, by a monotonic clock. */
  took: number
}

export interface Admission {
  sid: string
  username: string
  userId: number
  role: string
  resource: string
  until: number
  address: string
  agent: string
  /** Whether the id is for this stream only. */
  exclusive: boolean
  /** The pid of nginx's worker in which it opens; empty with nginx files of the version before. */
  worker: string
  /** Of the key that signed its token or ticket. */
  kid: string
}

/** The live streams, as far as a check needs them. */
export interface Admissions {
  /** Why a stream that opens now could never be ended: thrown, before a ticket is used up. */
  obstacle(): Error | undefined
  /** Whether `admit` would let it in; asked before a ticket is used up. */
  hasRoom(admission: Admission): boolean
  /**
   * The kick id for an allowed subscribe. Undefined where the session has as many streams as it may; throws where it
   * cannot be written down.
   */
  admit(admission: Admission): string | undefined
  /** For a stream that no end of a session ends. */
  createKickId(): string
  kickSession(sid: string, cause: 'session_ended'): Promise<number>
  /** Whether the channel keeps a message right now, so that a client may go on from an id. */
  keeps(channel: string, worker: string): Promise<boolean>
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

/** Two Upgrade lines reach us as two, or joined by a comma: `websocket` may stand beside another protocol. */
const mayBeWebSocket = (headers: Headers): boolean =>
  headers.isRepeated('x-original-upgrade') ||
  /websocket/i.test(headers.get('x-original-upgrade') ?? '')

const OWN = /^me\/([a-z0-9-]{1,40})$/
const CHANNEL = /^(?!kick-)[a-z0-9-]{1,64}$/ // kick- names the private channels by which streams are ended

/** The Nchan channel of a resource: `me/x` is the user's own x. It never falls back to a wider one. */
const channelOf = (resource: string, userId: string): string | undefined => {
  const own = OWN.exec(resource)?.[1]
  const channel = own === undefined ? resource : `${own}-user-${userId}`
  return CHANNEL.test(channel) ? channel : undefined
}

/** Memory may know too little: a ticket for SIP outlives what is remembered of its session. */
const needsSession = (decision: Decision): decision is Identity =>
  !('refused' in decision) && isForSip(decision.claims.ticket?.pattern)

/** `atOnce` answers a remembered token; `handler` all else: one seen first, whoever needs a kick id or the store. */
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
  const { guard, today, tickets, admissions, site, observe, monotonic } = parts

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
    const { token, type } = credential
    return { token, type, action, resource: parts.resourceOf(request) }
  }

  const answer = (
    { headers }: Request,
    action: string | undefined,
    began: number,
    decision: Decision | Exemption,
    more: readonly string[] = [],
  ): Reply => {
    observe({ action, decision, took: monotonic() - began })
    if ('refused' in decision) {
      return {
        ...deny(decision, action),
        ...(decision.refused === 'cross_site' && site.blame(headers)),
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

  /** From where the stream goes on. As late as possible: nginx acts on the answer at once. */
  const resume = async (headers: Headers, channel: string): Promise<string[]> => {
    const from = readResume(
      headers.get('x-original-resume') ?? '||',
      headers.get('x-original-uri') ?? '',
    )
    if (from === undefined) return []
    const worker = headers.get('x-original-worker') ?? ''
    return (await admissions.keeps(channel, worker)) ? ['X-Auth-Resume', from] : []
  }

  /** Nothing ends it but nginx (a reload, its client): no session could. */
  const admitExempt = async (
    { headers }: Request,
    { resource }: Exemption,
  ): Promise<Refusal | string[]> => {
    const channel = channelOf(resource, '')
    if (channel === undefined) return refuse('bad_resource')
    const more = await resume(headers, channel)
    return ['X-Auth-Channels', `${channel},${admissions.createKickId()}`, ...more]
  }

  /** An allowed subscribe needs a kick id; while a ticket is used up or nginx asked, the right to subscribe may end. */
  const admit = async (
    { headers, address }: Request,
    asked: CheckRequest,
    identity: Identity,
  ): Promise<Refusal | string[]> => {
    const { claims, role } = identity
    const obstacle = admissions.obstacle()
    if (obstacle) throw obstacle
    const resource = asked.resource ?? ''
    const channel = channelOf(resource, claims.sub)
    if (channel === undefined) return refuse('bad_resource')
    const worker = headers.get('x-original-worker') ?? ''
    const wanted: Admission = {
      sid: claims.sid,
      username: claims.username,
      userId: Number(claims.sub),
      role,
      resource,
      until: claims.ticket?.until ?? claims.exp,
      address,
      agent: readAgent(headers),
      // A long-poll that offers h2c (Java's client does) would have a stream of its own at each poll.
      exclusive: mayBeWebSocket(headers),
      worker,
      kid: claims.kid,
    }
    // Before the ticket, which the client shows again once there is room; and the stream after it: else a used ticket
    // would open streams in the list, at whose limit those that live give way.
    if (claims.ticket && !admissions.hasRoom(wanted)) return refuse('limit')
    const spent = await tickets.redeem(identity, headers.get('x-request-id') ?? '')
    if (spent) return spent
    const kick = admissions.admit(wanted)
    if (kick === undefined) return refuse('limit')
    const more = await resume(headers, channel)
    const now = await today().check(asked)
    if ('refused' in now) {
      // An expired token is not the end of its session, whose other streams may have a fresh one.
      if (now.refused !== 'expired') void admissions.kickSession(claims.sid, 'session_ended')
      return now
    }
    return [
      'X-Auth-Channels',
      `${channel},${kick}`,
      ...more,
      // For nginx files of the previous version, which may stay in force for days after an upgrade.
      'X-Auth-Channel',
      channel,
      'X-Auth-Kick',
      kick,
    ]
  }

  /** What the credential is good for, and what nginx needs besides to open a stream. */
  const decide = async (
    request: Request,
    action: string | undefined,
  ): Promise<[Decision, readonly string[]]> => {
    const asked = read(request, action)
    if ('refused' in asked) return [asked, []]
    const decision = await guard.check(asked)
    if (needsSession(decision)) {
      // The right may end while the store is asked.
      const ended = await tickets.redeem(decision, '')
      return [ended ?? (await today().check(asked)), []]
    }
    if ('refused' in decision || action !== 'subscribe') return [decision, []]
    const outcome = await admit(request, asked, decision)
    return 'refused' in outcome ? [outcome, []] : [decision, outcome]
  }

  return {
    atOnce(request) {
      const began = monotonic()
      const action = request.headers.get('x-auth-action')
      if (action === 'subscribe') return undefined // needs a kick id
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
