// Ends sessions in the only order that leaves no gap: durably in the store, then revoked in memory, then whoever must
// act on it is told (live streams, the security log). Only then may a caller answer.

import type { Clock } from '../clock.ts'
import type { EndCause, EndedSession, Store } from '../store/store.ts'
import type { Revocations } from './revocations.ts'

export const createSessions = (parts: {
  store: Pick<Store, 'endSession' | 'endSessionsOf'>
  revocations: Pick<Revocations, 'add'>
  clock: Clock
  onEnd(session: EndedSession): void | Promise<void>
}) => {
  const { store, revocations, clock, onEnd } = parts
  /** For a session that the store has ended itself. */
  const ended = async (session: EndedSession): Promise<void> => {
    revocations.add(session.sid, session.until)
    await onEnd(session)
  }
  return {
    /** Resolves to undefined where it had ended before. */
    async end(sid: string, cause: EndCause): Promise<EndedSession | undefined> {
      const session = await store.endSession(sid, cause, clock.now())
      if (session) await ended(session)
      return session
    },
    async endAllOf(username: string, cause: EndCause): Promise<readonly EndedSession[]> {
      const sessions = await store.endSessionsOf(username, cause, clock.now())
      for (const session of sessions) revocations.add(session.sid, session.until)
      await Promise.all(sessions.map(async (session) => onEnd(session)))
      return sessions
    },
    ended,
  }
}

export type Sessions = ReturnType<typeof createSessions>
