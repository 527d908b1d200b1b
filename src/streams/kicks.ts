// Streams that are being ended by one means: each is tried until it is gone and no check under way can open another on
// its id.

import type { Time } from '../clock.ts'
import { createAgenda } from './agenda.ts'
import type { LiveStream } from './live-list.ts'
import type { Outage } from './outage.ts'
import { createRankedQueue } from './ranked-queue.ts'
import type { Ending, StreamEnder } from './stream-ender.ts'
import type { KickCause } from './subscription.ts'

/** By Nchan, or by the kernel. */
export type Means = 'kick' | 'cut'

export interface KickObservation {
  cause: KickCause
  means: Means
  result: 'ended' | 'nobody' | 'failed'
  /** Seconds. */
  took: number
}

export const IN_FLIGHT = 10 // seconds: longer than nginx waits for a check, so that a check under way is caught
// Seconds between tries while a check under way may bring a stream: it is gone within half a second of its opening.
const BACK_OFF = [0.1, 0.2, 0.4] as const
const LOOK = 0.1 // seconds between looks for what is due
const RETRY_SLOW = 1 // seconds until what failed is tried again
// Seconds that a logout waits for its streams to close; less than its own connection is held for (holds.ts), and than other
// instances wait (peers.ts).
const ANSWER_WITHIN = 0.2
const REFUSED_SLOWEST = 60 // seconds until what was refused is tried again: twice as long each time
/** Under way: nginx takes 16 kicks at once, and more would only stand before an end that presses. */
const AT_ONCE: Readonly<Record<Means, number>> = { kick: 64, cut: 2048 }

/** Who waits for whom: an end of a session never behind the streams of somebody who opens too many. */
const RANK: Readonly<Record<KickCause, number>> = {
  session_ended: 0,
  operator: 0,
  expired: 1,
  grant_removed: 1,
  limit: 2,
  swept: 2,
}

interface Kick {
  readonly stream: LiveStream
  readonly cause: KickCause
  readonly startedAt: number
  tries: number
  /** Somebody was there and is gone, or it failed: counted once. */
  observed: boolean
  /** Somebody was there. */
  found: boolean
}

/** What is being ended of one session. */
interface Ends {
  kicks: number
  unobserved: number
  /** Called when all are observed. */
  waiting: (() => void)[]
}

export const createKicks = (parts: {
  means: Means
  ender: StreamEnder
  outage: Outage
  clock: Pick<Time, 'after' | 'every' | 'monotonic'>
  observe(kick: KickObservation): void
  onFault(error: unknown): void
  /** No other can open on its id. `found`: somebody was there, and is gone. */
  onOver(stream: LiveStream, found: boolean): void
}) => {
  const { means, ender, outage, clock, observe, onFault, onOver } = parts
  const atOnce = AT_ONCE[means]
  const ending = new Map<string, LiveStream>()
  /** By sid: a second end of a session waits for the streams that the first one closes. */
  const underWay = new Map<string, Ends>()
  const queue = createRankedQueue<Kick>(3)
  /** When to try again. */
  const again = createAgenda<Kick>(1 / LOOK)
  let busy = 0
  let closed = false

  const wake = ({ waiting }: Ends): void => {
    for (const resolve of waiting.splice(0)) resolve()
  }

  const settle = (kick: Kick, result: KickObservation['result']): void => {
    if (kick.observed) return
    kick.observed = true
    const ends = underWay.get(kick.stream.sid) as Ends
    if (--ends.unobserved === 0) wake(ends)
    observe({ cause: kick.cause, means, result, took: clock.monotonic() - kick.startedAt })
  }

  const remove = ({ stream: { sid, kick } }: Kick): void => {
    ending.delete(kick)
    const ends = underWay.get(sid) as Ends
    if (--ends.kicks === 0) underWay.delete(sid)
  }

  /** The answer is the only sign there is: a kicked WebSocket is counted as there for minutes. */
  const follow = async (kick: Kick, ending: Promise<Ending>, askedAt: number): Promise<void> => {
    const { stream } = kick
    try {
      const outcome = await ending
      outage.answered()
      if (outcome === 'ended') {
        kick.found = true
        settle(kick, 'ended')
      }
      if (outcome === 'refused') {
        settle(kick, 'failed')
        again.set(kick, askedAt + Math.min(BACK_OFF[0] * 2 ** kick.tries++, REFUSED_SLOWEST))
        return
      }
      // With a connection whatever its checks under way could bring is gone.
      const wasTheOnly = means === 'cut' || (outcome === 'ended' && stream.exclusive)
      const last = stream.issuedAt + IN_FLIGHT
      if (!wasTheOnly && askedAt < last) {
        const pause = BACK_OFF[kick.tries++] ?? BACK_OFF[2]
        again.set(kick, Math.min(askedAt + pause, last))
        return
      }
      settle(kick, 'nobody')
      remove(kick)
      onOver(stream, kick.found)
    } catch (error) {
      // Away (nginx, and its streams with it), or it may not be reached: tried until it answers.
      again.set(kick, askedAt + RETRY_SLOW)
      outage.answered(error)
      settle(kick, 'failed')
    } finally {
      busy--
      pump()
    }
  }

  const pump = (): void => {
    if (closed || busy > atOnce / 2 || queue.isEmpty()) return // in batches, as an ender may like them
    const kicks = queue.take(outage.take(atOnce - busy))
    if (kicks.length === 0) return
    busy += kicks.length
    const now = clock.monotonic()
    const endings = ender.end(kicks.map(({ stream }) => stream))
    for (const [at, ending] of endings.entries()) {
      follow(kicks[at] as Kick, ending, now).catch(onFault)
    }
  }

  const stop = clock.every(LOOK, () => {
    for (const kick of again.due(clock.monotonic())) {
      again.delete(kick)
      queue.add(kick, RANK[kick.cause])
    }
    pump()
  })

  return {
    start(streams: readonly LiveStream[], cause: KickCause): void {
      const startedAt = clock.monotonic()
      for (const stream of streams) {
        const { sid } = stream
        ending.set(stream.kick, stream)
        const ends = underWay.get(sid) ?? { kicks: 0, unobserved: 0, waiting: [] }
        underWay.set(sid, ends)
        ends.kicks++
        ends.unobserved++
        queue.add(
          { stream, cause, startedAt, tries: 0, observed: false, found: false },
          RANK[cause],
        )
      }
      pump()
    },
    get: (kick: string) => ending.get(kick),
    /**
     * Resolves when all of the session that is being ended is gone, as far as can be told, or after ANSWER_WITHIN; at once
     * where nginx is away.
     */
    async settled(sid: string): Promise<void> {
      const ends = underWay.get(sid)
      if (!ends || ends.unobserved === 0 || outage.isAway()) return
      const { promise, resolve } = Promise.withResolvers<void>()
      ends.waiting.push(resolve)
      const cancel = clock.after(ANSWER_WITHIN, resolve)
      await promise
      cancel()
    },
    /** Nobody is kept waiting any more. */
    close(): void {
      closed = true
      stop()
      for (const ends of underWay.values()) wake(ends)
    },
  }
}
