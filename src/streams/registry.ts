// What is live in nginx right now, and until when. An id is written down before it is handed out, so that a crash orphans
// nothing; it is given to one session, resource and key, and never again after a kick.
// A WebSocket never shares one: in 72 of 180 rounds Nchan 1.3.6 left streams open for good that came on a WebSocket's
// id after its kick; in none of 360 where no WebSocket had used the id; with fresh ids all 900 closed (measured).

import { randomBytes } from 'node:crypto'

import type { Time } from '../clock.ts'
import { createAgenda } from './agenda.ts'
import type { Cutter } from './cutter.ts'
import { createEndings } from './endings.ts'
import type { Kicker } from './kicker.ts'
import { IN_FLIGHT, type KickObservation } from './kicks.ts'
import type { Limits } from './limits.ts'
import { createLiveList, isCut, type LiveStream } from './live-list.ts'
import { createOutage } from './outage.ts'
import { type Admission, createPlaces, isFolded, placeOf } from './places.ts'
import type { StreamFile } from './stream-file.ts'
import type { KickCause, Subscription } from './subscription.ts'
import { createSweep } from './sweep.ts'
import type { Workers } from './workers.ts'

const TICK = 0.2 // seconds: an expired stream is closed within half a second
const ADOPTED_WITHIN = 60 // seconds in which nginx is asked for those of before a start

export const createKickId = (): string => `kick-${randomBytes(16).toString('base64url')}`

