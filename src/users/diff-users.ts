// What is different between two states of a file of users. It says what happened to whom, and never
// what follows from it: ending sessions is the daemon's business.
import type { HeldUser } from './source.ts'

export interface UserChange {
  name: string
  change: 'added' | 'removed' | 'disabled' | 'enabled' | 'password' | 'role' | 'display_name'
}

/** In the order of the new state, the removed ones last. Several changes of one user are several rows. */
export type UsersDiff = readonly UserChange[]

export function diffUsers(
  before: ReadonlyMap<string, HeldUser>,
  after: ReadonlyMap<string, HeldUser>,
): UsersDiff {
  const changes: UserChange[] = []
  for (const [name, user] of after) {
    const old = before.get(name)
    if (old === undefined) changes.push({ name, change: 'added' })
    else changes.push(...diffUser(old, user))
  }
  for (const name of before.keys()) if (!after.has(name)) changes.push({ name, change: 'removed' })
  return changes
}

function* diffUser(old: HeldUser, user: HeldUser): Iterable<UserChange> {
  const { name } = user
  if (old.disabled !== user.disabled) yield { name, change: user.disabled ? 'disabled' : 'enabled' }
  if (old.credential !== user.credential) yield { name, change: 'password' }
  if (old.role !== user.role) yield { name, change: 'role' }
  if (old.displayName !== user.displayName) yield { name, change: 'display_name' }
}
