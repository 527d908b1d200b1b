// A flood must not fill the journal: of lines that say the same thing a few are written in each window, and
// then one that says how many were not. Nothing is lost to the metrics, which count every one.

import type { Clock } from './clock.ts'

export const createLogLimit = (
  clock: Pick<Clock, 'monotonic'>,
  { most, window }: { most: number; window: number },
) => {
  const kinds = new Map<string, { startedAt: number; written: number; suppressed: number }>()
  return {
    /** Whether a line of this kind may be written now. Kinds come from a closed list. */
    allows(kind: string): boolean {
      const now = clock.monotonic()
      const known = kinds.get(kind)
      if (!known || now - known.startedAt >= window) {
        kinds.set(kind, { startedAt: now, written: 1, suppressed: known?.suppressed ?? 0 })
        return true
      }
      if (known.written >= most) {
        known.suppressed++
        return false
      }
      known.written++
      return true
    },
    /** What was left out since the last call, and begins the next window where one is over. Called by a timer. */
    takeSuppressed(): { kind: string; count: number }[] {
      const taken: { kind: string; count: number }[] = []
      for (const [kind, state] of kinds) {
        if (state.suppressed > 0) taken.push({ kind, count: state.suppressed })
        state.suppressed = 0
      }
      return taken
    },
  }
}

export type LogLimit = ReturnType<typeof createLogLimit>
