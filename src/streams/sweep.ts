// Whether anybody is left of what is taken for live: nginx is asked of a kicked stream, the kernel of a cut one. For ends
// that nobody told of; off any check. An answer that does not come is no sign that somebody is gone.

import type { Time } from '../clock.ts'
import { createAgenda } from './agenda.ts'
import type { Cutter } from './cutter.ts'
import type { Kicker } from './kicker.ts'
import { IN_FLIGHT } from './kicks.ts'
import { isCut, type LiveStream } from './live-list.ts'
import type { Outage } from './outage.ts'
import type { Workers } from './workers.ts'

const EVERY = 60 // seconds
const SOON = 5 // seconds until the first look at a connection: most requests are over by then
const TICK = 0.2 // seconds between looks for what is due
const MISSES = 8 // Nchan counts nobody on a live stream in up to 40 % of the answers (measured): minutes, not one look
const ASKED_AT_ONCE = 64 // streams in one tick, so that a sweep of 10,000 disturbs nobody
// Connections in one tick: more than can be let in until the next, else a client with a new one for each request would
// have ever more of them remembered. 200 are 2 ms of the cutter's (measured).
const LOOKED_AT_ONCE = 1000

export const createSweep = (parts: {
  kicker: Pick<Kicker, 'count'>
  cutter: Pick<Cutter, 'look'>
  outage: Outage
  workers: Pick<Workers, 'mayLinger'>
  clock: Pick<Time, 'monotonic'>
  isLive(stream: LiveStream): boolean
  /** Nobody is there, for certain. */
  onGone(stream: LiveStream): void
  /** Nobody seems to be there. */
  onDeserted(stream: LiveStream): void
}) => {
  const { kicker, cutter, outage, workers, clock, isLive, onGone, onDeserted } = parts
  /** By the monotonic clock. */
  const asks = createAgenda<LiveStream>()
  const looks = createAgenda<LiveStream>()
  const agendaOf = (stream: LiveStream) => (isCut(stream) ? looks : asks)

  const count = async (stream: LiveStream): Promise<void> => {
    const there = await kicker.count(stream)
    outage.answered()
    if (!isLive(stream)) return // kicked while we asked
    if (there !== 'unknown') stream.sighting = 'seen'
    stream.misses = there === 0 ? stream.misses + 1 : 0
    if (clock.monotonic() < stream.issuedAt + IN_FLIGHT) return
    if (there === 'unknown') {
      if (!stream.endTold && workers.mayLinger(stream)) return // Nchan may not know of it any more
      onGone(stream)
    } else if (stream.misses >= MISSES) {
      // Kicked and not just forgotten: were somebody there after all, nothing could end that stream any more.
      onDeserted(stream)
    }
  }

  const look = async (stream: LiveStream): Promise<void> => {
    stream.lookedAt = clock.monotonic()
    const found = await cutter.look(String(stream.connection)).catch(() => undefined)
    if (found === undefined || !isLive(stream)) return
    const isOther = found !== 'gone' && 'cookie' in found && found.cookie !== stream.cookie
    if (found === 'gone' || isOther) onGone(stream)
  }

  const nextAsk = (stream: LiveStream, now: number): number => {
    const { exclusive, issuedAt } = stream
    if (isCut(stream)) return now + Math.min(Math.max(SOON, now - issuedAt), EVERY)
    return exclusive && now < issuedAt + IN_FLIGHT ? issuedAt + IN_FLIGHT + TICK : now + EVERY
  }

  return {
    /** From now on, for the first time at that instant. */
    add(stream: LiveStream, at?: number): void {
      agendaOf(stream).set(stream, at ?? nextAsk(stream, clock.monotonic()))
    },
    delete: (stream: LiveStream) => agendaOf(stream).delete(stream),
    look,
    tick(wall: number): void {
      const now = clock.monotonic()
      let room: number | undefined
      for (const stream of asks.due(now)) {
        if (wall >= stream.until) continue // ended in this very tick
        room ??= outage.take(ASKED_AT_ONCE)
        if (room-- === 0) break
        asks.set(stream, nextAsk(stream, now))
        count(stream).catch(outage.answered)
      }
      let left = LOOKED_AT_ONCE
      for (const stream of looks.due(now)) {
        if (left-- === 0) break
        looks.set(stream, nextAsk(stream, now))
        void look(stream)
      }
    },
  }
}

export type Sweep = ReturnType<typeof createSweep>
