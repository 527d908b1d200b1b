// Copies of a store's file, for backup and restore. A copy is one moment of the store, whole and checked,
// whether or not a daemon writes to it meanwhile.

import { DatabaseSync } from 'node:sqlite'

import { toStoreError } from './error.ts'
import { inspectDatabase, lockStore } from './file.ts'

/** Writes `to` anew from a consistent snapshot of `from`, its log included. */
export const copyDatabase = (from: string, to: string): void => {
  try {
    using db = new DatabaseSync(from, { readOnly: true })
    db.prepare('VACUUM INTO ?').run(to)
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

/** Runs `work` while no daemon has the store open, and none can open it. Throws `locked` where one has. */
export const whileIdle = (file: string, work: () => void): void => {
  using _lock = lockStore(file)
  work()
}
