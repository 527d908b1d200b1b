// Ends sessions in the only order that leaves no gap: durably in the store, then revoked in memory, then whoever must
// act on it is told (live streams, the security log). Only then may a caller answer. What the store cannot write now is
// owed: refused here at once all the same, and written as soon as that works; until then the caller gets the store's
// fault.

import type { Time } from '../clock.ts'
import type { EndCause, EndedSession, Store } from '../store/store.ts'
import { machineKeyOf } from './machine-key.ts'
import type { Revocations } from './revocations.ts'

const WRITE_EVERY = 1 // second, while something is owed
const AT_ONCE = 256 // writes: they share a commit
const MOST_NAMED = 64 // of a user's own that are owed: while the store is away nobody can tell which ids are theirs

interface Debt {
  /** Everything that it ended. */
  write(): Promise<readonly EndedSession[]>
  /** Of a user's own, what they named. */
  sids?: Set<string>
}

// A blank, which no sid has, keeps them from being one.
const EVERYBODY = ' '
const allOf = (username: string): string => ` all ${username}`
const ownOf = (username: string): string => ` own ${username}`
const byMachinesOf = (username: string): string => ` machines ${username}`
const isByMachine = (sid: string): boolean => machineKeyOf(sid) !== undefined

export const createSessions = (parts: {
  store: Pick<Store, 'endSession' | 'endSessionsOf' | 'listSessions' | 'moveEpoch'>
  revocations: Pick<Revocations, 'add' | 'moveEpoch'>
  clock: Pick<Time, 'now' | 'every'>
  onEnd(session: EndedSession): void | Promise<void>
  /** More is owed, of that session or of any: its streams must not wait for the store. */
  onOwed(sid?: string): void | Promise<unknown>
}) => {
  const { store, revocations, clock, onEnd, onOwed } = parts
  const owed = new Map<string, Debt>()

  /** All are revoked before anybody is told. */
  const ended = async (sessions: readonly EndedSession[]): Promise<void> => {
    for (const session of sessions) revocations.add(session.sid, session.until)
    await Promise.all(sessions.map(async (session) => onEnd(session)))
  }

  const pay = async (key: string, debt: Debt): Promise<readonly EndedSession[]> => {
    const before = owed.get(key)
    const sessions = await debt.write()
    if (owed.get(key) === before) owed.delete(key) // else it was asked for again meanwhile
    await ended(sessions)
    return sessions
  }

  let isGrowing = false
  /** A change of users may owe thousands in one step: one look at what is live is enough. */
  const tellOwed = (): void => {
    if (isGrowing) return
    isGrowing = true
    queueMicrotask(() => {
      isGrowing = false
      void onOwed()
    })
  }

  const endOrOwe = async (
    key: string,
    debt: Debt,
    sid?: string,
  ): Promise<readonly EndedSession[]> => {
    try {
      return await pay(key, debt)
    } catch (fault) {
      const before = owed.get(key)
      // Two may be asked for at once, and each has failed without knowing of the other.
      for (const one of before?.sids ?? []) {
        if (debt.sids && debt.sids.size < MOST_NAMED) debt.sids.add(one)
      }
      owed.set(key, debt)
      if (sid !== undefined) await onOwed(sid)
      else if (!before) tellOwed()
      throw fault
    }
  }

  const endEach = async (sids: readonly string[], cause: EndCause): Promise<EndedSession[]> => {
    const now = clock.now()
    const found = await Promise.allSettled(sids.map((sid) => store.endSession(sid, cause, now)))
    const sessions = found.flatMap((one) => (one.status === 'fulfilled' && one.value) || [])
    const failed = found.find((one) => one.status === 'rejected')
    if (!failed) return sessions
    await ended(sessions) // asked again, the store has nothing to say of these
    throw failed.reason
  }

  const writeOwed = async (atFirst: number): Promise<void> => {
    const left = [...owed]
    for (let most = atFirst; left.length > 0; most = AT_ONCE) {
      const slice = left.splice(0, most)
      const paid = await Promise.allSettled(slice.map(([key, debt]) => pay(key, debt)))
      const unpaid = slice.filter(
        ([key, debt], at) => paid[at]?.status === 'rejected' && owed.get(key) === debt,
      )
      // Behind the others: one that fails by itself must not keep them from being written.
      for (const [key, debt] of unpaid) if (owed.delete(key)) owed.set(key, debt)
      if (unpaid.length > 0) break
    }
  }
  let writing: Promise<void> | undefined // a store that is away takes its time to say so
  const stop = clock.every(WRITE_EVERY, () => {
    // The first one alone: where the store is still away, that is said once.
    writing ??= writeOwed(1).finally(() => {
      writing = undefined
    })
  })

  const owesAll = (username: string): boolean => owed.has(allOf(username)) || owed.has(EVERYBODY)

  return {
    /** Resolves to undefined where it had ended before. */
    async end(sid: string, cause: EndCause): Promise<EndedSession | undefined> {
      const [session] = await endOrOwe(sid, { write: () => endEach([sid], cause) }, sid)
      return session
    },
    endAllOf: (username: string, cause: EndCause): Promise<readonly EndedSession[]> =>
      endOrOwe(allOf(username), {
        write: () => store.endSessionsOf(username, cause, clock.now()),
      }),
    /** Those that machine keys opened in the user's name. */
    endByMachines: (username: string, cause: EndCause): Promise<readonly EndedSession[]> =>
      endOrOwe(byMachinesOf(username), {
        async write() {
          const own = await store.listSessions(clock.now(), username)
          return endEach(own.map(({ sid }) => sid).filter(isByMachine), cause)
        },
      }),
    /**
     * Those that logged in with these of a user's passwords. Not owed: while the store is away nobody can tell which
     * they are, and those of the user's other devices must go on.
     */
    async endByCredential(
      username: string,
      credentials: readonly string[],
      cause: EndCause,
    ): Promise<readonly EndedSession[]> {
      const own = await store.listSessions(clock.now(), username)
      const theirs = own.filter(({ credential }) => credentials.includes(credential))
      const sessions = await endEach(
        theirs.map(({ sid }) => sid),
        cause,
      )
      await ended(sessions)
      return sessions
    },
    /** By the user's own list; undefined where it is none of theirs, or had ended. */
    async endOwn(username: string, sid: string): Promise<EndedSession | undefined> {
      const sids = new Set(owed.get(ownOf(username))?.sids).add(sid)
      const [oldest = ''] = sids
      if (sids.size > MOST_NAMED) sids.delete(oldest)
      const write = async (): Promise<EndedSession[]> => {
        const own = await store.listSessions(clock.now(), username)
        return endEach(
          own.map((session) => session.sid).filter((one) => sids.has(one)),
          'user',
        )
      }
      const sessions = await endOrOwe(ownOf(username), { write, sids }, sid)
      return sessions.find((session) => session.sid === sid)
    },
    /**
     * How many that were. Also tokens without a session in the store count no more: a restored backup knows nothing of
     * later logins.
     */
    async endEverybodys(): Promise<number> {
      const since = clock.now() + 1
      revocations.moveEpoch(since)
      let count = 0
      await endOrOwe(EVERYBODY, {
        async write() {
          await store.moveEpoch(since)
          const sids = (await store.listSessions(clock.now())).map(({ sid }) => sid)
          while (sids.length > 0) {
            const sessions = await endEach(sids.splice(0, AT_ONCE), 'operator')
            count += sessions.length
            await ended(sessions)
          }
          return []
        },
      })
      return count
    },
    /** Whether it is to end, and the store could not be told yet. */
    owes: ({ sid, username }: { sid: string; username: string }): boolean =>
      owed.size > 0 &&
      (owed.has(sid) ||
        owesAll(username) ||
        owed.get(ownOf(username))?.sids?.has(sid) === true ||
        (isByMachine(sid) && owed.has(byMachinesOf(username)))),
    /** The same, of all of a user's. */
    owesAll,
    /** For a session that the store has ended itself. */
    ended: (session: EndedSession): Promise<void> => ended([session]),
    /** Tries once more; how many are left, and are lost with this process. */
    async close(): Promise<number> {
      stop()
      await writing
      await writeOwed(AT_ONCE)
      return owed.size
    },
  }
}

export type Sessions = ReturnType<typeof createSessions>
