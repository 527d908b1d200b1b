// What a change in a user source means for sessions: whoever is gone, disabled or has another password is logged
// out, and whose role changed keeps only what the new one grants.

import type { Sessions } from '../auth/sessions.ts'
import type { Time } from '../clock.ts'
import type { EndCause, Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { UserChange, UsersDiff } from '../users/diff-users.ts'
import type { IsMeant } from '../users/directory.ts'
import { isMassRemoval } from '../users/hold-users.ts'
import type { UserSource } from '../users/source.ts'
import type { Observer } from './observe.ts'
import type { FollowedUsers } from './open-users.ts'

const CAUSES: Readonly<Partial<Record<UserChange['change'], EndCause>>> = {
  removed: 'user_removed',
  disabled: 'user_disabled',
  password: 'password_changed',
}

/** `gone`: of the user's sessions those that logged in with these passwords; else all. */
interface End {
  username: string
  cause: EndCause
  gone?: readonly string[] | undefined
}

const SAY_EVERY = 60 // seconds, while most users are missing

export const followUsers = (parts: {
  users: FollowedUsers
  sources: readonly UserSource['name'][]
  sessions: Pick<Sessions, 'endAllOf' | 'endByCredential'>
  store: Pick<Store, 'listCredentials'>
  clock: Pick<Time, 'now' | 'every'>
  registry: Pick<Registry, 'review'>
  observer: Observer
}) => {
  const { users, sources, sessions, store, registry, clock, observer } = parts
  /** Those whose users are all in memory. For the metric, the first of them: who is missing may be any one's. */
  const [held = 'file', ...others] = sources.filter((name) => name !== 'http')
  let ended = 0
  /** Users whose sessions are kept though no source knows them; of how many. */
  let missing = { count: 0, of: 0 }

  const sayMissing = (): void => {
    if (missing.count > 0) observer.usersMissing(held, missing.count, missing.of)
  }
  const stop = clock.every(SAY_EVERY, sayMissing)

  /** All at once: each waits for its streams to close, and one that cannot be written must keep back no other. */
  const endOf = async (ends: readonly End[]): Promise<void> => {
    const found = await Promise.all(
      ends.map(({ username, cause, gone }) =>
        gone ? sessions.endByCredential(username, gone, cause) : sessions.endAllOf(username, cause),
      ),
    )
    ended += found.flat().length
  }

  /**
   * Also what changed while the daemon was down: whoever is gone, disabled, or has another password than at login. A
   * source that lacks most of them may have lost them: until it is `meant`, they stay out, and no session ends.
   */
  const endSessionsOfChangedUsers = async (meant = false): Promise<void> => {
    const causes = new Map<string, EndCause>()
    const gone = new Map<string, string[]>()
    const stay = new Set<string>() // some of whose sessions are those of a password that is right today
    for (const { username, credential } of await store.listCredentials(clock.now())) {
      const today = users.peek(username)
      if (!today || 'unavailable' in today) continue
      if ('refused' in today) {
        causes.set(username, today.refused === 'disabled' ? 'user_disabled' : 'user_removed')
      } else if ((today.user.credentials ?? [today.user.credential]).includes(credential)) {
        stay.add(username)
      } else {
        causes.set(username, 'password_changed')
        gone.set(username, [...(gone.get(username) ?? []), credential])
      }
    }
    const removed = [...causes].filter(([, cause]) => cause === 'user_removed')
    const of = removed.length > 0 ? [...users.names()].length + removed.length : 0
    const isKept = !meant && isMassRemoval(removed.length, of)
    if (isKept) for (const [username] of removed) causes.delete(username)
    else if (missing.count > 0) observer.usersFound(held)
    missing = { count: isKept ? removed.length : 0, of }
    users.mayMiss(isKept)
    sayMissing()
    await endOf(
      Array.from(causes, ([username, cause]) => ({
        username,
        cause,
        gone: stay.has(username) ? gone.get(username) : undefined,
      })),
    )
  }

  users.follow({
    async onChange(source: UserSource['name'], diff: UsersDiff) {
      const ends = diff.flatMap(({ name, change, gone }): End[] => {
        const cause = CAUSES[change]
        return cause ? [{ username: name, cause, gone }] : []
      })
      const ending = endOf(ends)
      registry.review() // what today's roles no longer allow
      await ending
      // A name that is new here may have come from another source: its sessions are those of that other user.
      if (diff.some(({ change }) => change === 'added')) await endSessionsOfChangedUsers()
      observer.usersRead(source, diff.length)
      sayMissing()
    },
    onProblem(source: UserSource['name'], found: readonly string[]) {
      observer.usersBroken(source, found)
      sayMissing()
    },
    onHeldBack: observer.usersHeldBack,
  })

  let turn: Promise<unknown> = Promise.resolve()
  return {
    endSessionsOfChangedUsers,
    close: stop,
    /**
     * Reads every source now: how many sessions that ended, and what is wrong with which source. One reading at a
     * time: else it would count what another has ended.
     */
    reload(isMeant: IsMeant) {
      const reading = turn.then(async () => {
        const before = ended
        const problems = await users.reread(isMeant)
        const isAllMeant = isMeant === true || (others.length === 0 && isMeant === held)
        if (missing.count > 0 && isAllMeant && problems.size === 0) {
          await endSessionsOfChangedUsers(true)
        }
        return { ended: ended - before, problems }
      })
      turn = reading.catch(() => undefined)
      return reading
    },
  }
}

export type UserFollower = ReturnType<typeof followUsers>
