// The sessions that ended while tokens of theirs could still be alive, held in memory so that a check
// never waits for the store. Nothing here is ever taken back: an entry goes only when no token of that
// session can be valid any more.

import type { Clock } from '../clock.ts'

export interface Revocations {
  /** `until`: the last instant at which an access token of the session could be valid. */
  add(sid: string, until: number): void
  has(sid: string): boolean
  /** Tokens issued before `since` count no more, whatever their session. Never moves back. */
  moveEpoch(since: number): void
  isBeforeEpoch(iat: number): boolean
  /** Drops what has run out; how many are left. Called by a timer, so memory follows the tokens' life. */
  prune(): number
}

// Wall clocks are slewed by parts of a second an hour: a minute more covers any life of a token.
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
