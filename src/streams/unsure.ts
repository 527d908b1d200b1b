// Streams that were to be ended, of which nginx knew nobody and has told no end, though a worker's death may have left
// them open. They stay until their end is told, or until every worker that outlived the death is gone.

import type { Clock } from '../clock.ts'
import type { LiveStream } from './live-list.ts'
import type { Workers } from './workers.ts'

const NOTICED_WITHIN = 5 // seconds after which a death is known: who was to be ended in them is looked at again

export const createUnsure = (parts: {
  workers: Pick<Workers, 'mayLinger' | 'foundNobody' | 'reloadDue'>
  clock: Pick<Clock, 'monotonic'>
  /** They are over, as far as can be told. */
  onOver(stream: LiveStream): void
}) => {
  const { workers, clock, onOver } = parts
  const unsure = new Map<string, LiveStream>()
  /** In the order in which they were over. */
  const recent = new Map<LiveStream, number>()

  return {
    /** It was to be ended, and somebody was `found` or not. */
    judge(stream: LiveStream, found: boolean): void {
      if (found || stream.endTold) {
        onOver(stream)
        return
      }
      workers.foundNobody(stream.worker)
      if (workers.mayLinger(stream)) unsure.set(stream.kick, stream)
      else {
        onOver(stream)
        recent.set(stream, clock.monotonic())
      }
    },
    /** nginx tells its end. False: it is none of these. */
    ended(kick: string): boolean {
      const stream = unsure.get(kick)
      if (!stream) return false
      unsure.delete(kick)
      onOver(stream)
      return true
    },
    review(): void {
      for (const [stream, at] of recent) {
        if (workers.mayLinger(stream)) unsure.set(stream.kick, stream)
        else if (clock.monotonic() < at + NOTICED_WITHIN) continue
        recent.delete(stream)
      }
      if (workers.reloadDue()) return
      for (const stream of unsure.values()) onOver(stream)
      unsure.clear()
    },
    count: () => unsure.size,
  }
}
