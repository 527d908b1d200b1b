// A SQLite store as the source or the target of a copy. The source is only read. The target is written beside
// its name and renamed when it is whole; what stands under that name with anything in it is never touched.

import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

import { toStoreError } from './sqlite-error.ts'
import { inspectDatabase, lockStore } from './sqlite-file.ts'
import { type Row, subscriptionValues, toSession, toSubscription } from './sqlite-rows.ts'
import { migrate, SCHEMA_VERSION } from './sqlite-schema.ts'
import { StoreError } from './store.ts'
import {
  type Head,
  type Reader,
  type Refusal,
  type SessionRecord,
  SLICE,
  SLICE_TOKENS,
  type Slice,
  type TicketRecord,
  type UserRecord,
  type Writer,
} from './transfer.ts'

const PARTS = ['', '-journal', '-wal', '-shm']

/** Root makes files for the service's user: they go to whoever owns the directory. */
export const giveToOwner = (file: string): void => {
  const { uid, gid } = statSync(dirname(file))
  chmodSync(file, 0o600)
  chownSync(file, uid, gid)
}

/** The lock that a daemon holds while it runs; it gets none while we have it. */
const lockIdle = (file: string): DatabaseSync | Refusal => {
  try {
    const lock = lockStore(file)
    giveToOwner(`${file}.lock`)
    return lock
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    return { refused: `${file} is in use: stop the daemon first` }
  }
}

const toRecord = (row: Row, tokens: readonly Row[]): SessionRecord => {
  const before = tokens.at(-2)
  const at = row['ended_at'] as number | null
  return {
    session: toSession(row),
    tokens: tokens.map(({ hash }) => hash as Uint8Array),
    rotatedAt: before?.['rotated_at'] as number | undefined,
    sealed: (before?.['sealed'] as Uint8Array | null | undefined) ?? undefined,
    ended: at === null ? undefined : { at, cause: row['cause'] as string },
  }
}

/** The rows of a table by their key, never more than a slice in memory. */
function* slicesOf(db: DatabaseSync, table: string, key: string): Generator<Row[]> {
  const from = db.prepare(`SELECT * FROM ${table} WHERE ${key} > ? ORDER BY ${key} LIMIT ${SLICE}`)
  const first = db.prepare(`SELECT * FROM ${table} ORDER BY ${key} LIMIT ${SLICE}`)
  let rows = first.all()
  while (rows.length > 0) {
    yield rows
    rows = from.all(rows.at(-1)?.[key] as string)
  }
}

function* sessionsOf(db: DatabaseSync): Generator<SessionRecord[]> {
  const tokensOf = db.prepare(
    'SELECT hash, rotated_at, sealed FROM refresh_tokens WHERE sid = ? ORDER BY seq',
  )
  for (const rows of slicesOf(db, 'sessions', 'sid')) {
    let records: SessionRecord[] = []
    let tokens = 0
    for (const row of rows) {
      const record = toRecord(row, tokensOf.all(row['sid'] as string))
      records.push(record)
      tokens += record.tokens.length
      if (tokens < SLICE_TOKENS) continue
      yield records
      records = []
      tokens = 0
    }
    yield records
  }
}

async function* readAll(db: DatabaseSync, file: string): AsyncGenerator<Slice> {
  try {
    for (const rows of slicesOf(db, 'users', 'id')) {
      yield { kind: 'users', records: rows as unknown as UserRecord[] }
    }
    for (const records of sessionsOf(db)) yield { kind: 'sessions', records }
    for (const rows of slicesOf(db, 'used_tickets', 'id')) {
      const records = rows.map((row): TicketRecord => ({
        id: row['id'] as string,
        requestId: row['request_id'] as string,
        usedAt: row['used_at'] as number,
        until: row['until'] as number,
      }))
      yield { kind: 'tickets', records }
    }
    for (const rows of slicesOf(db, 'subscriptions', 'kick')) {
      yield { kind: 'subscriptions', records: rows.map(toSubscription) }
    }
  } catch (error) {
    throw toStoreError(error, file)
  }
}

const readHead = (db: DatabaseSync): Head => {
  const one = (sql: string): number => Number(db.prepare(sql).get()?.['n'] ?? 0)
  return {
    epoch: one('SELECT since AS n FROM epoch'),
    lastUser: one(`SELECT seq AS n FROM sqlite_sequence WHERE name = 'users'`),
  }
}

/** Throws a StoreError where the file is missing, damaged or of a newer version. */
export const openSqliteSource = (file: string): Reader | Refusal => {
  let lock: DatabaseSync | undefined
  try {
    if (!existsSync(file)) {
      throw new StoreError('missing', `there is no store at ${file}: name its file`)
    }
    const idle = lockIdle(file)
    if ('refused' in idle) return idle
    lock = idle
    if (inspectDatabase(file) < SCHEMA_VERSION) {
      lock.close()
      return {
        refused: `${file} is of an older version: start the daemon on it once, which renews it`,
      }
    }
    const db = new DatabaseSync(file, { readOnly: true })
    return {
      label: file,
      head: async () => readHead(db),
      slices: () => readAll(db, file),
      disturbed: async () => undefined, // the lock sees to it
      close() {
        db.close()
        idle.close()
      },
    }
  } catch (error) {
    lock?.close()
    throw toStoreError(error, file)
  }
}

