// Streams that are being ended: each is kicked until it is gone and no check under way can open another on its id.

import type { Time } from '../clock.ts'
import type { LiveStream } from './live-list.ts'
import type { Ending, StreamEnder } from './stream-ender.ts'
import type { KickCause } from './subscription.ts'

export interface KickObservation {
  cause: KickCause
  result: Ending | 'failed'
  /** Seconds. */
  took: number
}

export const IN_FLIGHT = 10 // seconds: longer than nginx waits for a check, so that a check under way is caught
const AGAIN = 0.1 // seconds between tries while a check under way may open a stream
const RETRY_SLOW = 1 // seconds between tries where nginx is away
const ANSWER_WITHIN = 1 // second that a logout waits for its streams to close

interface Kick {
  stream: LiveStream
  cause: KickCause
  startedAt: number
  nextAt: number
  /** Whether its result is counted already: a stream that ended, nobody, or a failure. */
  observed: boolean
  busy: boolean
  done: PromiseWithResolvers<void>
}

export const createKicks = (parts: {
  ender: Pick<StreamEnder, 'end'>
  clock: Pick<Time, 'after' | 'monotonic'>
  observe(kick: KickObservation): void
  /** nginx answered; with a fault: nothing can be ended for now. */
  onAnswer(fault?: unknown): void
  onFault(error: unknown): void
  /** It is gone, and no other can open on its id. */
  onOver(stream: LiveStream): void
}) => {
  const { ender, clock, observe, onAnswer, onFault, onOver } = parts
  /** sid → its kicks: a second end of a session waits for the streams that the first one closes. */
  const underWay = new Map<string, Set<Kick>>()

  const settle = (kick: Kick, result: KickObservation['result']): void => {
    if (!kick.observed) {
      observe({ cause: kick.cause, result, took: clock.monotonic() - kick.startedAt })
      kick.observed = true
    }
    kick.done.resolve()
  }

  const remove = (kick: Kick): void => {
    const { sid } = kick.stream
    const ofSession = underWay.get(sid)
    ofSession?.delete(kick)
    if (ofSession?.size === 0) underWay.delete(sid)
  }

  /** The answer is the only sign there is: a kicked WebSocket is counted as there for minutes. */
  const follow = async (kick: Kick, ending: Promise<Ending>, askedAt: number): Promise<void> => {
    const { stream } = kick
    try {
      const outcome = await ending
      onAnswer()
      if (outcome === 'ended') settle(kick, 'ended')
      const wasTheOnly = outcome === 'ended' && stream.exclusive
      if (!wasTheOnly && askedAt < stream.issuedAt + IN_FLIGHT) {
        kick.nextAt = askedAt + AGAIN
        return
      }
      settle(kick, 'nobody')
      remove(kick)
      onOver(stream)
    } catch (error) {
      // nginx is away, and its streams with it, or its socket cannot be reached: tried until it answers.
      kick.nextAt = askedAt + RETRY_SLOW
      onAnswer(error)
      settle(kick, 'failed')
    } finally {
      kick.busy = false
    }
  }

  const attempt = (kicks: readonly Kick[]): void => {
    if (kicks.length === 0) return
    const now = clock.monotonic()
    const endings = ender.end(kicks.map(({ stream }) => stream))
    for (const [at, ending] of endings.entries()) {
      const kick = kicks[at] as Kick
      kick.busy = true
      follow(kick, ending, now).catch(onFault)
    }
  }

  return {
    start(streams: readonly LiveStream[], cause: KickCause): void {
      const now = clock.monotonic()
      const kicks = streams.map((stream) => ({
        stream,
        cause,
        startedAt: now,
        nextAt: now,
        observed: false,
        busy: false,
        done: Promise.withResolvers<void>(),
      }))
      for (const kick of kicks) {
        const { sid } = kick.stream
        underWay.set(sid, (underWay.get(sid) ?? new Set()).add(kick))
      }
      attempt(kicks)
    },
    /** Resolves when the session's streams that are being ended are gone as far as can be told, or after a second. */
    async settled(sid: string): Promise<void> {
      const kicks = [...(underWay.get(sid) ?? [])]
      if (kicks.length === 0) return
      const late = Promise.withResolvers<void>()
      const cancel = clock.after(ANSWER_WITHIN, late.resolve)
      await Promise.race([Promise.all(kicks.map(({ done }) => done.promise)), late.promise])
      cancel()
    },
    /** Tries again what is due. */
    retry(): void {
      const now = clock.monotonic()
      const due: Kick[] = []
      for (const kicks of underWay.values()) {
        for (const kick of kicks) if (!kick.busy && kick.nextAt <= now) due.push(kick)
      }
      attempt(due)
    },
    /** Nobody is kept waiting any more. */
    close(): void {
      for (const kicks of underWay.values()) for (const { done } of kicks) done.resolve()
    },
  }
}
