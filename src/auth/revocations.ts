// The ends of sessions, held in memory so that a check never waits for the store. A session that is not here has not
// ended, or its tokens are past for certain: `isPast` refuses those whatever the clock says, so that nothing which was
// forgotten is ever un-revoked.

export const createRevocations = () => {
  const ends = new Map<string, number>()
  let epoch = 0
  let forgotten = 0
  return {
    /** `until`: the last instant at which an access token of the session could be valid. */
    add(sid: string, until: number): void {
      ends.set(sid, Math.max(ends.get(sid) ?? 0, until))
    },
    has: (sid: string): boolean => ends.has(sid),
    /** Tokens issued before `since` are no longer valid, whatever their session. Never moves back. */
    moveEpoch(since: number): void {
      epoch = Math.max(epoch, since)
    },
    isBeforeEpoch: (iat: number): boolean => iat < epoch,
    /** What ended up to `past` is forgotten, and no token of that time is believed. The store says when (`countTime`). */
    forget(past: number): void {
      if (past === forgotten) return
      forgotten = past
      for (const [sid, until] of ends) if (until <= past) ends.delete(sid)
    },
    /** Whether the end of a token of this `exp` may have been forgotten. */
    isPast: (exp: number): boolean => exp <= forgotten,
  }
}

export type Revocations = ReturnType<typeof createRevocations>
