// Streams that are over, until the store has written down that they are.

import type { Clock } from '../clock.ts'

const RETRY = 1 // seconds between tries where the store cannot write

export const createPendingCloses = (parts: {
  write(kicks: readonly string[]): Promise<void>
  clock: Pick<Clock, 'monotonic'>
  /** Once per outage. */
  onFault(error: unknown): void
}) => {
  const { write, clock, onFault } = parts
  const pending = new Set<string>()
  let isWriting = false
  let isFailing = false
  let nextAt = 0
  /** Also what could not be written before, once it is time to try again. */
  const flush = async (): Promise<void> => {
    if (isWriting || pending.size === 0 || clock.monotonic() < nextAt) return
    isWriting = true
    const closed = [...pending]
    try {
      await write(closed)
      for (const kick of closed) pending.delete(kick)
      isFailing = false
    } catch (error) {
      nextAt = clock.monotonic() + RETRY
      if (!isFailing) onFault(error)
      isFailing = true
    } finally {
      isWriting = false
    }
  }
  return {
    markClosed(kick: string): void {
      pending.add(kick)
      void flush()
    },
    flush,
  }
}
