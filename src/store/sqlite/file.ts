// The store's file: who may open it, whether it is whole, and its first and later shapes. A file that is
// refused stays as it was found, and nothing ever starts empty in its place.

import { closeSync, existsSync, openSync, readSync, rmSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { renameDurably } from '../../files/replace-file.ts'
import { damaged, primaryCode, SQLITE_BUSY, SQLITE_READONLY } from './error.ts'
import { ADDED, APPLICATION_ID, findForeignShape, migrate, SCHEMA_VERSION } from './schema.ts'
import { StoreError } from '../store.ts'

/**
 * Held for as long as the process lives and let go by the kernel with it, also after kill -9. A second file,
 * so that `sqlite3 -readonly` can look at the store while the daemon runs.
 */
export const lockStore = (file: string): DatabaseSync => {
  const lock = new DatabaseSync(`${file}.lock`)
  try {
    lock.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    lock.exec('PRAGMA user_version = 1') // never committed: a file that cannot be written locks nothing
  } catch (cause) {
    lock.close()
    if (primaryCode(cause) === SQLITE_READONLY) {
      throw new StoreError(
        'unavailable',
        `${file}.lock cannot be written, so it would keep no second Postern out: chown --reference=${dirname(file)} ${file}.lock, unless its disk is read-only`,
        { cause },
      )
    }
    if (primaryCode(cause) !== SQLITE_BUSY) throw cause
    throw new StoreError(
      'locked',
      `${file} is in use by another Postern: give this one a state directory of its own`,
    )
  }
  return lock
}

const pragma = (db: DatabaseSync, name: string): unknown =>
  db.prepare(`PRAGMA ${name}`).get()?.[name]

const hasLog = (file: string): boolean =>
  (statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0

/** Made beside and renamed: a crash at first start leaves no half file that the next start must refuse. */
const createDatabase = (file: string): void => {
  if (hasLog(file)) {
    throw new StoreError(
      'missing',
      `${file} is gone while ${file}-wal is there: restore a backup of it (starting afresh would un-revoke every token)`,
    )
  }
  const draft = `${file}.new`
  for (const suffix of ['', '-journal', '-wal', '-shm']) rmSync(draft + suffix, { force: true })
  {
    using db = new DatabaseSync(draft)
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    migrate(db, 0)
  }
  renameDurably(draft, file) // a name that a power cut took back would take what was acknowledged since with it
}

/** Into the page cache from front to back: after a boot the check of 420 MiB takes 1.8 s so, 3.5 s without. */
const warm = (file: string): void => {
  const descriptor = openSync(file, 'r')
  const chunk = Buffer.allocUnsafe(1 << 20)
  while (readSync(descriptor, chunk) > 0);
  closeSync(descriptor)
}

// Bytes. SQLite has no checksums: of 115,000 one-bit flips the quick check missed 25 by which an index lost entries,
// up to all ends of sessions at once; the whole one found them. It takes 27 ms a MiB (the quick one 3.5): what is
// larger is checked quickly, and its ends of sessions are read from the rows, by no index (selectEnded).
const CHECKED_WHOLE = 32 * 1024 * 1024

/** Reads and never writes: what is refused here stays as it was found. Returns the schema's version. */
export const inspectDatabase = (file: string): number => {
  const { size } = statSync(file)
  if (size === 0) {
    throw new StoreError(
      'damaged',
      `${file} is empty: restore a backup of it (starting afresh would un-revoke every token)`,
    )
  }
  warm(file) // before SQLite opens it: closing a descriptor lets go of all the process's locks on the file
  using db = new DatabaseSync(file, { readOnly: true })
  if (pragma(db, 'application_id') !== APPLICATION_ID) {
    throw new StoreError(
      'damaged',
      `${file} is not a store of Postern's: move it away, or restore a backup`,
    )
  }
  const version = pragma(db, 'user_version') as number
  if (version > SCHEMA_VERSION) {
    throw new StoreError(
      'newer',
      `${file} has schema ${version}, this Postern knows ${SCHEMA_VERSION}: install the newer version again`,
    )
  }
  // SQLite reads a last page that is cut as if it ended in zeroes. Only a log could hold it whole.
  if (size % (pragma(db, 'page_size') as number) !== 0 && !hasLog(file)) {
    throw damaged(file, 'it is cut off')
  }
  const check = size <= CHECKED_WHOLE ? 'integrity_check' : 'quick_check'
  const health = pragma(db, check)
  if (health !== 'ok') throw damaged(file, String(health).replaceAll('\n', '; '))
  const foreign = findForeignShape(db, version)
  if (foreign !== undefined) throw damaged(file, `${foreign} is not as it was made`)
  return version
}

export const openDatabase = (file: string): DatabaseSync => {
  if (!existsSync(file)) createDatabase(file)
  const version = inspectDatabase(file)
  using opened = new DisposableStack()
  const db = opened.use(new DatabaseSync(file))
  db.exec(
    `PRAGMA busy_timeout = 2000; PRAGMA foreign_keys = OFF; PRAGMA journal_mode = WAL;
     PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000`,
  )
  if (version < SCHEMA_VERSION) migrate(db, version)
  db.exec(ADDED)
  opened.move()
  return db
}
