// What `postern user list` shows of a user. The hash itself never gets here: only its kind does.

import type { FileUser } from '../users/parse-users.ts'
import { formatTable } from './table.ts'

/** `id` as the daemon gave it; anything but a number is none. */
export const toUserRow = (found: FileUser, id: unknown) => {
  const flags: string[] = [] // what is worth the operator's attention
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

export const formatUsers = (rows: readonly ReturnType<typeof toUserRow>[]): string =>
  formatTable([
    ['NAME', 'ID', 'ROLE', 'STATE', 'HASH', 'DISPLAY NAME'],
    ...rows.map((row) => [
      row.name,
      row.id === null ? '-' : String(row.id),
      row.role,
      row.disabled ? 'disabled' : 'enabled',
      row.flags.includes('weak') ? `${row.hash} (weak)` : row.hash,
      row.display_name,
    ]),
  ])
