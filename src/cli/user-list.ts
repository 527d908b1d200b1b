// What `postern user list` shows of a user. The hash itself never gets here: only its kind does.
import type { FileUser } from '../users/parse-users.ts'

export interface UserRow {
  name: string
  id: number | null
  role: string
  display_name: string
  disabled: boolean
  hash: string
  /** What is worth the operator's attention. */
  flags: string[]
}

/** `id` as the daemon gave it; anything but a number is none. */
export function toUserRow(found: FileUser, id: unknown): UserRow {
  const flags: string[] = []
  if (found.kind === 'bcrypt') flags.push('bcrypt') // 72 bytes at most, and slow in JavaScript
  if (found.weak) flags.push('weak')
  return {
    name: found.name,
    id: typeof id === 'number' ? id : null,
    role: found.role,
    display_name: found.displayName,
    disabled: found.disabled,
    hash: found.kind,
    flags,
  }
}

export function formatUsers(rows: readonly UserRow[]): string[] {
  const columns = [
    ['NAME', ...rows.map((row) => row.name)],
    ['ID', ...rows.map((row) => (row.id === null ? '-' : String(row.id)))],
    ['ROLE', ...rows.map((row) => row.role)],
    ['STATE', ...rows.map((row) => (row.disabled ? 'disabled' : 'enabled'))],
    ['HASH', ...rows.map((row) => (row.flags.includes('weak') ? `${row.hash} (weak)` : row.hash))],
    ['DISPLAY NAME', ...rows.map((row) => row.display_name)],
  ].map((cells) => {
    const width = cells.reduce((widest, cell) => Math.max(widest, cell.length), 0)
    return cells.map((cell) => cell.padEnd(width))
  })
  const lineOf = (index: number): string =>
    columns
      .map((cells) => cells[index])
      .join('  ')
      .trimEnd()
  return [lineOf(0), ...rows.map((_row, index) => lineOf(index + 1))]
}
