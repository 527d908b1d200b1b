// What is live in Nchan right now, until when, and its end. An id is written down before it is handed out, so
// that a crash orphans nothing; it is given to one session, resource and key, and never again after a kick.
// A WebSocket never shares one: in 72 of 180 rounds Nchan 1.3.6 left streams open for good that came on a WebSocket's
// id after its kick; in none of 360 where no WebSocket had used the id; with fresh ids all 900 closed (measured).

import { randomBytes } from 'node:crypto'

import type { Time } from '../clock.ts'
import { createAgenda } from './agenda.ts'
import { createKicks, IN_FLIGHT, type KickObservation } from './kicks.ts'
import { findRoom, type Limits } from './limits.ts'
import { createLiveList, type LiveStream } from './live-list.ts'
import { createOutage } from './outage.ts'
import type { StreamEnder } from './stream-ender.ts'
import type { StreamFile } from './stream-file.ts'
import type { KickCause, Subscription } from './subscription.ts'
import { createUnsure } from './unsure.ts'
import type { Workers } from './workers.ts'

export interface Admission extends Omit<Subscription, 'kick' | 'startedAt'> {
  /** A WebSocket: the id is for this one stream. */
  exclusive: boolean
}

const TICK = 0.2 // seconds: an expired stream is closed within half a second
const SWEEP_EVERY = 60 // seconds: for ends that nginx told nobody of (long-poll, a reload)
const MISSES = 8 // Nchan counts nobody on a live stream in up to 40 % of the answers (measured): minutes, not one look
const CHECKS_AT_ONCE = 64 // streams asked about in one tick, so that a sweep of 10,000 disturbs nobody

export const createKickId = (): string => `kick-${randomBytes(16).toString('base64url')}`
/** One id for each key: where that is removed, what it admitted ends, and nothing else. */
const placeOf = ({ kid, resource }: Pick<Subscription, 'kid' | 'resource'>): string =>
  `${kid} ${resource}`

