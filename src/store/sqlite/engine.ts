// The store's verbs on a SQLite file, one caller, no waiting: it runs in the writer thread. Many verbs share
// one transaction and so one fsync; a verb is acknowledged only after that commit.

import type { DatabaseSync } from 'node:sqlite'

import {
  damaged,
  extendedCode,
  primaryCode,
  SQLITE_ERROR,
  SQLITE_IOERR,
  SQLITE_IOERR_SHMSIZE,
  toStoreError,
} from './error.ts'
import { lockStore, openDatabase } from './file.ts'
import { createVerbs, type Verbs } from './verbs.ts'
import { StoreError, type StoreVerb } from '../store.ts'
import { STORE_VERBS } from '../verbs.ts'

export interface Call {
  verb: StoreVerb
  args: readonly unknown[]
}

export type Outcome = { value: unknown } | { error: { code: StoreError['code']; message: string } }

const serveDatabase = (file: string, db: DatabaseSync, verbs: Verbs, opened: DisposableStack) => {
  // After a failed fsync the kernel may have dropped the pages: a later success proves nothing (fsyncgate).
  let failed: StoreError | undefined

  const run = (call: Call): unknown =>
    (verbs[call.verb] as (...args: readonly unknown[]) => unknown)(...call.args)

  let fsyncs = true
  const transact = (calls: readonly Call[]): Outcome[] => {
    const needed = calls.some(({ verb }) => STORE_VERBS[verb] === 'disk')
    if (needed !== fsyncs) db.exec(`PRAGMA synchronous = ${needed ? 'FULL' : 'NORMAL'}`)
    fsyncs = needed
    db.exec('BEGIN IMMEDIATE')
    try {
      const outcomes = calls.map((call) => ({ value: run(call) }))
      db.exec('COMMIT')
      return outcomes
    } catch (error) {
      if (db.isTransaction) db.exec('ROLLBACK')
      throw error
    }
  }

  const attempt = (calls: readonly Call[]): Outcome[] | StoreError => {
    try {
      return transact(calls)
    } catch (error) {
      const problem = toStoreError(error, file)
      if (primaryCode(error) === SQLITE_IOERR && extendedCode(error) !== SQLITE_IOERR_SHMSIZE) {
        failed = problem
      }
      return problem
    }
  }

  const refused = ({ code, message }: StoreError): Outcome => ({ error: { code, message } })

  return {
    /** Runs the calls in order in one transaction; if one of them fails, each again in its own. */
    apply(calls: readonly Call[]): Outcome[] {
      if (failed) return calls.map(() => refused(failed as StoreError))
      const together = attempt(calls)
      if (!(together instanceof StoreError)) return together
      if (calls.length === 1) return [refused(together)]
      return calls.map((call) => {
        const alone = failed ?? attempt([call])
        return alone instanceof StoreError ? refused(alone) : (alone[0] as Outcome)
      })
    },
    close: () => opened.dispose(),
  }
}

export type Engine = ReturnType<typeof serveDatabase>

/** Opens, checks and migrates the file. Throws a StoreError whose message names the cure. */
export const openEngine = (file: string): Engine => {
  try {
    using opened = new DisposableStack()
    opened.use(lockStore(file))
    const db = opened.use(openDatabase(file))
    return serveDatabase(file, db, createVerbs(db, file), opened.move())
  } catch (error) {
    // Our statements are right: where one does not fit, the file is not what it was.
    if (primaryCode(error) === SQLITE_ERROR) throw damaged(file, (error as Error).message)
    throw toStoreError(error, file)
  }
}
