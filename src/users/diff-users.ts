// What differs between two states of a source's users. It says what happened to whom, and never what follows from that:
// ending sessions is the daemon's business.
import type { HeldUser } from './source.ts'

export interface UserChange {
  name: string
  change:
    | 'added'
    | 'removed'
    | 'disabled'
    | 'enabled'
    | 'password'
    | 'role'
    | 'display_name'
    | 'number'
}

/** In the order of the new state, removed users last. Several changes of one user are several entries. */
export type UsersDiff = readonly UserChange[]

const diffUser = (old: HeldUser, user: HeldUser): UserChange['change'][] => {
  const changes: UserChange['change'][] = []
  if (old.disabled !== user.disabled) changes.push(user.disabled ? 'disabled' : 'enabled')
  if (old.credential !== user.credential) changes.push('password')
  if (old.role !== user.role) changes.push('role')
  if (old.displayName !== user.displayName) changes.push('display_name')
  if (old.number !== user.number) changes.push('number')
  return changes
}

export const diffUsers = (
  before: ReadonlyMap<string, HeldUser>,
  after: ReadonlyMap<string, HeldUser>,
): UsersDiff => {
  const diff: UserChange[] = []
  for (const [name, user] of after) {
    const old = before.get(name)
    for (const change of old ? diffUser(old, user) : ['added' as const]) diff.push({ name, change })
  }
  for (const name of before.keys()) if (!after.has(name)) diff.push({ name, change: 'removed' })
  return diff
}
