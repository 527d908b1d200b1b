// What a change in a user source means for sessions: whoever is gone, disabled or has another password is logged
// out, and whose role changed keeps only what the new one grants.

import type { Sessions } from '../auth/sessions.ts'
import type { Clock } from '../clock.ts'
import type { EndCause, Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { UserChange, UsersDiff } from '../users/diff-users.ts'
import type { IsMeant } from '../users/directory.ts'
import type { UserSource } from '../users/source.ts'
import type { Observer } from './observe.ts'
import type { FollowedUsers } from './open-users.ts'

const CAUSES: Readonly<Partial<Record<UserChange['change'], EndCause>>> = {
  removed: 'user_removed',
  disabled: 'user_disabled',
  password: 'password_changed',
}

export const followUsers = (parts: {
  users: FollowedUsers
  sessions: Pick<Sessions, 'endAllOf'>
  store: Pick<Store, 'listCredentials'>
  clock: Clock
  registry: Pick<Registry, 'review'>
  observer: Observer
}) => {
  const { users, sessions, store, registry, clock, observer } = parts
  let ended = 0

  const endAllOf = async (username: string, cause: EndCause): Promise<void> => {
    ended += (await sessions.endAllOf(username, cause)).length
  }

  /** Also what changed while the daemon was down: whoever is gone, disabled, or has another password than at login. */
  const endSessionsOfChangedUsers = async (): Promise<void> => {
    for (const { username, credential } of await store.listCredentials(clock.now())) {
      const today = users.peek(username)
      if (!today || 'unavailable' in today) continue
      if ('refused' in today) {
        await endAllOf(username, today.refused === 'disabled' ? 'user_disabled' : 'user_removed')
      } else if (today.user.credential !== credential) {
        await endAllOf(username, 'password_changed')
      }
    }
  }

  users.follow({
    async onChange(source: UserSource['name'], diff: UsersDiff) {
      const gone = diff.flatMap(({ name, change }) => {
        const cause = CAUSES[change]
        return cause ? [{ name, cause }] : []
      })
      // All at once: each waits for its streams to close, and the last of 200 must not wait for the others.
      const ending = Promise.all(gone.map(async ({ name, cause }) => endAllOf(name, cause)))
      registry.review() // what today's roles no longer allow
      await ending
      // A name that is new here may have come from another source: its sessions are those of that other user.
      if (diff.some(({ change }) => change === 'added')) await endSessionsOfChangedUsers()
      observer.usersRead(source, diff.length)
    },
    onProblem(source: UserSource['name'], found: readonly string[]) {
      observer.usersBroken(source, found)
    },
    onHeldBack: observer.usersHeldBack,
  })

  let turn: Promise<unknown> = Promise.resolve()
  return {
    endSessionsOfChangedUsers,
    /**
     * Reads every source now: how many sessions that ended, and what is wrong with which source. One reading at a
     * time: else it would count what another has ended.
     */
    reload(isMeant: IsMeant) {
      const reading = turn.then(async () => {
        const before = ended
        const problems = await users.reread(isMeant)
        return { ended: ended - before, problems }
      })
      turn = reading.catch(() => undefined)
      return reading
    },
  }
}

export type UserFollower = ReturnType<typeof followUsers>
