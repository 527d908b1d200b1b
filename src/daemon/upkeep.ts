// What is done again and again: time is counted, what is past for certain goes, and lines of the log that were left out
// are counted.

import type { MachineKeys } from '../auth/machine-keys.ts'
import type { Revocations } from '../auth/revocations.ts'
import type { Time } from '../clock.ts'
import type { LogLimit } from '../log-limit.ts'
import type { Log } from '../log.ts'
import type { Store } from '../store/store.ts'
import type { Observer } from './observe.ts'

const PRUNE_EVERY = 30 // seconds

/** Goes on until the function that it returns is called. */
export const startUpkeep = (parts: {
  store: Pick<Store, 'countTime' | 'prune'>
  revocations: Pick<Revocations, 'forget'>
  machineKeys: Pick<MachineKeys, 'forget'>
  limit: LogLimit
  limitWindow: number
  securityWindow: number
  observer: Pick<Observer, 'sayLeftOut'>
  log: Log
  clock: Time
  findObstacle(): Promise<string | undefined>
  /** Seconds without a refresh that end a session; 0: never. */
  idleTtl(): number
}): (() => void) => {
  const {
    store,
    revocations,
    machineKeys,
    limit,
    limitWindow,
    securityWindow,
    observer,
    log,
    clock,
    findObstacle,
    idleTtl,
  } = parts
  let countedAt = clock.monotonic()
  const prune = async (): Promise<void> => {
    const now = clock.now()
    const at = clock.monotonic()
    const past = await store.countTime(now, at - countedAt)
    countedAt = at
    revocations.forget(past)
    if (now < past) {
      log.error(
        { past },
        'the clock stands before an instant that was past for more than a day: tokens are refused until then; correct the clock, or, if it was ahead before and is right now, run `postern session end --all`',
      )
    }
    await machineKeys.forget(past)
    // A slice at a time, so that a login never waits long behind it.
    while ((await store.prune(now, past, idleTtl())) > 0);
  }
  let pruning = false
  const stops = [
    clock.every(limitWindow, () => {
      for (const { kind, count } of limit.takeSuppressed()) {
        log.warn({ kind, count }, 'more lines like these were left out')
      }
    }),
    clock.every(securityWindow, observer.sayLeftOut),
    clock.every(PRUNE_EVERY, () => {
      void findObstacle()
      if (pruning) return // behind a disk that hangs the same seconds would be counted again and again
      pruning = true
      prune()
        .catch((error: unknown) => {
          log.warn({ err: error }, 'old sessions could not be pruned')
        })
        .finally(() => {
          pruning = false
        })
    }),
  ]
  return () => {
    for (const stop of stops) stop()
    observer.sayLeftOut()
  }
}
