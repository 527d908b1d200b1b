// The throttle where several hosts share a store: the counts are there, so that a limit holds over all of them.
// In front of it stands the local one, which bounds what is under way here; it never counts a failure, since
// it would not hear of the login elsewhere that forgives it. No try goes on that the store has not counted.

import type { Time } from '../clock.ts'
import type { SharedThrottle } from '../store/shared-store.ts'
import {
  type Attempt,
  type CountedBy,
  limitsOf,
  type LocalThrottle,
  type Throttle,
  throttleKeys,
  type ThrottleLimits,
} from './throttle.ts'

const WAIT_AT_MOST = 5 // seconds: a client that has stood in line so long had better come again
const ASK_AGAIN = 0.05 // seconds, and up to twice that by chance, so that those who wait do not ask in step

const later = (by: CountedBy): Attempt => ({ retryAfter: 1, by, first: false })

/** Its `begin` rejects with the store's StoreError where that cannot count now. It does the waiting by itself. */
export const createSharedThrottle = (
  local: LocalThrottle,
  shared: SharedThrottle,
  limitsNow: () => ThrottleLimits,
  clock: Pick<Time, 'after' | 'chance' | 'wait'>,
): Throttle => {
  const ask = async (
    username: string,
    address: string,
    free: (outcome: 'succeeded' | 'not_judged') => void,
    late: Promise<'late'>,
  ): Promise<Attempt> => {
    for (;;) {
      const limits = limitsNow()
      const all = limitsOf(throttleKeys(username, address), limits)
      const isOwners = local.hasLoggedIn(username, address)
      const counted = isOwners ? all.filter(({ by }) => by !== 'account') : all
      const attempt = await shared.begin(counted, limits.window)
      if ('settle' in attempt) {
        return {
          // Not waited for: until it arrives the try counts as one that may still fail, so no delay gives
          // anybody an extra try, and at worst the next one waits a moment. A login's session is written after
          // it over the same connection, so it mostly arrives before the answer anyway.
          settle(outcome) {
            const release = (): void => free(outcome === 'succeeded' ? outcome : 'not_judged')
            void attempt.settle(outcome).then(release, release)
          },
        }
      }
      if ('refused' in attempt) {
        return { retryAfter: attempt.retryAfter, by: attempt.refused.by, first: attempt.first }
      }
      const moment = clock.wait(ASK_AGAIN * (1 + clock.chance()))
      if ((await Promise.race([moment, late])) === 'late') return later(attempt.wait.by)
    }
  }

  const enter = async (
    username: string,
    address: string,
    late: Promise<'late'>,
  ): Promise<Attempt> => {
    for (;;) {
      const here = local.begin(username, address)
      if ('retryAfter' in here) return here
      if ('wait' in here) {
        if ((await Promise.race([here.wait, late])) === 'late') return later(here.by)
        continue
      }
      const attempt = await ask(username, address, here.settle, late).catch((error) => {
        here.settle('not_judged')
        throw error
      })
      if ('retryAfter' in attempt) here.settle('not_judged')
      return attempt
    }
  }

  return {
    async begin(username, address) {
      const late = Promise.withResolvers<'late'>()
      const cancel = clock.after(WAIT_AT_MOST, () => late.resolve('late'))
      try {
        return await enter(username, address, late.promise)
      } finally {
        cancel()
      }
    },
  }
}
