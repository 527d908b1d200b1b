// The SQLite file of a CDR, which is somebody else's: it is read without making, changing or locking anything that its
// writer would notice. So each reading opens it anew and is short: a writer that closes it meanwhile must find itself
// alone, or it leaves its -wal and -shm behind.

import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'

/** Why nothing can be read, in words that name the cure. */
export class CdrError extends Error {
  override readonly name = 'CdrError'
  /** Over by itself in a moment, mostly. */
  readonly isPassing: boolean

  constructor(
    message: string,
    { isPassing = false, cause }: { isPassing?: boolean; cause?: unknown } = {},
  ) {
    super(message, { cause })
    this.isPassing = isPassing
  }
}

const WAL = 2 // byte 18 of a file in WAL mode: https://www.sqlite.org/fileformat.html#file_format_version_numbers
const HEADER = 100
const TRIES = 5

const sizeOf = (file: string): bigint =>
  statSync(file, { bigint: true, throwIfNoEntry: false })?.size ?? -1n

/** What stands at a path, as far as it tells one state from another: what is written there, and who may read it. */
const markOf = (file: string): string => {
  const found = statSync(file, { bigint: true, throwIfNoEntry: false })
  if (!found) return '-'
  const { dev, ino, mode, uid, gid, size, mtimeNs } = found
  return [dev, ino, mode, uid, gid, size, mtimeNs].join(' ')
}

const readStart = (file: string, length: number): Buffer => {
  const start = Buffer.alloc(length)
  const fd = openSync(file, 'r')
  try {
    return start.subarray(0, readSync(fd, start, 0, length, 0))
  } finally {
    closeSync(fd)
  }
}

/** A journal that a writer fills, or that a crash left: one that is only kept for the next begins with zeros. */
const isHot = (journal: string): boolean => sizeOf(journal) > 0n && readStart(journal, 1)[0] !== 0

const rightsOf = (file: string): string =>
  `may not be read: add the user of the daemon to the group that ${file}, its -wal and its -shm have, let that group read them and enter ${dirname(file)}, and restart the daemon`

/** What is no fault of ours. */
const explain = (file: string, error: unknown): CdrError => {
  const {
    code = '',
    errcode,
    message,
    syscall,
  } = error as NodeJS.ErrnoException & { errcode?: number }
  if (errcode === undefined && syscall === undefined) throw error
  const wrong = (text: string, isPassing = false): CdrError =>
    new CdrError(`${file}: ${text}`, { isPassing, cause: error })
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return wrong('is not there: correct calls.cdr_file, or let the PBX make it', true)
  }
  if (code === 'EACCES' || code === 'EPERM') return wrong(rightsOf(file))
  switch ((errcode ?? 0) & 0xff) {
    case 5: // SQLITE_BUSY
    case 6:
      return wrong('is locked: let its writer not hold it in exclusive mode', true)
    case 8: // SQLITE_READONLY: a -wal that its writer is about to recover
    case 10: // SQLITE_IOERR
      return wrong(`cannot be read now (${message}): mend the disk, if this stays`, true)
    case 11:
      return wrong(`is damaged (${message}): mend it with the PBX, or restore it`, true)
    case 14:
      return wrong(rightsOf(file))
    case 26:
      return wrong('is no SQLite database: correct calls.cdr_file', true)
    default:
      return wrong(message)
  }
}

const open = (file: string, how: string): DatabaseSync => {
  const url = pathToFileURL(file)
  url.search = how
  const database = new DatabaseSync(url, { readOnly: true, timeout: 0 })
  database.exec('PRAGMA trusted_schema = OFF')
  return database
}

/** One look at it, with no lock or with a lock that only a reader's writer may know of; `undefined`: it moved meanwhile. */
const readOnce = <T>(
  file: string,
  read: (database: DatabaseSync) => T,
): { read: T } | undefined => {
  const journal = `${file}-journal`
  const wal = `${file}-wal`
  if (!statSync(file).isFile()) throw new CdrError(`${file}: is no file: correct calls.cdr_file`)
  const lookAt = () => [markOf(file), markOf(wal), sizeOf(`${file}-shm`) >= 0n, isHot(journal)]
  const before = lookAt()
  const isWal = readStart(file, HEADER)[18] === WAL
  const isShared = isWal && before[2] === true
  if (!isShared) {
    if (isWal && sizeOf(wal) > 0n) {
      throw new CdrError(
        `${file}: has a -wal and no -shm: let its writer not hold it in exclusive mode, or open it once with sqlite3`,
        { isPassing: true },
      )
    }
    if (isHot(journal)) {
      throw new CdrError(`${file}: is being written, or a crash left its -journal: start the PBX`, {
        isPassing: true,
      })
    }
  }
  // Beside a writer in WAL mode as any reader, but for -shm, which is never made and never written. Without one nobody has it
  // open; and a file in rollback mode is read without any lock, since that would hold up a commit: it counts if nothing
  // has moved.
  let database
  try {
    database = open(file, isShared ? '?mode=ro&readonly_shm=1' : '?mode=ro&immutable=1')
    const found = read(database)
    database.close()
    const after = lookAt()
    return isShared || before.join() === after.join() ? { read: found } : undefined
  } catch (error) {
    if (database?.isOpen) database.close()
    if (before.join() !== lookAt().join()) return undefined
    throw error
  }
}

/** `read` must be short, and throw nothing of its own but a CdrError. */
export const readCdrFile = <T>(file: string, read: (database: DatabaseSync) => T): T => {
  try {
    for (let tries = 0; tries < TRIES; tries++) {
      const done = readOnce(file, read)
      if (done) return done.read
    }
  } catch (error) {
    throw error instanceof CdrError ? error : explain(file, error)
  }
  throw new CdrError(`${file}: is written all the time: let the PBX use journal_mode=WAL`, {
    isPassing: true,
  })
}

/**
 * `mark` changes with whatever is committed; `whole` with another file in its place alone, which may have the number that the
 * one before had.
 */
export const lookAtCdrFile = (file: string): { mark: string; whole: string } => {
  try {
    const { dev, ino, birthtimeNs } = statSync(file, { bigint: true })
    const whole = [dev, ino, birthtimeNs].join(' ')
    return { mark: `${markOf(file)} ${markOf(`${file}-wal`)}`, whole }
  } catch (error) {
    throw explain(file, error)
  }
}