export const createRegistry = (parts: {
  file: Pick<StreamFile, 'open' | 'close'>
  ender: StreamEnder
  workers: Pick<Workers, 'asks' | 'foundNobody' | 'mayLinger' | 'reloadDue'>
  clock: Time
  limits(): Limits
  observe(kick: KickObservation): void
  onFault(error: unknown): void
  /** Whether the session is known to have ended. */
  isEnded(sid: string): boolean
  /** Whether what is live would be allowed today. */
  stillAllowed(subscription: Subscription): boolean
  /** By sid, the access of sessions refreshed elsewhere; asked before streams are kicked as expired. Never rejects. */
  renew?:
    | ((
        expired: readonly Subscription[],
      ) => Promise<ReadonlyMap<string, { role: string; until: number }>>)
    | undefined
}) => {
  const { file, ender, workers, clock, limits, observe, onFault } = parts
  const { isEnded, stillAllowed, renew } = parts
  const live = createLiveList()
  /** When the right to it ends, by the wall clock. */
  const ends = createAgenda<LiveStream>()
  /** When to ask nginx whether anybody is left, by the monotonic clock. */
  const asks = createAgenda<LiveStream>()
  let closed = false
  const outage = createOutage(clock, (fault) => {
    if (!closed) onFault(fault)
  })
  const markClosed = ({ kick: id }: LiveStream): void => file.close(id)
  const unsure = createUnsure({ workers, clock, onOver: markClosed })
  const onOver = unsure.judge
  const kicks = createKicks({ ender, outage, clock, observe, onFault, onOver })

  const forget = (stream: LiveStream): void => {
    live.delete(stream)
    ends.delete(stream)
    asks.delete(stream)
  }

  const prolong = (stream: LiveStream, until: number): void => {
    stream.until = Math.max(stream.until, until)
    if (live.has(stream)) ends.set(stream, stream.until)
  }

  const kick = (streams: readonly LiveStream[], cause: KickCause): void => {
    for (const stream of streams) forget(stream) // from here on a check of its session and resource gets a fresh id
    kicks.start(streams, cause)
  }

  const ask = async (stream: LiveStream): Promise<void> => {
    const there = await ender.count(stream)
    outage.answered()
    if (!live.has(stream)) return // kicked while we asked
    if (there !== 'unknown') stream.sighting = 'seen'
    stream.misses = there === 0 ? stream.misses + 1 : 0
    if (clock.monotonic() < stream.issuedAt + IN_FLIGHT) return
    if (there === 'unknown') {
      if (!stream.endTold && workers.mayLinger(stream)) return // Nchan may not know of it any more
      forget(stream)
      markClosed(stream)
    } else if (stream.misses >= MISSES) {
      // Kicked and not just forgotten: were somebody there after all, nothing could end that stream any more.
      kick([stream], 'swept')
    }
  }

  const expire = (streams: readonly LiveStream[]): void => {
    for (const stream of streams) stream.renewing = false
    const now = clock.now()
    const over = streams.filter((stream) => now >= stream.until && live.has(stream))
    kick(over, 'expired')
  }

  /** The session got a token that lives until then: its subscriptions go on, where its role of today allows. */
  const extend = ({ sid, role, until }: { sid: string; role: string; until: number }): void => {
    for (const stream of live.ofSession(sid)) {
      stream.role = role
      if (stillAllowed(stream)) prolong(stream, until)
      else kick([stream], 'grant_removed')
    }
  }

  const nextAsk = ({ exclusive, issuedAt }: LiveStream, now: number): number =>
    exclusive && now < issuedAt + IN_FLIGHT ? issuedAt + IN_FLIGHT + TICK : now + SWEEP_EVERY

  const tick = (): void => {
    const wall = clock.now()
    const now = clock.monotonic()
    unsure.review()
    const expired = [...ends.due(wall)].filter(({ renewing }) => !renewing)
    let room: number | undefined
    for (const stream of asks.due(now)) {
      if (wall >= stream.until) continue // ended in this very tick
      room ??= outage.take(CHECKS_AT_ONCE)
      if (room-- === 0) break
      asks.set(stream, nextAsk(stream, now))
      ask(stream).catch(outage.answered)
    }
    if (expired.length === 0) return
    for (const stream of expired) stream.renewing = true
    if (!renew) {
      expire(expired)
      return
    }
    void renew(expired).then((renewed) => {
      for (const [sid, access] of renewed) extend({ sid, ...access })
      expire(expired)
    })
  }
  const stop = clock.every(TICK, tick)

  /** Known to a logout from now on. */
  const insert = (
    subscription: Subscription,
    where: Pick<LiveStream, 'place' | 'exclusive'>,
    askAt?: number,
  ): LiveStream => {
    const now = clock.monotonic()
    const stream: LiveStream = {
      ...subscription,
      ...where,
      endTold: false,
      misses: 0,
      issuedAt: now,
      openedAt: now - Math.max(0, clock.now() - subscription.startedAt),
      sighting: askAt === undefined ? 'none' : 'seen',
      renewing: false,
    }
    ends.set(stream, stream.until)
    asks.set(stream, askAt ?? nextAsk(stream, now))
    live.add(stream)
    return stream
  }

  /**
   * Resolves when everything of the session is closed as far as nginx can tell, also what is being kicked
   * already, or after a second. How many this call kicked.
   */
  const kickSession = async (sid: string, cause: KickCause): Promise<number> => {
    const streams = live.ofSession(sid)
    kick(streams, cause)
    await kicks.settled(sid)
    return streams.length
  }

  /** Kicks what is no longer allowed, by the rules of today where none are given. */
  const review = (isAllowed = stillAllowed, cause: KickCause = 'grant_removed'): void => {
    const denied = live.all().filter((stream) => !isAllowed(stream))
    kick(denied, cause)
  }

  /** Which streams give way to it; undefined: it is refused. */
  const roomFor = ({ sid, resource }: Admission): readonly LiveStream[] | undefined => {
    const now = clock.monotonic()
    return findRoom(live.ofSession(sid), resource, limits(), now, (one) => asks.set(one, now))
  }
  const sharedBy = (admission: Admission): LiveStream | undefined =>
    admission.exclusive ? undefined : live.at(admission.sid, placeOf(admission))

  return {
    /** Whether `admit` would let it in now. */
    hasRoom: (admission: Admission): boolean =>
      (sharedBy(admission) ?? roomFor(admission)) !== undefined,
    /**
     * The kick id for a subscribe that the rules allow. Undefined where the session has as many streams as it may, all of
     * them young. Throws where it cannot be written down.
     */
    admit(admission: Admission): string | undefined {
      const now = clock.monotonic()
      if (admission.worker !== '') workers.asks(admission.worker)
      const known = sharedBy(admission)
      if (known) {
        known.issuedAt = now
        known.openedAt = now
        known.endTold = false
        prolong(known, admission.until)
        if (known.worker !== '' && known.worker !== admission.worker) {
          known.worker = ''
          file.open(known)
        }
        return known.kick
      }
      const surplus = roomFor(admission)
      if (!surplus) return undefined
      const id = createKickId()
      const { exclusive, ...rest } = admission
      const subscription = { ...rest, kick: id, startedAt: clock.now() }
      const stream = insert(subscription, { place: exclusive ? id : placeOf(rest), exclusive })
      try {
        file.open(stream)
      } catch (error) {
        forget(stream)
        throw error
      }
      kick(surplus, 'limit')
      return id
    },
    extend,
    kickSession,
    /** The same for all live sessions that are meant: one, a user's, or every one where neither is given. */
    async kickSelected({ id, user }: { id?: string; user?: string }): Promise<number> {
      const meant = live
        .all()
        .filter(({ sid, username }) => (id ?? sid) === sid && (user ?? username) === username)
      const sids = new Set(meant.map(({ sid }) => sid))
      const kicked = await Promise.all(Array.from(sids, (sid) => kickSession(sid, 'operator')))
      return kicked.reduce((sum, count) => sum + count, 0)
    },
    review,
    /** nginx says that one stream on this id has ended. False: no id of ours. */
    streamEnded(id: string): boolean {
      const stream = live.get(id)
      if (stream?.exclusive) {
        forget(stream)
        markClosed(stream)
      } else if (stream) {
        stream.endTold = true
        asks.set(stream, Math.max(clock.monotonic(), stream.issuedAt + IN_FLIGHT))
      }
      const ending = kicks.get(id)
      if (ending) ending.endTold = true // the answer to its kick may be that nobody is there
      return stream !== undefined || ending !== undefined || unsure.ended(id)
    },
    list: (): Subscription[] => live.all(),
    ofSession: (sid: string): Subscription[] => live.ofSession(sid),
    count: live.count,
    countByKind: live.countByKind,
    countUnsure: unsure.count,
    /**
     * Streams that an earlier process, or one beside us, handed out: ended like any other, but never shared, since
     * they may have been kicked already. Those end at once whose session does not stand, or whose right is gone.
     */
    adopt(subscriptions: readonly Subscription[], stands: (one: Subscription) => boolean): void {
      const adopted: LiveStream[] = []
      for (const subscription of subscriptions) {
        if (live.get(subscription.kick)) continue
        // Spread over a minute, so that a restart with 10,000 streams asks nginx gently.
        const askAt = clock.monotonic() + IN_FLIGHT + clock.chance() * SWEEP_EVERY
        adopted.push(insert(subscription, { place: subscription.kick, exclusive: false }, askAt))
      }
      const ended = adopted.filter((stream) => isEnded(stream.sid) || !stands(stream))
      kick(ended, 'session_ended')
      kick(
        adopted.filter((stream) => live.has(stream) && !stillAllowed(stream)),
        'grant_removed',
      )
    },
    close(): void {
      closed = true
      stop()
      kicks.close()
    },
  }
}

export type Registry = ReturnType<typeof createRegistry>
