// Time and chance as arguments: whatever asks "when is it?", waits, or draws a number is handed a Clock or a Time.
// So no test sleeps, and a whole run can be simulated. Nothing else in src touches the real ones.

import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises'

export interface Clock {
  /** Unix time in whole seconds, as in a JWT: what a token's `exp` is compared with. */
  now(): number
  /** Seconds that only ever grow. Windows and delays use it, so a clock set back reopens nothing. */
  monotonic(): number
}

type Cancel = () => void

export interface Time extends Clock {
  /** The wall clock to the millisecond, for a log line. Nothing is decided by it. */
  date(): Date
  after(seconds: number, job: () => void): Cancel
  /**
   * For giving up on somebody's answer: what has arrived by then is read first, since a pause of our own (a long
   * garbage collection) is not the other side's silence.
   */
  deadline(seconds: number, job: () => void): Cancel
  /** Until it is cancelled; it keeps no process alive. */
  every(seconds: number, job: () => void): Cancel
  /** Also over once the signal is aborted. */
  wait(seconds: number, signal?: AbortSignal): Promise<void>
  /** From 0 up to 1, to spread what would else happen all at once. Never for a secret. */
  chance(): number
}

export const systemClock: Time = {
  now: () => Math.floor(Date.now() / 1000),
  monotonic: () => performance.now() / 1000,
  date: () => new Date(),
  after(seconds, job) {
    const timer = setTimeout(job, seconds * 1000)
    return () => clearTimeout(timer)
  },
  deadline(seconds, job) {
    let reading: NodeJS.Immediate | undefined
    const timer = setTimeout(() => (reading = setImmediate(job)), seconds * 1000)
    return () => {
      clearTimeout(timer)
      clearImmediate(reading)
    }
  },
  every(seconds, job) {
    const timer = setInterval(job, seconds * 1000).unref()
    return () => clearInterval(timer)
  },
  wait: (seconds, signal) => pause(seconds * 1000, undefined, { signal }).catch(() => undefined),
  chance: Math.random,
}

/** Between two slices of work that grows with the installation: whatever waits, checks above all, is served. */
export const nextTurn = (): Promise<void> => turn()

/** All of them, so many at a turn. */
export async function* inSlices<T>(all: Iterable<T>, most: number): AsyncGenerator<T> {
  let count = 0
  for (const one of all) {
    if (++count % most === 0) await nextTurn()
    yield one
  }
}
