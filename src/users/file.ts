// Users from the users file, held in memory: no check ever waits for a disk. A broken file changes
// nothing: the last good state stays in force, and nobody is logged out by a slip of an editor.
import { type BigIntStats, closeSync, fstatSync, openSync, readFileSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { ConfigError } from '../config/config-error.ts'
import type { PasswordPool } from '../passwords/pool.ts'
import { diffUsers, type UsersDiff } from './diff-users.ts'
import { type FileUser, parseUsers } from './parse-users.ts'
import type { Lookup, User, UserSource } from './source.ts'
import { startWatch } from './watch.ts'

export interface UsersFile extends UserSource {
  readonly name: 'file'
  /** Everybody in the file, the disabled ones too. */
  names(): Iterable<string>
}

export interface UsersFileOptions {
  file: string
  pool: Pick<PasswordPool, 'verify'>
  /**
   * After every good read but the first, with the new state already in force; `reload` waits for it.
   * The diff is empty where only a comment changed, or where a broken file is whole again. When it
   * rejects, the same changes are handed over again a second later.
   */
  onChange(diff: UsersDiff): void | Promise<void>
  /** Said once for each broken state: `file:line: what is wrong: the cure`. */
  onProblem(problems: readonly string[]): void
  /** What the operator should mend, though the file is in force. */
  onWarning?: (line: string) => void
  every(seconds: number, look: () => Promise<void>): () => void
}

const QUEUE_RETRY = 2 // seconds: 64 hashes of 40 ms in two workers are through after 1.3

const CURES: Readonly<Record<string, string>> = {
  ENOENT: 'no such file: make it with `postern user add`, or set users.file',
  EACCES:
    'may not be read: run this as root (sudo); the service reads it by its group (chgrp postern, chmod 0640)',
  EISDIR: 'is a folder: set users.file to the file in it',
}

/** Throws a ConfigError with every problem: a daemon does not start on a users file that is broken. */
export function openUsersFile(options: UsersFileOptions): UsersFile {
  const { file, pool } = options
  const opened = readNow(file)

  let users = opened.users
  let announced = users // what onChange was last told of
  let inForce = opened.mark // of the state that was read last, good or broken
  warn(opened.mode)

  function warn(mode: number): void {
    if ((mode & 0o004) !== 0)
      options.onWarning?.(`${file}: every user of this host can read the hashes: chmod o= ${file}`)
  }

  async function read(): Promise<void> {
    let mark: string
    let content: Buffer
    let mode: number
    try {
      const found = await stat(file, { bigint: true })
      mark = readMark(found)
      mode = Number(found.mode)
      content = await readFile(file)
    } catch (error) {
      inForce = '' // nothing was read: the next look tries again
      return watch.report([describe(file, error)])
    }
    inForce = mark
    const parsed = parseUsers(content, file)
    if ('problems' in parsed) return watch.report(parsed.problems)
    if (watch.closed) return undefined

    watch.report([])
    warn(mode)
    // The new state first: a login between the two would open a session that nothing ends.
    users = parsed.users
    const diff = diffUsers(announced, users)
    try {
      await options.onChange(diff)
      announced = parsed.users
    } catch (error) {
      inForce = ''
      throw error
    }
  }

  const watch = startWatch({
    file,
    mark: opened.mark,
    readMark: () => stat(file, { bigint: true }).then(readMark, () => 'away'),
    isNew: (mark) => mark !== inForce,
    read,
    onProblem: options.onProblem,
    every: (seconds, look) => options.every(seconds, look),
  })

  function peek(username: string): Lookup {
    const user = users.get(username)
    if (user === undefined) return { refused: 'unknown_user' }
    return user.disabled ? { refused: 'disabled' } : { user: toUser(user) }
  }

  return {
    name: 'file',
    async authenticate(username, password) {
      const asked = users.get(username)
      if (asked === undefined) return { refused: 'unknown_user' }
      // For a disabled user too: the time it takes must not tell who is disabled.
      const verified = pool.verify(asked.stored, password)
      if (verified === undefined) return { unavailable: 'hash_queue_full', retryAfter: QUEUE_RETRY }
      const matches = await verified
      // Asked again: whoever was disabled while their password waited in the queue stays out.
      const today = users.get(username)
      if (today === undefined) return { refused: 'unknown_user' }
      if (today.disabled) return { refused: 'disabled' }
      if (!matches || today.stored !== asked.stored) return { refused: 'wrong_password' }
      return { user: toUser(today) }
    },
    lookup: async (username) => peek(username),
    peek,
    names: () => users.keys(),
    reload: watch.reload,
    close: watch.close,
  }
}

function readNow(file: string): {
  users: ReadonlyMap<string, FileUser>
  mark: string
  mode: number
} {
  let content: Buffer
  let found: BigIntStats
  try {
    const handle = openSync(file, 'r')
    try {
      found = fstatSync(handle, { bigint: true })
      content = readFileSync(handle)
    } finally {
      closeSync(handle)
    }
  } catch (error) {
    throw new ConfigError([describe(file, error)])
  }
  const parsed = parseUsers(content, file)
  if ('problems' in parsed) throw new ConfigError(parsed.problems)
  return { users: parsed.users, mark: readMark(found), mode: Number(found.mode) }
}

function toUser({ name, role, displayName, credential }: FileUser): User {
  return { name, role, displayName, credential }
}

/** ctime too: it moves with the mode, and nobody can set it back. */
function readMark({ ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs, ctimeNs].join(' ')
}

function describe(file: string, error: unknown): string {
  const { code = 'no code' } = error as NodeJS.ErrnoException
  return `${file}: ${CURES[code] ?? `cannot be read (${code}): see the disk it is on`}`
}