/** Whether anything stands in it that somebody may miss. */
const holdsAnything = (file: string): boolean => {
  if (inspectDatabase(file) < SCHEMA_VERSION) return true
  const db = new DatabaseSync(file, { readOnly: true })
  try {
    return ['users', 'sessions', 'used_tickets', 'epoch', 'subscriptions'].some(
      (table) => db.prepare(`SELECT 1 FROM ${table} LIMIT 1`).get() !== undefined,
    )
  } finally {
    db.close()
  }
}

const removeDraft = (draft: string): void => {
  for (const part of PARTS) rmSync(draft + part, { force: true })
}

/** Power cuts included: the draft has the name of a store only when the disk has all of it. */
const putInPlace = (draft: string, file: string): void => {
  giveToOwner(draft)
  const descriptor = openSync(draft, 'r')
  fsyncSync(descriptor)
  closeSync(descriptor)
  // Of the empty store that stood here: its log must never be taken for the new one's.
  for (const part of PARTS.slice(1)) rmSync(file + part, { force: true })
  renameSync(draft, file)
  const directory = openSync(dirname(file), 'r')
  fsyncSync(directory)
  closeSync(directory)
}

const createWrite = (db: DatabaseSync): ((slice: Slice) => void) => {
  const user = db.prepare('INSERT INTO users (id, name) VALUES (?, ?)')
  const session = db.prepare(
    'INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
  )
  const token = db.prepare('INSERT INTO refresh_tokens VALUES (?, ?, ?, ?, ?)')
  const ticket = db.prepare('INSERT INTO used_tickets VALUES (?, ?, ?, ?)')
  const subscription = db.prepare('INSERT INTO subscriptions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')

  const writeSession = (record: SessionRecord): void => {
    const { session: one, tokens, rotatedAt, sealed, ended } = record
    session.run(
      one.sid,
      one.userId,
      one.username,
      one.role,
      one.dialect,
      one.credential,
      one.language,
      one.persistent ? 1 : 0,
      one.createdAt,
      one.expiresAt,
      one.accessUntil,
      one.seenAt,
      one.address,
      one.agent,
      ended?.at ?? null,
      ended?.cause ?? null,
    )
    const last = tokens.length - 1
    for (const [seq, hash] of tokens.entries()) {
      // Of the older ones it counts only that there is an instant: they are dead.
      const traded = seq < last ? (rotatedAt ?? one.seenAt) : null
      token.run(hash, one.sid, seq, traded, seq === last - 1 ? (sealed ?? null) : null)
    }
  }

  return (slice) => {
    switch (slice.kind) {
      case 'users':
        for (const { id, name } of slice.records) user.run(id, name)
        break
      case 'sessions':
        for (const record of slice.records) writeSession(record)
        break
      case 'tickets':
        for (const { id, requestId, usedAt, until } of slice.records) {
          ticket.run(id, requestId, usedAt, until)
        }
        break
      case 'subscriptions':
        for (const one of slice.records) subscription.run(...subscriptionValues(one))
        break
    }
  }
}

const writeHead = (db: DatabaseSync, { epoch, lastUser }: Head): void => {
  if (epoch > 0) db.prepare('INSERT INTO epoch VALUES (1, ?)').run(epoch)
  // The highest number may be of nobody who is still known.
  db.exec(`DELETE FROM sqlite_sequence WHERE name = 'users'`)
  db.prepare(`INSERT INTO sqlite_sequence (name, seq) VALUES ('users', ?)`).run(lastUser)
}

const serveDraft = (db: DatabaseSync, lock: DatabaseSync, draft: string, file: string): Writer => {
  const write = createWrite(db)
  const run = (work: () => void): void => {
    try {
      work()
    } catch (error) {
      throw toStoreError(error, draft)
    }
  }
  let open = true
  const closeDraft = (): void => {
    if (open) db.close()
    open = false
  }
  return {
    label: file,
    warnings: [],
    write: async (slice) => {
      run(() => {
        db.exec('BEGIN')
        write(slice)
        db.exec('COMMIT')
      })
    },
    slices: () => readAll(db, draft),
    finish: async (head) => {
      run(() => {
        writeHead(db, head)
        closeDraft()
        inspectDatabase(draft)
        putInPlace(draft, file)
      })
    },
    abandon: async () => {
      closeDraft()
      removeDraft(draft)
    },
    close() {
      closeDraft()
      lock.close()
    },
  }
}

/** The draft of an earlier copy that was cut off goes first. */
export const openSqliteTarget = (file: string): Writer | Refusal => {
  let lock: DatabaseSync | undefined
  try {
    const idle = lockIdle(file)
    if ('refused' in idle) return idle
    lock = idle
    const full = existsSync(file) ? holdsAnything(file) : existsSync(`${file}-wal`)
    if (full) {
      lock.close()
      return {
        refused: `${file} holds a store already: move it away (with its -wal), and copy again`,
      }
    }
    const draft = `${file}.copy`
    removeDraft(draft)
    const db = new DatabaseSync(draft)
    giveToOwner(draft)
    // Nobody takes a draft for a store, so a crash may cost all of it.
    db.exec('PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE')
    migrate(db, 0)
    return serveDraft(db, lock, draft, file)
  } catch (error) {
    lock?.close()
    throw toStoreError(error, file)
  }
}