export const createRegistry = (parts: {
  file: Pick<StreamFile, 'open' | 'close'>
  kicker: Pick<Kicker, 'end' | 'count'>
  cutter: Pick<Cutter, 'end' | 'look'>
  workers: Pick<Workers, 'asks' | 'foundNobody' | 'mayLinger' | 'reloadDue'>
  clock: Time
  limits(): Limits
  observe(kick: KickObservation): void
  onFault(error: unknown): void
  /** Streams of several users came over it: to cut one is to cut the others. */
  onCrowd(connection: string): void
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
  const { file, workers, clock, limits, onFault, onCrowd } = parts
  const { isEnded, stillAllowed, renew } = parts
  const live = createLiveList()
  /** When the right to it ends, by the wall clock. */
  const ends = createAgenda<LiveStream>()
  let closed = false
  const outage = createOutage(clock, (fault) => {
    if (!closed) onFault(fault)
  })
  const markClosed = ({ kick: id }: LiveStream): void => file.close(id)
  const endings = createEndings({ ...parts, outage, onOver: markClosed })
  const sweep = createSweep({
    ...parts,
    outage,
    isLive: live.has,
    onGone: (stream) => drop(stream),
    onDeserted: (stream) => kick([stream], 'swept'),
  })
  const places = createPlaces({ live, sweep, limits, clock })

  const forget = (stream: LiveStream): void => {
    live.delete(stream)
    ends.delete(stream)
    sweep.delete(stream)
  }

  /** It is gone without our doing. */
  const drop = (stream: LiveStream): void => {
    forget(stream)
    markClosed(stream)
  }

  const prolong = (stream: LiveStream, until: number): void => {
    stream.until = Math.max(stream.until, until)
    if (live.has(stream)) ends.set(stream, stream.until)
  }

  const kick = (streams: readonly LiveStream[], cause: KickCause): void => {
    for (const stream of streams) forget(stream) // from here on a check of its session and resource gets a fresh id
    endings.start(streams, cause)
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
      const isUnchanged = isFolded(stream) && stream.role === role
      stream.role = role
      if (isUnchanged || stillAllowed(stream)) prolong(stream, until)
      else kick([stream], 'grant_removed')
    }
  }

  const tick = (): void => {
    const wall = clock.now()
    const expired = [...ends.due(wall)].filter(({ renewing }) => !renewing)
    sweep.tick(wall)
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
      open: 1,
      lookedAt: -Infinity,
      misses: 0,
      issuedAt: now,
      openedAt: now - Math.max(0, clock.now() - subscription.startedAt),
      sighting: askAt === undefined && !isCut(subscription) ? 'none' : 'seen',
      renewing: false,
    }
    ends.set(stream, stream.until)
    sweep.add(stream, askAt)
    live.add(stream)
    return stream
  }

  /**
   * Resolves when everything of the session is closed as far as nginx can tell, also what is being kicked
   * already, or after 0.2 s. How many this call kicked.
   */
  const kickSession = async (sid: string, cause: KickCause): Promise<number> => {
    const streams = live.ofSession(sid)
    kick(streams, cause)
    await endings.settled(sid)
    return streams.length
  }

  /** Kicks what is no longer allowed, by the rules of today where none are given. */
  const review = (isAllowed = stillAllowed, cause: KickCause = 'grant_removed'): void => {
    const denied = live.all().filter((stream) => !isAllowed(stream))
    kick(denied, cause)
  }

  return {
    lookAgain: places.lookAgain,
    /** Whether `admit` would let it in now. */
    hasRoom: (admission: Admission): boolean =>
      (places.sharedBy(admission) ?? places.roomFor(admission)) !== undefined,
    /**
     * The id of a stream that the rules allow. Undefined where the session has as many as it may, all of them young.
     * Throws where it cannot be written down.
     */
    admit(wanted: Admission): string | undefined {
      const now = clock.monotonic()
      const admission = places.fold(wanted)
      if (admission.worker !== '') workers.asks(admission.worker)
      const known = places.sharedBy(admission)
      if (known) {
        known.issuedAt = now
        known.openedAt = now
        known.open++
        known.endTold = false
        prolong(known, admission.until)
        if (known.worker !== '' && known.worker !== admission.worker) {
          known.worker = ''
          file.open(known)
        }
        return known.kick
      }
      // Of two sockets with the same addresses one is gone. Which, the kernel says: this check may be the older one.
      const beside = live.onConnection(admission.connection ?? '')
      for (const one of beside) if (one.cookie !== admission.cookie) sweep.add(one, now)
      const others = beside.filter(({ username }) => username !== admission.username)
      if (others.some(({ cookie }) => cookie === admission.cookie)) {
        onCrowd(String(admission.connection))
      }
      const surplus = places.roomFor(admission)
      if (!surplus) return undefined
      const id = createKickId()
      const { exclusive, ...rest } = admission
      const subscription = { ...rest, kick: id, startedAt: clock.now() }
      const place = exclusive && !isCut(rest) ? id : placeOf(admission)
      const stream = insert(subscription, { place, exclusive })
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
      if (!stream) return endings.ended(id)
      if (isCut(stream)) {
        // Its connection may have more to it, or the kernel more to send.
        stream.open = Math.max(0, stream.open - 1)
        sweep.add(stream, clock.monotonic())
      } else if (stream.exclusive) drop(stream)
      else {
        stream.endTold = true
        sweep.add(stream, Math.max(clock.monotonic(), stream.issuedAt + IN_FLIGHT))
      }
      return true
    },
    /** A request that may end sessions is under way on this connection, until the function is called. */
    hold: endings.hold,
    list: (): Subscription[] => live.all(),
    ofSession: (sid: string): Subscription[] => live.ofSession(sid),
    count: live.count,
    countByKind: live.countByKind,
    countUnsure: endings.countUnsure,
    /**
     * Streams that an earlier process, or one beside us, handed out: ended like any other, but never shared, since
     * they may have been kicked already. Those end at once whose session does not stand, or whose right is gone.
     */
    adopt(subscriptions: readonly Subscription[], stands: (one: Subscription) => boolean): void {
      const adopted: LiveStream[] = []
      for (const subscription of subscriptions) {
        if (live.get(subscription.kick)) continue
        // Spread over a minute, so that a restart with 10,000 streams asks nginx gently.
        const spread = IN_FLIGHT + clock.chance() * ADOPTED_WITHIN
        const askAt = clock.monotonic() + (isCut(subscription) ? 0 : spread)
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
      endings.close()
    },
  }
}

export type Registry = ReturnType<typeof createRegistry>
