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
  /** Of a password: the marks that no longer count, where others of that user still do. */
  gone?: readonly string[]
}

/** In the order of the new state, removed users last. Several changes of one user are several entries. */
export type UsersDiff = readonly UserChange[]

const marksOf = ({ credential, credentials }: HeldUser): readonly string[] =>
  credentials ?? [credential]

/** A password that was added is no change: it takes nothing from anybody. */
const diffPasswords = (old: HeldUser, user: HeldUser): Omit<UserChange, 'name'>[] => {
  const today = marksOf(user)
  const gone = marksOf(old).filter((mark) => !today.includes(mark))
  if (gone.length === 0) return []
  return [{ change: 'password', ...(gone.length < marksOf(old).length && { gone }) }]
}

const diffUser = (old: HeldUser, user: HeldUser): Omit<UserChange, 'name'>[] => {
  const changes: Omit<UserChange, 'name'>[] = []
  if (old.disabled !== user.disabled) {
    changes.push({ change: user.disabled ? 'disabled' : 'enabled' })
  }
  changes.push(...diffPasswords(old, user))
  if (old.role !== user.role) changes.push({ change: 'role' })
  if (old.displayName !== user.displayName) changes.push({ change: 'display_name' })
  if (old.number !== user.number) changes.push({ change: 'number' })
  return changes
}

export const diffUsers = (
  before: ReadonlyMap<string, HeldUser>,
  after: ReadonlyMap<string, HeldUser>,
): UsersDiff => {
  const diff: UserChange[] = []
  for (const [name, user] of after) {
    const old = before.get(name)
    if (!old) diff.push({ name, change: 'added' })
    else for (const change of diffUser(old, user)) diff.push({ name, ...change })
  }
  for (const name of before.keys()) if (!after.has(name)) diff.push({ name, change: 'removed' })
  return diff
}
