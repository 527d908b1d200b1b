// What SQLite's own errors mean for an operator: a store that is damaged, or one that cannot be written now.

import { StoreError } from '../store.ts'

// Primary codes of https://www.sqlite.org/rescode.html
export const SQLITE_ERROR = 1
export const SQLITE_BUSY = 5
export const SQLITE_READONLY = 8
export const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26
// A full tmpfs says it like this: no page was lost, it heals when there is room again.
export const SQLITE_IOERR_SHMSIZE = SQLITE_IOERR | (19 << 8)

const CURES: Readonly<Record<number | string, string>> = {
  EACCES: 'run this as root (sudo)', // the file system's own word
  [SQLITE_BUSY]: 'close the program that writes to it',
  [SQLITE_READONLY]: 'make it writable for the user that Postern runs as',
  [SQLITE_IOERR]: 'check the disk, then restart Postern',
  [SQLITE_FULL]: 'make room on its disk',
  [SQLITE_CANTOPEN]:
    'run a command as root (sudo); its directory must be there and writable for the user that Postern runs as',
}

export const extendedCode = (error: unknown): number => {
  const code = (error as { errcode?: unknown }).errcode
  return typeof code === 'number' ? code : 0
}

export const primaryCode = (error: unknown): number => extendedCode(error) & 0xff

export const damaged = (file: string, how: string): StoreError =>
  new StoreError('damaged', `${file} is damaged (${how}): restore a backup of it`)

export const toStoreError = (error: unknown, file: string): StoreError => {
  if (error instanceof StoreError) return error
  const code = primaryCode(error)
  const { message } = error as Error // neither SQLite nor fs throws anything else
  if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) return damaged(file, message)
  const cure = CURES[code === 0 ? String((error as NodeJS.ErrnoException).code) : code]
  return new StoreError('unavailable', `${file}: ${message}${cure ? `: ${cure}` : ''}`, {
    cause: error,
  })
}
