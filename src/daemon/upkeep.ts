// What is done again and again: old sessions and revocations go, and lines of the log that were left out are counted.

import type { Revocations } from '../auth/revocations.ts'
import type { Time } from '../clock.ts'
import type { LogLimit } from '../log-limit.ts'
import type { Log } from '../log.ts'
import type { Store } from '../store/store.ts'

const PRUNE_EVERY = 30 // seconds

/** Goes on until the function that it returns is called. */
export const startUpkeep = (parts: {
  store: Pick<Store, 'prune'>
  revocations: Pick<Revocations, 'prune'>
  limit: LogLimit
  limitWindow: number
  log: Log
  clock: Time
  findObstacle(): Promise<string | undefined>
}): (() => void) => {
  const { store, revocations, limit, limitWindow, log, clock, findObstacle } = parts
  /** A slice at a time, so that a login never waits long behind it. */
  const prune = async (): Promise<void> => {
    while ((await store.prune(clock.now())) > 0);
  }
  const stops = [
    clock.every(limitWindow, () => {
      for (const { kind, count } of limit.takeSuppressed()) {
        log.warn({ kind, count }, 'more lines like these were left out')
      }
    }),
    clock.every(PRUNE_EVERY, () => {
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
