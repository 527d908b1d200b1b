// The store's verbs on a SQLite file, one caller, no waiting: it runs in the writer thread. Many verbs share
// one transaction and so one fsync; a verb is acknowledged only after that commit.

import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'

import type { Subscription } from '../subscriptions/subscription.ts'
import { APPLICATION_ID, migrate, SCHEMA_VERSION } from './sqlite-schema.ts'
import {
  type EndCause,
  type EndedSession,
  type Found,
  type Renewal,
  type Rotation,
  REPEAT_WITHIN,
  type Session,
  type Store,
  StoreError,
} from './store.ts'

export interface Call {
  verb: VerbName
  args: readonly unknown[]
}

export type Outcome = { value: unknown } | { error: { code: StoreError['code']; message: string } }

export type VerbName = Exclude<keyof Store, 'close'>

type Verbs = {
  [Name in VerbName]: (...args: Parameters<Store[Name]>) => Awaited<ReturnType<Store[Name]>>
}

export interface Engine {
  /** Runs the calls in order in one transaction; if one of them fails, each again in its own. */
  apply(calls: readonly Call[]): Outcome[]
  close(): void
}

const DAY = 86_400
const KEEP_ENDED = DAY // past the last token: a clock set forward and back again finds its revocations
const KEEP_SEALED = 600 // past any grace (at most 300): until then a late tab may ask for the successor
const PRUNE_SLICE = 1000 // rows a step: about 10 ms, so that a login never waits long behind it

// What nginx's streams hang on: kill -9 keeps the kernel's pages, and a power cut ends the streams too.
const UNSYNCED: ReadonlySet<VerbName> = new Set([
  'useTicket',
  'openSubscription',
  'closeSubscriptions',
])

type Row = Record<string, unknown>

const toSession = (row: Row): Session => ({
  sid: row['sid'] as string,
  userId: row['user_id'] as number,
  username: row['username'] as string,
  role: row['role'] as string,
  dialect: row['dialect'] as Session['dialect'],
  credential: row['credential'] as string,
  language: row['language'] as string,
  persistent: row['persistent'] === 1,
  createdAt: row['created_at'] as number,
  expiresAt: row['expires_at'] as number,
  accessUntil: row['access_until'] as number,
  seenAt: row['seen_at'] as number,
  address: row['address'] as string,
  agent: row['agent'] as string,
})

const toEnded = (row: Row): EndedSession => ({
  sid: row['sid'] as string,
  username: row['username'] as string,
  cause: row['cause'] as EndCause,
  until: row['access_until'] as number,
})

const toSubscription = (row: Row): Subscription => ({
  kick: row['kick'] as string,
  sid: row['sid'] as string,
  username: row['username'] as string,
  userId: row['user_id'] as number,
  role: row['role'] as string,
  resource: row['resource'] as string,
  startedAt: row['started_at'] as number,
  until: row['latest'] as number,
  address: row['address'] as string,
  agent: row['agent'] as string,
})

const stateOf = (row: Row, now: number, idleTtl = 0): 'live' | 'ended' | 'expired' => {
  if (row['ended_at'] !== null) return 'ended'
  if (now >= (row['expires_at'] as number)) return 'expired'
  return idleTtl > 0 && now >= (row['seen_at'] as number) + idleTtl ? 'expired' : 'live'
}

