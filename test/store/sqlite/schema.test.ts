// How an older file becomes a newer one: with steps of this test's own, since the first version has no past.
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t, { type Test } from 'tap'

import {
  APPLICATION_ID,
  findForeignShape,
  migrate,
  MIGRATIONS,
  SCHEMA_VERSION,
} from '../../../src/store/sqlite/schema.ts'

const STEPS = [
  'CREATE TABLE a (x)',
  'ALTER TABLE a ADD COLUMN y; UPDATE a SET y = x + 1',
  'CREATE TABLE b (z); INSERT INTO b SELECT y FROM a',
]

const open = (t: Test, file: string): DatabaseSync => {
  const db = new DatabaseSync(file)
  t.teardown(() => {
    if (db.isOpen) db.close()
  })
  return db
}

const versionOf = (db: DatabaseSync) => db.prepare('PRAGMA user_version').get()?.['user_version']

void t.test('the version is the number of steps', async (t) => {
  t.equal(SCHEMA_VERSION, MIGRATIONS.length)
  const db = open(t, ':memory:')
  migrate(db, 0)
  t.equal(versionOf(db), SCHEMA_VERSION)
  t.match(db.prepare('PRAGMA application_id').get(), { application_id: APPLICATION_ID })
})

void t.test('only the steps that a file lacks are taken, in their order', async (t) => {
  const db = open(t, ':memory:')
  migrate(db, 0, STEPS.slice(0, 1))
  db.exec('INSERT INTO a VALUES (41)')
  migrate(db, 1, STEPS)
  t.match(db.prepare('SELECT z FROM b').get(), { z: 42 })
  t.equal(versionOf(db), 3)
})

void t.test('where one step fails none was taken', async (t) => {
  const file = join(t.testdir(), 'store.db')
  const db = open(t, file)
  migrate(db, 0, STEPS.slice(0, 1))
  t.throws(() => migrate(db, 1, [...STEPS, 'INSERT INTO nowhere VALUES (1)']), /nowhere/)
  db.close()
  const after = open(t, file)
  t.equal(versionOf(after), 1)
  t.same(after.prepare('SELECT name FROM sqlite_schema').all(), [{ name: 'a' }])
})

void t.test('a shape that is not ours is named; what was added is left alone', async (t) => {
  const db = open(t, ':memory:')
  migrate(db, 0)
  db.exec('CREATE INDEX by_an_operator ON sessions (address); ANALYZE')
  t.equal(findForeignShape(db, SCHEMA_VERSION), undefined)
  t.equal(findForeignShape(db, SCHEMA_VERSION - 1), undefined, 'an older one lacks less')
  db.exec('DROP INDEX sessions_ended; CREATE INDEX sessions_ended ON sessions (access_until)')
  t.equal(findForeignShape(db, SCHEMA_VERSION), 'sessions_ended')
  db.exec('DROP TABLE epoch')
  t.equal(findForeignShape(db, SCHEMA_VERSION), 'epoch')
})

void t.test('what is listed or looked up is found by an index that holds it all', async (t) => {
  const db = open(t, ':memory:')
  migrate(db, 0)
  const plan = (sql: string) =>
    db
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(({ detail }) => String(detail))
      .join('\n')
  const live = 'FROM sessions WHERE ended_at IS NULL AND expires_at > 1'
  t.match(plan(`SELECT DISTINCT username, credential ${live}`), /COVERING INDEX sessions_live/)
  t.match(plan(`SELECT count(*) ${live}`), /COVERING INDEX sessions_expiry/)
  t.match(
    plan('SELECT sid FROM sessions WHERE ended_at IS NOT NULL AND access_until <= 1'),
    /COVERING INDEX sessions_ended/,
  )
  t.match(plan(`SELECT * ${live} AND username = 'a'`), /SEARCH sessions USING INDEX sessions_live/)
})
