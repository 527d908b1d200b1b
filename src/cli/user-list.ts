// What `postern user list` shows of a user. A hash or a secret never gets here: only a hash's kind does.

import type { Candidate } from '../users/asterisk-accounts.ts'
import { printable } from '../users/asterisk.ts'
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

/** `left_out`: why an account of Asterisk is no user; null where it is one. */
export const toAccountRow = ({ name, number, endpoint, leftOut }: Candidate) => ({
  name: printable(name),
  number: number ?? null,
  role: leftOut ? null : endpoint.role,
  endpoint: printable(endpoint.name),
  context: printable(endpoint.context),
  callerid: printable(endpoint.callerid),
  contacts: endpoint.contacts.map(printable),
  left_out: leftOut ? printable(leftOut.why) : null,
})

export const formatAccounts = (rows: readonly ReturnType<typeof toAccountRow>[]): string =>
  formatTable([
    ['NAME', 'NUMBER', 'ROLE', 'ENDPOINT', 'CONTEXT', 'CALLERID', 'CONTACTS', 'LEFT OUT'],
    ...rows.map((row) => [
      row.name,
      row.number ?? '-',
      row.role ?? '-',
      row.endpoint,
      row.context || '-',
      row.callerid || '-',
      row.contacts.join(' ') || '-',
      row.left_out ?? '-',
    ]),
  ])
