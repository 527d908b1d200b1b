// A flood must not fill a log: of lines that say the same thing a few are written in each window, and
// then one that says how many were not. Nothing is lost to the metrics, which count every one.

import type { Clock } from './clock.ts'

const MAX_KINDS = 10_000 // where a kind begins with an address: 3 MiB
const FORGOTTEN = '- others' // stands for all kinds that made room

interface Count {
  startedAt: number
  written: number
  suppressed: number
}

export const createLogLimit = (
  clock: Pick<Clock, 'monotonic'>,
  { most, window }: { most: number; window: number },
) => {
  const kinds = new Map<string, Count>()
  let forgotten = 0

  /** Whose window began first. A newcomer's first lines stand, however many addresses a flood has. */
  const forgetOldest = (): void => {
    const [kind, { suppressed }] = kinds.entries().next().value as [string, Count]
    forgotten += suppressed
    kinds.delete(kind)
  }

  return {
    /** Whether a line of this kind may be written now. */
    allows(kind: string): boolean {
      const now = clock.monotonic()
      const known = kinds.get(kind)
      if (known && now - known.startedAt < window) {
        const isAllowed = known.written < most
        if (isAllowed) known.written++
        else known.suppressed++
        return isAllowed
      }
      kinds.delete(kind)
      if (kinds.size >= MAX_KINDS) forgetOldest()
      kinds.set(kind, { startedAt: now, written: 1, suppressed: known?.suppressed ?? 0 })
      return true
    },
    /** What was left out since the last call. Called by a timer, once a window; kinds that are over go. */
    takeSuppressed(): { kind: string; count: number }[] {
      const taken = forgotten > 0 ? [{ kind: FORGOTTEN, count: forgotten }] : []
      forgotten = 0
      const now = clock.monotonic()
      for (const [kind, state] of kinds) {
        if (state.suppressed > 0) taken.push({ kind, count: state.suppressed })
        state.suppressed = 0
        if (now - state.startedAt >= window) kinds.delete(kind)
      }
      return taken
    },
  }
}

export type LogLimit = ReturnType<typeof createLogLimit>
