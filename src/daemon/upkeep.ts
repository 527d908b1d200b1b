// What is done again and again: old sessions and revocations go, and lines of the log that were left out are counted.

import type { Revocations } from '../auth/revocations.ts'
import type { Clock } from '../clock.ts'
import type { LogLimit } from '../log-limit.ts'
import type { Log } from '../log.ts'
import type { Store } from '../store/store.ts'

const PRUNE_EVERY = 30 // seconds

/** Until what it returns is called. */
export const startUpkeep = (parts: {
  store: Pick<Store, 'prune'>
  revocations: Pick<Revocations, 'prune'>
  limit: LogLimit
  limitWindow: number
  log: Log
  clock: Clock
  findObstacle(): Promise<string | undefined>
  every?: (seconds: number, job: () => void) => () => void
}): (() => void) => {
  const { store, revocations, limit, limitWindow, log, clock, findObstacle } = parts
  const { every = everyUnref } = parts
  /** A slice at a time, so that a login never waits long behind it. */
  const prune = async (): Promise<void> => {
    while ((await store.prune(clock.now())) > 0);
  }
  const stops = [
    every(limitWindow, () => {
      for (const { kind, count } of limit.takeSuppressed()) {
        log.warn({ kind, count }, 'more lines like these were left out')
      }
    }),
    every(PRUNE_EVERY, () => {
      revocations.prune()
      void findObstacle()
      prune().catch((error: unknown) => {
        log.warn({ err: error }, 'old sessions could not be pruned')
      })
    }),
  ]
  return () => {
    for (const stop of stops) stop()
  }
}

const everyUnref = (seconds: number, job: () => void): (() => void) => {
  const timer = setInterval(job, seconds * 1000)
  timer.unref()
  return () => {
    clearInterval(timer)
  }
}
