// Ends sessions in the only order that leaves no gap: durably in the store, then revoked in memory, then whoever must
// act on it is told (live streams, the security log). Only then may a caller answer. What the store cannot write now is
// refused here at once all the same, and written as soon as that works; until then the caller gets the store's fault.

import type { Time } from '../clock.ts'
import type { EndCause, EndedSession, Store } from '../store/store.ts'
import type { Revocations } from './revocations.ts'

const LONGEST_ACCESS = 86_400 // seconds: the most that any access_ttl may be
const WRITE_EVERY = 1 // second, while something is owed

export const createSessions = (parts: {
  store: Pick<Store, 'endSession' | 'endSessionsOf' | 'listSessions'>
  revocations: Pick<Revocations, 'add'>
  clock: Pick<Time, 'now' | 'every'>
  onEnd(session: EndedSession): void | Promise<void>
  /** The session ends here, and that is not written yet: its streams must not wait for it. */
  onRefused(sid: string): void | Promise<unknown>
  /** What is live here. */
  streams(): readonly { sid: string; username: string }[]
}) => {
  const { store, revocations, clock, onEnd, onRefused, streams } = parts
  /** By session, or by user after a blank, which no sid has: at most one entry for each. */
  const owed = new Map<string, () => Promise<unknown>>()
  const allOf = (username: string): string => `user ${username}`

  /** For a session that the store has ended itself. */
  const ended = async (session: EndedSession): Promise<void> => {
    revocations.add(session.sid, session.until)
    await onEnd(session)
  }

  const writeOne = async (sid: string, cause: EndCause): Promise<EndedSession | undefined> => {
    const session = await store.endSession(sid, cause, clock.now())
    owed.delete(sid)
    if (session) await ended(session)
    return session
  }

  const writeAll = async (username: string, cause: EndCause): Promise<EndedSession[]> => {
    const sessions = await store.endSessionsOf(username, cause, clock.now())
    owed.delete(allOf(username))
    for (const session of sessions) revocations.add(session.sid, session.until)
    await Promise.all(sessions.map(async (session) => onEnd(session)))
    return sessions
  }

  const refuse = async (sids: readonly string[]): Promise<void> => {
    const until = clock.now() + LONGEST_ACCESS
    for (const sid of sids) revocations.add(sid, until)
    await Promise.all(sids.map(async (sid) => onRefused(sid)))
  }

  /** A full disk can still be read; of a store that is away only those are known that listen here. */
  const findSessionsOf = async (username: string): Promise<readonly string[]> => {
    const known = await store.listSessions(clock.now(), username).catch(() => [])
    const live = streams().filter((stream) => stream.username === username)
    return [...known, ...live].map(({ sid }) => sid)
  }

  let writing = false
  const writeOwed = async (): Promise<void> => {
    if (writing) return // a store that is away takes its time to say so
    writing = true
    for (const write of owed.values()) {
      const written = await write().then(
        () => true,
        () => false,
      )
      if (!written) break
    }
    writing = false
  }
  const stop = clock.every(WRITE_EVERY, () => void writeOwed())

  return {
    /** Resolves to undefined where it had ended before. */
    async end(sid: string, cause: EndCause): Promise<EndedSession | undefined> {
      try {
        return await writeOne(sid, cause)
      } catch (fault) {
        owed.set(sid, () => writeOne(sid, cause))
        await refuse([sid])
        throw fault
      }
    },
    /** `own`: the session that asks, where one does. */
    async endAllOf(
      username: string,
      cause: EndCause,
      own?: string,
    ): Promise<readonly EndedSession[]> {
      try {
        return await writeAll(username, cause)
      } catch (fault) {
        // What follows from a change of users is repeated by whoever follows them, by what they are then.
        if (own !== undefined) {
          owed.set(allOf(username), () => writeAll(username, cause))
          await refuse([...new Set([own, ...(await findSessionsOf(username))])])
        }
        throw fault
      }
    },
    /** Whether it is to end, alone or with all of its user's, and the store could not be told yet. */
    owes: ({ sid, username }: { sid: string; username: string }): boolean =>
      owed.has(sid) || owed.has(allOf(username)),
    ended,
    close: stop,
  }
}

export type Sessions = ReturnType<typeof createSessions>