const createVerbs = (db: DatabaseSync, file: string): Verbs => {
  const statement = (sql: string) => {
    const prepared = db.prepare(sql)
    return {
      all: (...values: SQLInputValue[]) => prepared.all(...values) as Row[],
      get: (...values: SQLInputValue[]) => prepared.get(...values) as Row | undefined,
      run: (...values: SQLInputValue[]) => Number(prepared.run(...values).changes),
    }
  }

  const insertUser = statement('INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING')
  const selectUser = statement('SELECT id FROM users WHERE name = ?')
  const insertSession = statement(
    'INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)',
  )
  const insertToken = statement('INSERT INTO refresh_tokens (hash, sid, seq) VALUES (?, ?, ?)')
  const selectByToken = statement(
    'SELECT s.*, t.seq, t.rotated_at, t.sealed FROM refresh_tokens t JOIN sessions s USING (sid) WHERE t.hash = ?',
  )
  const selectLastSeq = statement('SELECT max(seq) AS last FROM refresh_tokens WHERE sid = ?')
  const updateSession = statement(
    'UPDATE sessions SET role = ?, seen_at = ?, access_until = max(access_until, ?) WHERE sid = ? RETURNING *',
  )
  const markRotated = statement(
    'UPDATE refresh_tokens SET rotated_at = ?, sealed = ? WHERE hash = ?',
  )
  // Only the last token's predecessor has a sealed copy. By its number: a session of 30 days has thousands.
  const dropSealed = statement(
    `UPDATE refresh_tokens SET sealed = NULL
     WHERE sid = ?1 AND seq = (SELECT max(seq) - 1 FROM refresh_tokens WHERE sid = ?1)`,
  )
  const dropOldSealed = statement(
    `UPDATE refresh_tokens SET sealed = NULL WHERE hash IN
     (SELECT hash FROM refresh_tokens WHERE sealed IS NOT NULL AND rotated_at <= ? LIMIT ?)`,
  )
  const endOne = statement(
    'UPDATE sessions SET ended_at = ?, cause = ? WHERE sid = ? AND ended_at IS NULL AND expires_at > ? RETURNING *',
  )
  const endOfUser = statement(
    'UPDATE sessions SET ended_at = ?, cause = ? WHERE username = ? AND ended_at IS NULL AND expires_at > ? RETURNING *',
  )
  const selectEnded = statement(
    'SELECT sid, username, cause, access_until FROM sessions WHERE ended_at IS NOT NULL AND access_until > ?',
  )
  const selectLive = statement(
    'SELECT * FROM sessions WHERE ended_at IS NULL AND expires_at > ? ORDER BY created_at DESC, sid',
  )
  const selectLiveOf = statement(
    'SELECT * FROM sessions WHERE ended_at IS NULL AND expires_at > ? AND username = ? ORDER BY created_at DESC, sid',
  )
  const countLive = statement(
    'SELECT count(*) AS live FROM sessions WHERE ended_at IS NULL AND expires_at > ?',
  )
  const selectCredentials = statement(
    'SELECT DISTINCT username, credential FROM sessions WHERE ended_at IS NULL AND expires_at > ?',
  )
  const selectPrunable = statement(
    `SELECT sid FROM sessions WHERE ended_at IS NULL AND expires_at <= ?1 AND access_until <= ?1
     UNION ALL SELECT sid FROM sessions WHERE ended_at IS NOT NULL AND access_until <= ?1 LIMIT ?2`,
  )
  const deleteTokens = statement('DELETE FROM refresh_tokens WHERE sid = ?')
  const deleteSession = statement('DELETE FROM sessions WHERE sid = ?')

  const selectSurplus = statement(
    `SELECT sid FROM sessions WHERE username = ? AND ended_at IS NULL AND expires_at > ? AND sid <> ?
     ORDER BY created_at DESC, sid LIMIT -1 OFFSET ?`,
  )
  const insertTicket = statement(
    'INSERT INTO used_tickets VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING',
  )
  const selectTicket = statement('SELECT request_id, used_at FROM used_tickets WHERE id = ?')
  const deleteTickets = statement(
    'DELETE FROM used_tickets WHERE id IN (SELECT id FROM used_tickets WHERE until <= ? LIMIT ?)',
  )
  const insertSubscription = statement(
    'INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  )
  const deleteSubscription = statement('DELETE FROM subscriptions WHERE kick = ?')
  const selectSubscriptions = statement(
    `SELECT u.*, max(u.until, coalesce(s.access_until, 0)) AS latest
     FROM subscriptions u LEFT JOIN sessions s USING (sid) ORDER BY u.started_at, u.kick`,
  )

  /** For a row that this same transaction has written or seen. */
  const one = (row: Row | undefined): Row => row as Row

  const renewSession = (sid: string, { role, now, accessUntil }: Renewal): Session =>
    toSession(one(updateSession.get(role, now, accessUntil, sid)))

  return {
    identify(username) {
      insertUser.run(username)
      return one(selectUser.get(username))['id'] as number
    },
    openSession(session, refreshHash, most = 0) {
      insertSession.run(
        session.sid,
        session.userId,
        session.username,
        session.role,
        session.dialect,
        session.credential,
        session.language,
        session.persistent ? 1 : 0,
        session.createdAt,
        session.expiresAt,
        session.accessUntil,
        session.seenAt,
        session.address,
        session.agent,
      )
      insertToken.run(refreshHash, session.sid, 0)
      if (most === 0) return []
      return selectSurplus
        .all(session.username, session.createdAt, session.sid, most - 1)
        .map(({ sid }) => {
          dropSealed.run(sid as string)
          return toEnded(
            one(endOne.get(session.createdAt, 'limit', sid as string, session.createdAt)),
          )
        })
    },
    findByRefresh(refreshHash, now): Found {
      const row = selectByToken.get(refreshHash)
      return row ? { state: stateOf(row, now), session: toSession(row) } : { state: 'unknown' }
    },
    renew(refreshHash, renewal): Found {
      const row = selectByToken.get(refreshHash)
      if (!row) return { state: 'unknown' }
      // A token with a successor stays dead, also where rotation was switched off since.
      if (row['rotated_at'] !== null) return { state: 'unknown' }
      const session = toSession(row)
      const state = stateOf(row, renewal.now, renewal.idleTtl)
      return state === 'live'
        ? { state, session: renewSession(session.sid, renewal) }
        : { state, session }
    },
    rotate(presented, next, renewal, grace): Rotation {
      const row = selectByToken.get(presented)
      if (!row) return { outcome: 'unknown' }
      const session = toSession(row)
      const { sid } = session
      const { now } = renewal
      const state = stateOf(row, now, renewal.idleTtl)
      if (state !== 'live') return { outcome: state, session }
      const seq = row['seq'] as number
      const last = one(selectLastSeq.get(sid))['last'] as number
      if (seq === last) {
        dropSealed.run(sid) // the successor is used: nobody needs its predecessor's copy
        markRotated.run(now, next.sealed, presented)
        insertToken.run(next.hash, sid, seq + 1)
        return { outcome: 'rotated', session: renewSession(sid, renewal) }
      }
      const sealed = row['sealed'] as Uint8Array | null
      // Absolute: a clock set back must not stretch the window.
      const age = Math.abs(now - (row['rotated_at'] as number))
      if (seq === last - 1 && sealed && age <= grace) {
        return { outcome: 'replayed', session: renewSession(sid, renewal), sealed }
      }
      dropSealed.run(sid)
      return {
        outcome: 'reused',
        session,
        ended: toEnded(one(endOne.get(now, 'refresh_reused', sid, now))),
      }
    },
    endSession(sid, cause, now) {
      const row = endOne.get(now, cause, sid, now)
      if (!row) return undefined
      dropSealed.run(sid)
      return toEnded(row)
    },
    endSessionsOf(username, cause, now) {
      const ended = endOfUser.all(now, cause, username, now).map(toEnded)
      for (const { sid } of ended) dropSealed.run(sid)
      return ended
    },
    listEnded: (now) => selectEnded.all(now).map(toEnded),
    listSessions: (now, username) =>
      (username === undefined ? selectLive.all(now) : selectLiveOf.all(now, username)).map(
        toSession,
      ),
    countSessions: (now) => one(countLive.get(now))['live'] as number,
    listCredentials: (now) =>
      selectCredentials.all(now).map((row) => ({
        username: row['username'] as string,
        credential: row['credential'] as string,
      })),
    useTicket(id, requestId, now, until) {
      if (insertTicket.run(id, requestId, now, until) === 1) return 'first'
      const { request_id, used_at } = one(selectTicket.get(id))
      const again =
        request_id === requestId && requestId !== '' && now <= Number(used_at) + REPEAT_WITHIN
      return again ? 'repeat' : 'used'
    },
    openSubscription(subscription) {
      const { kick, sid, username, userId, role, resource } = subscription
      const { startedAt, until, address, agent } = subscription
      insertSubscription.run(
        kick,
        sid,
        username,
        userId,
        role,
        resource,
        startedAt,
        until,
        address,
        agent,
      )
    },
    closeSubscriptions(kicks) {
      for (const kick of kicks) deleteSubscription.run(kick)
    },
    listSubscriptions: () => selectSubscriptions.all().map(toSubscription),
    prune(now) {
      deleteTickets.run(now - KEEP_ENDED, PRUNE_SLICE)
      dropOldSealed.run(now - KEEP_SEALED, PRUNE_SLICE)
      let sessions = 0
      let rows = 0
      for (const { sid } of selectPrunable.all(now - KEEP_ENDED, PRUNE_SLICE)) {
        if (rows >= PRUNE_SLICE) break // a session that rotated for 30 days has thousands of tokens
        rows += deleteTokens.run(sid as string)
        sessions += deleteSession.run(sid as string)
      }
      return sessions
    },
    ping() {
      if (!existsSync(file)) {
        throw new StoreError('missing', `${file} is gone: put it back, or restart Postern`)
      }
      db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`) // a write: a read would succeed on a full disk
    },
  }
}

// Primary codes of https://www.sqlite.org/rescode.html
const SQLITE_ERROR = 1
const SQLITE_BUSY = 5
const SQLITE_READONLY = 8
const SQLITE_IOERR = 10
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26
// A full tmpfs says it like this: no page was lost, it heals when there is room again.
const SQLITE_IOERR_SHMSIZE = SQLITE_IOERR | (19 << 8)

const CURES: Readonly<Record<number, string>> = {
  [SQLITE_BUSY]: 'close the program that writes to it',
  [SQLITE_READONLY]: 'make it writable for the user that Postern runs as',
  [SQLITE_IOERR]: 'look after the disk, then restart Postern',
  [SQLITE_FULL]: 'make room on its disk',
  [SQLITE_CANTOPEN]: 'its directory must be there and writable for the user that Postern runs as',
}

const extendedCode = (error: unknown): number => {
  const code = (error as { errcode?: unknown }).errcode
  return typeof code === 'number' ? code : 0
}

const primaryCode = (error: unknown): number => extendedCode(error) & 0xff

const damaged = (file: string, how: string): StoreError =>
  new StoreError('damaged', `${file} is damaged (${how}): restore a backup of it`)

const toStoreError = (error: unknown, file: string): StoreError => {
  if (error instanceof StoreError) return error
  const code = primaryCode(error)
  const { message } = error as Error // neither SQLite nor fs throws anything else
  if (code === SQLITE_CORRUPT || code === SQLITE_NOTADB) return damaged(file, message)
  const cure = CURES[code]
  return new StoreError('unavailable', `${file}: ${message}${cure ? `: ${cure}` : ''}`, {
    cause: error,
  })
}

/**
 * Held for as long as the process lives and let go by the kernel with it, also after kill -9. A second file,
 * so that `sqlite3 -readonly` can look at the store while the daemon runs.
 */
const lockStore = (file: string): DatabaseSync => {
  const lock = new DatabaseSync(`${file}.lock`)
  try {
    lock.exec('PRAGMA busy_timeout = 0; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (cause) {
    lock.close()
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
  const db = new DatabaseSync(draft)
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    migrate(db, 0)
  } finally {
    db.close()
  }
  renameSync(draft, file)
  const directory = openSync(dirname(file), 'r')
  fsyncSync(directory) // else a power cut could take the name back, and with it what was acknowledged since
  closeSync(directory)
}

/** Into the page cache from front to back: after a boot the check of 420 MiB takes 1.8 s so, 3.5 s without. */
const warm = (file: string): void => {
  const descriptor = openSync(file, 'r')
  const chunk = Buffer.allocUnsafe(1 << 20)
  while (readSync(descriptor, chunk) > 0);
  closeSync(descriptor)
}

/** Reads and never writes: what is refused here stays as it was found. Returns the schema's version. */
const inspectDatabase = (file: string): number => {
  const { size } = statSync(file)
  if (size === 0) {
    throw new StoreError(
      'damaged',
      `${file} is empty: restore a backup of it (starting afresh would un-revoke every token)`,
    )
  }
  warm(file) // before SQLite opens it: closing a descriptor lets go of all the process's locks on the file
  const db = new DatabaseSync(file, { readOnly: true })
  try {
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
    const health = pragma(db, 'quick_check')
    if (health !== 'ok') throw damaged(file, String(health).replaceAll('\n', '; '))
    return version
  } finally {
    db.close()
  }
}

const openDatabase = (file: string): DatabaseSync => {
  if (!existsSync(file)) createDatabase(file)
  const version = inspectDatabase(file)
  const db = new DatabaseSync(file)
  try {
    db.exec(
      `PRAGMA busy_timeout = 2000; PRAGMA foreign_keys = OFF; PRAGMA journal_mode = WAL;
       PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 1000`,
    )
    if (version < SCHEMA_VERSION) migrate(db, version)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

const serveDatabase = (file: string, db: DatabaseSync, lock: DatabaseSync): Engine => {
  const verbs = createVerbs(db, file)
  // After a failed fsync the kernel may have dropped the pages: a later success proves nothing (fsyncgate).
  let failed: StoreError | undefined

  const run = (call: Call): unknown =>
    (verbs[call.verb] as (...args: readonly unknown[]) => unknown)(...call.args)

  let fsyncs = true
  const transact = (calls: readonly Call[]): Outcome[] => {
    const needed = !calls.every(({ verb }) => UNSYNCED.has(verb))
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
    apply(calls) {
      if (failed) return calls.map(() => refused(failed as StoreError))
      const together = attempt(calls)
      if (!(together instanceof StoreError)) return together
      if (calls.length === 1) return [refused(together)]
      return calls.map((call) => {
        const alone = failed ?? attempt([call])
        return alone instanceof StoreError ? refused(alone) : (alone[0] as Outcome)
      })
    },
    close() {
      db.close()
      lock.close()
    },
  }
}

/** Opens, checks and migrates the file. Throws a StoreError whose message names the cure. */
export const openEngine = (file: string): Engine => {
  let lock: DatabaseSync | undefined
  let db: DatabaseSync | undefined
  try {
    lock = lockStore(file)
    db = openDatabase(file)
    return serveDatabase(file, db, lock)
  } catch (error) {
    db?.close()
    lock?.close()
    // Our statements are right: where one does not fit, a table is not what it was.
    if (primaryCode(error) === SQLITE_ERROR) throw damaged(file, (error as Error).message)
    throw toStoreError(error, file)
  }
}
