// Whether nginx can be asked just now. While it cannot, one question a second sees whether it is back: with 300,000
// streams due, a question for each took 2.7 GiB and 2 s of the thread that also answers checks (measured).

import type { Clock } from '../clock.ts'

const PROBE_EVERY = 1 // second

export const createOutage = (
  clock: Pick<Clock, 'monotonic'>,
  /** Once an outage, and not once for each of 10,000 streams. */
  onFault: (error: unknown) => void,
) => {
  let away = false
  let probeAt = 0
  return {
    isAway: () => away,
    /** nginx answered, or with a fault: nothing can be asked for now. */
    answered(fault?: unknown): void {
      if (fault !== undefined) {
        probeAt = clock.monotonic() + PROBE_EVERY
        if (!away) onFault(fault)
      }
      away = fault !== undefined
    },
    /** How many of so many questions may be asked now; each that may counts as asked. */
    take(most: number): number {
      if (!away) return most
      const now = clock.monotonic()
      if (now < probeAt) return 0
      probeAt = now + PROBE_EVERY
      return 1
    },
  }
}

export type Outage = ReturnType<typeof createOutage>
