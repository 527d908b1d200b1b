// Copies of a store's file, for backup and restore. A copy is one moment of the store, whole and checked,
// whether or not a daemon writes to it meanwhile.

import { statSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

import { damaged, toStoreError } from './error.ts'
import { inspectDatabase, lockStore, openDatabase } from './file.ts'
import { type Row, toSession } from './rows.ts'
import { ADDED } from './schema.ts'
import { type MachineKey, NO_MACHINE_KEYS } from '../machine-key.ts'
import type { EndCause, Session } from '../store.ts'

const openToRead = (file: string): DatabaseSync => {
  // SQLite would wait for ever until somebody writes to a FIFO.
  if (!statSync(file).isFile()) throw damaged(file, 'it is no file')
  return new DatabaseSync(file, { readOnly: true })
}

/**
 * Writes `to` anew from a consistent snapshot of `from`, its log included. But for what nobody has seen yet: where the
 * copy is put back, that may have been seen since.
 */
export const copyDatabase = (from: string, to: string): void => {
  try {
    using db = openToRead(from)
    db.prepare('VACUUM INTO ?').run(to)
    using copy = new DatabaseSync(to)
    copy.exec(`${ADDED}; DELETE FROM unseen_successors`)
  } catch (error) {
    throw toStoreError(error, from)
  }
}

/** How many sessions stand in it. Throws where it is no whole store of ours, or of a newer version. */
export const inspectStore = (file: string): { sessions: number } => {
  try {
    inspectDatabase(file)
    using db = new DatabaseSync(file, { readOnly: true })
    const row = db.prepare('SELECT count(*) AS n FROM sessions WHERE ended_at IS NULL').get()
    return { sessions: Number(row?.['n']) }
  } catch (error) {
    throw toStoreError(error, file)
  }
}

const readKeys = (db: DatabaseSync): readonly MachineKey[] =>
  JSON.parse(
    String(db.prepare('SELECT keys FROM machines').get()?.['keys'] ?? NO_MACHINE_KEYS),
  ) as MachineKey[]

/** Ends what lives in a copy, machine keys too, and lets no token of before `now` count: what ended since it was taken is unknown to it. */
export const endSessionsIn = (file: string, now: number): void => {
  const cause: EndCause = 'operator'
  using db = openDatabase(file)
  db.exec('BEGIN IMMEDIATE')
  db.prepare('UPDATE sessions SET ended_at = ?, cause = ? WHERE ended_at IS NULL').run(now, cause)
  db.exec('UPDATE refresh_tokens SET sealed = NULL WHERE sealed IS NOT NULL')
  const keys = readKeys(db).map((key) => ({ ...key, removedAt: key.removedAt || now }))
  db.prepare('UPDATE machines SET keys = ?').run(JSON.stringify(keys))
  // One more: an access token of this very second counts no more either.
  db.prepare(
    'INSERT INTO epoch VALUES (1, ?) ON CONFLICT DO UPDATE SET since = max(since, excluded.since)',
  ).run(now + 1)
  db.exec('COMMIT')
}

/** The live sessions in it; undefined where it cannot be read. */
export const readLive = (file: string, now: number): Session[] => {
  using db = openToRead(file)
  const select = db.prepare(
    'SELECT * FROM sessions WHERE ended_at IS NULL AND expires_at > ? ORDER BY username, created_at',
  )
  return select.all(now).map((row: Row) => toSession(row))
}

/** The names of the machine keys that stand in it, by their ids; throws where it cannot be read. */
export const readMachineKeys = (file: string, now: number): ReadonlyMap<string, string> => {
  using db = openToRead(file)
  const standing = readKeys(db).filter(({ removedAt, until }) => removedAt === 0 && until > now)
  return new Map(standing.map(({ id, name }) => [id, name]))
}

/** Runs `work` while no daemon has the store open, and none can open it. Throws `locked` where one has. */
export const whileIdle = (file: string, work: () => void): void => {
  using held = new DisposableStack()
  try {
    held.use(lockStore(file))
  } catch (error) {
    throw toStoreError(error, `${file}.lock`)
  }
  work()
}
