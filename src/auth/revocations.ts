// Ended sessions whose tokens could still be alive, held in memory so that a check never waits for the store. Nothing
// is ever un-revoked: an entry goes only when no token of that session can be valid any more.

import type { Clock } from '../clock.ts'

export interface Revocations {
  /** `until`: the last instant at which an access token of the session could be valid. */
  add(sid: string, until: number): void
  has(sid: string): boolean
  /** Tokens issued before `since` are no longer valid, whatever their session. Never moves back. */
  moveEpoch(since: number): void
  isBeforeEpoch(iat: number): boolean
  /** Drops what is no longer needed; returns how many are left. Called by a timer, which bounds the memory. */
  prune(): number
}

// A wall clock that is being corrected drifts by less than a second an hour: a minute covers any token's life.
const MARGIN = 60

export const createRevocations = (clock: Clock): Revocations => {
  // By the monotonic clock: were it the wall clock, one set forward and back again would un-revoke.
  const dropAt = new Map<string, number>()
  let epoch = 0
  return {
    add(sid, until) {
      const left = Math.max(0, until - clock.now()) + MARGIN
      dropAt.set(sid, Math.max(dropAt.get(sid) ?? 0, clock.monotonic() + left))
    },
    has: (sid) => dropAt.has(sid),
    moveEpoch(since) {
      epoch = Math.max(epoch, since)
    },
    isBeforeEpoch: (iat) => iat < epoch,
    prune() {
      const now = clock.monotonic()
      for (const [sid, at] of dropAt) if (at <= now) dropAt.delete(sid)
      return dropAt.size
    },
  }
}
