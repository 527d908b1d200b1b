// The tables, and how an older file becomes a newer one. A file is only ever moved forwards: one written
// by a newer version is refused, since what we do not understand we might un-revoke.

import { DatabaseSync } from 'node:sqlite'

export const APPLICATION_ID = 0x506f7374 // "Post": tells our file from any other SQLite file

/** `MIGRATIONS[n]` takes a file from version n to n + 1. */
export const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- AUTOINCREMENT: a number is never given twice
    name TEXT NOT NULL UNIQUE
  ) STRICT;
  CREATE TABLE sessions (
    sid TEXT PRIMARY KEY,
    user_id INTEGER NOT NULL,
    username TEXT NOT NULL,
    role TEXT NOT NULL,
    dialect TEXT NOT NULL,
    credential TEXT NOT NULL,
    language TEXT NOT NULL,
    persistent INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    access_until INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL,
    ended_at INTEGER,
    cause TEXT
  ) STRICT, WITHOUT ROWID;
  -- Each holds every column that its list or count asks for (ended_at too, or SQLite reads the row to see
  -- it): of 1,000,000 sessions the credential marks take 0.5 s instead of 3.7 s.
  CREATE INDEX sessions_live ON sessions (username, credential, expires_at, ended_at)
    WHERE ended_at IS NULL;
  CREATE INDEX sessions_expiry ON sessions (expires_at, access_until, ended_at)
    WHERE ended_at IS NULL;
  CREATE INDEX sessions_ended ON sessions (access_until, username, cause, ended_at)
    WHERE ended_at IS NOT NULL;
  CREATE TABLE refresh_tokens (
    hash BLOB PRIMARY KEY,
    sid TEXT NOT NULL,
    seq INTEGER NOT NULL, -- the order of rotations: a counter, since two can fall into one second
    rotated_at INTEGER,
    sealed BLOB -- the successor, for whoever still holds this token; gone when grace is over
  ) STRICT, WITHOUT ROWID;
  CREATE UNIQUE INDEX refresh_tokens_order ON refresh_tokens (sid, seq);
  CREATE INDEX refresh_tokens_sealed ON refresh_tokens (rotated_at) WHERE sealed IS NOT NULL;
  `,
  `
  CREATE TABLE used_tickets (
    id TEXT PRIMARY KEY,
    request_id TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    until INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX used_tickets_until ON used_tickets (until);
  CREATE TABLE epoch (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    since INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE subscriptions (
    kick TEXT PRIMARY KEY,
    sid TEXT NOT NULL,
    username TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    role TEXT NOT NULL,
    resource TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    until INTEGER NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
]

export const SCHEMA_VERSION = MIGRATIONS.length

/**
 * Tables that an older version may ignore, so they raise no version and it opens the file as before. `hour`: of
 * counted time, and the earliest instant that the wall clock stood at within it. A session's last refresh token, where
 * neither it nor an access token issued with it was ever shown, sealed under its predecessor.
 */
export const ADDED = `
  CREATE TABLE IF NOT EXISTS counted_time (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    seconds REAL NOT NULL,
    past INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS counted_hours (hour INTEGER PRIMARY KEY, earliest INTEGER NOT NULL) STRICT;
  CREATE TABLE IF NOT EXISTS unseen_successors (
    sid TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    rotated_at INTEGER NOT NULL,
    sealed BLOB NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS unseen_successors_age ON unseen_successors (rotated_at);
  CREATE TABLE IF NOT EXISTS machines (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    keys TEXT NOT NULL
  ) STRICT;
`

const SHAPE = 'SELECT name, sql FROM sqlite_schema ORDER BY name'

/**
 * The first table or index that is not as a file of this version has it, if any: one flipped byte in the condition
 * of an index, and it leaves out whom it should name. An index or a table that somebody added is left alone.
 */
export const findForeignShape = (db: DatabaseSync, version: number): string | undefined => {
  using pattern = new DatabaseSync(':memory:')
  for (const step of MIGRATIONS.slice(0, version)) pattern.exec(step)
  const shapeOf = (of: DatabaseSync) => of.prepare(SHAPE).all()
  const found = new Map(shapeOf(db).map(({ name, sql }) => [name, sql]))
  const wrong = shapeOf(pattern).find(({ name, sql }) => found.get(name) !== sql)
  return wrong && String(wrong['name'])
}

/** Every missing step in one transaction. If one fails, closing the connection leaves the old file. */
export const migrate = (db: DatabaseSync, from: number, migrations = MIGRATIONS): void => {
  db.exec('BEGIN IMMEDIATE')
  for (const step of migrations.slice(from)) db.exec(step)
  db.exec(
    `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${migrations.length}; COMMIT`,
  )
}
