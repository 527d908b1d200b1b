// A stream that opens: what an allowed subscribe needs besides, and whatever else is followed. It must never hand out what
// no end could reach: the right is looked at again after everything that was waited for.

import type { CheckRequest, Guard, Identity } from '../auth/check.ts'
import { type Refusal, refuse } from '../auth/decision.ts'
import type { Tickets } from '../auth/ticket.ts'
import { isForSip } from '../auth/token.ts'
import type { Keeps } from '../streams/kept.ts'
import type { Means } from '../streams/means.ts'
import type { Admission } from '../streams/places.ts'
import type { Registry } from '../streams/registry.ts'
import { isFollowed, readConnection } from './connection.ts'
import type { Exemption } from './exemption.ts'
import type { Headers } from './headers.ts'
import { readAgent, type Request } from './request.ts'
import { readResume } from './resume.ts'

/** The live streams, as far as a check needs them. */
export interface Admissions
  extends Pick<Registry, 'admit' | 'hasRoom' | 'kickSession' | 'lookAgain'>, Means {
  /** Why a stream that opens now and cannot be cut could never be ended: thrown, before a ticket is used up. */
  obstacle(): Error | undefined
  /** For a stream that no end of a session ends. */
  createKickId(): string
  keeps: Keeps
}

/** Two Upgrade lines reach us as two, or joined by a comma: `websocket` may stand beside another protocol. */
export const mayBeWebSocket = (headers: Headers): boolean =>
  headers.isRepeated('x-original-upgrade') ||
  /websocket/i.test(headers.get('x-original-upgrade') ?? '')

const OWN = /^me\/([a-z0-9-]{1,40})$/
// kick- names the private channels by which streams are ended; a machine key has no number, and no channel of its own.
const CHANNEL = /^(?!kick-)(?!.*-user-$)[a-z0-9-]{1,64}$/

/** The Nchan channel of a resource: `me/x` is the user's own x. It never falls back to a wider one. */
const channelOf = (resource: string, userId: string): string | undefined => {
  const own = OWN.exec(resource)?.[1]
  const channel = own === undefined ? resource : `${own}-user-${userId}`
  return CHANNEL.test(channel) ? channel : undefined
}

export const createStreamOpener = (parts: {
  admissions: Admissions
  tickets: Pick<Tickets, 'redeem'>
  /** The rules in force now: a reload may have come while a ticket was used up. */
  today(): Pick<Guard, 'check'>
}) => {
  const { admissions, tickets, today } = parts

  /** From where the stream goes on. As late as possible: nginx acts on the answer at once. */
  const resume = async (
    headers: Headers,
    channel: string,
    channels: 'one' | 'two',
  ): Promise<string[]> => {
    const from = readResume(
      headers.get('x-original-resume') ?? '||',
      headers.get('x-original-uri') ?? '',
      channels,
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
    const more = await resume(headers, channel, 'two')
    return ['X-Auth-Channels', `${channel},${admissions.createKickId()}`, ...more]
  }

  const admissionOf = (
    { headers, address }: Request,
    { claims, role, number }: Identity,
    { action = '', resource = '' }: CheckRequest,
  ): Admission => ({
    sid: claims.sid,
    username: claims.username,
    userId: Number(claims.sub),
    role,
    resource,
    // One for SIP outlives the token that it was issued for.
    until: isForSip(claims.ticket?.pattern) ? claims.exp : (claims.ticket?.until ?? claims.exp),
    address,
    agent: readAgent(headers),
    // A long-poll that offers h2c (Java's client does) would have a stream of its own at each poll.
    exclusive: mayBeWebSocket(headers),
    worker: headers.get('x-original-worker') ?? '',
    kid: claims.kid,
    number,
    action,
  })

  /** What is in memory may have changed while something was waited for. */
  const judgeAgain = async (
    asked: CheckRequest,
    { claims }: Identity,
  ): Promise<Refusal | undefined> => {
    const now = await today().check(asked)
    if (!('refused' in now)) return undefined
    // An expired token is not the end of its session, whose other streams may have a fresh one.
    if (now.refused !== 'expired') void admissions.kickSession(claims.sid, 'session_ended')
    return now
  }

  /** An allowed subscribe needs an id; while a ticket is used up or nginx asked, the right to subscribe may end. */
  const admit = async (
    request: Request,
    asked: CheckRequest,
    identity: Identity,
  ): Promise<Refusal | string[]> => {
    const { headers } = request
    const { claims } = identity
    const channel = channelOf(asked.resource ?? '', claims.sub)
    if (channel === undefined) return refuse('bad_resource')
    const cut = await admissions.find(readConnection(headers), 'kick')
    const obstacle = cut ? undefined : admissions.obstacle()
    if (obstacle) throw obstacle
    const wanted: Admission = { ...admissionOf(request, identity, asked), ...cut }
    // Before the ticket, which the client shows again once there is room; and the stream after it: else a used ticket
    // would open streams in the list, at whose limit those that live give way.
    if (claims.ticket && !admissions.hasRoom(wanted)) {
      if (cut) await admissions.lookAgain(claims.sid)
      if (!admissions.hasRoom(wanted)) return refuse('limit')
    }
    const spent = await tickets.redeem(identity, headers.get('x-request-id') ?? '')
    if (spent) return spent
    let kick = admissions.admit(wanted)
    if (kick === undefined && cut) {
      await admissions.lookAgain(claims.sid)
      kick = admissions.admit(wanted)
    }
    if (kick === undefined) return refuse('limit')
    const more = await resume(headers, channel, cut ? 'one' : 'two')
    const refusal = await judgeAgain(asked, identity)
    if (refusal) return refusal
    if (cut) return ['X-Auth-Channels', channel, 'X-Auth-Kick', kick, ...more]
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

  /** Whatever else nginx serves for a session from now on. Where nothing can end it, it goes on to its end. */
  const follow = async (
    request: Request,
    asked: CheckRequest,
    identity: Identity,
  ): Promise<Refusal | undefined> => {
    const cut = await admissions.find(readConnection(request.headers), 'nothing')
    if (cut) admissions.admit({ ...admissionOf(request, identity, asked), ...cut })
    return judgeAgain(asked, identity)
  }

  return {
    admit,
    admitExempt,
    follow,
    /** Whether what is asked for is to end with its session. */
    isFollowed: (headers: Headers): boolean => isFollowed(headers) && admissions.areCut(),
  }
}
