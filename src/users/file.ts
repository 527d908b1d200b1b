// Users from the users file: `postern user` writes it, and so may any editor.
import { constants } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { findWriters } from '../files/writers.ts'
import { type PasswordPool, QUEUE_RETRY } from '../passwords/pool.ts'
import { holdUsers, type Reading, readFileMark, type SourceEvents } from './hold-users.ts'
import { type FileUser, parseUsers } from './parse-users.ts'
import type { Authentication } from './source.ts'

const CURES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file: make it with `postern user add`, or set users.file',
  EACCES:
    'may not be read: run this as root (sudo); the service reads it by its group (chgrp postern, chmod 0640)',
  EISDIR: 'is a folder: set users.file to the file in it',
}

const describe = (file: string, error: unknown): string => {
  const { code = 'no code' } = error as NodeJS.ErrnoException
  return `${file}: ${CURES[code] ?? `cannot be read (${code}): see the disk it is on`}`
}

const load = async (file: string): Promise<Reading<FileUser>> => {
  const reading = {
    users: new Map<string, FileUser>(),
    problems: [],
    warnings: [],
    mark: '',
    readMark: () => readFileMark(file),
  }
  let mark: string
  let mode: number
  let content: Uint8Array
  try {
    mark = await readFileMark(file)
    ;({ mode } = await stat(file))
    // O_NONBLOCK: a FIFO in its place must hang neither the start nor root's command.
    content = await readFile(file, { flag: constants.O_RDONLY | constants.O_NONBLOCK })
  } catch (error) {
    return { ...reading, problems: [describe(file, error)] }
  }
  const writers = findWriters(file, mode)
  if (writers !== undefined) return { ...reading, mark, problems: [writers] }
  const warnings =
    (mode & 0o004) === 0
      ? []
      : [`${file}: every user of this host can read the hashes: chmod o= ${file}`]
  return { ...reading, mark, warnings, ...(await parseUsers(content, file)) }
}

/** Throws a ConfigError with every problem. */
export const openUsersFile = async (
  options: SourceEvents & { file: string; pool: Pick<PasswordPool, 'verify'> },
) => {
  const { file, pool } = options
  const { find, standIn, ...held } = await holdUsers(file, () => load(file), options)
  return {
    name: 'file' as const,
    ...held,
    /** A hash of the file for a name that is not in it, whose check takes the time of a user's. */
    standInHash: (stranger: string) => standIn(stranger)?.stored,
    async authenticate(username: string, password: string): Promise<Authentication> {
      const asked = find(username)
      if (asked === undefined) return { refused: 'unknown_user' }
      // For a disabled user too: the time it takes must not tell who is disabled.
      const verified = pool.verify(asked.stored, password)
      if (verified === undefined) return { unavailable: 'hash_queue_full', retryAfter: QUEUE_RETRY }
      const matches = await verified
      // Looked up again: whoever was disabled while their password waited in the queue stays out.
      const found = held.peek(username)
      if ('refused' in found) return found
      const same = matches && find(username)?.stored === asked.stored
      return same ? found : { refused: 'wrong_password' }
    },
  }
}
