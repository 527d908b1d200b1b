// The engine: which files it opens and which it refuses, and what becomes of a call that fails. A file that
// is refused must stay exactly as it was found: it may be all that is left of somebody's sessions.
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t, { type Test } from 'tap'

import { type Engine, openEngine } from '../../../src/store/sqlite/engine.ts'
import { APPLICATION_ID, SCHEMA_VERSION } from '../../../src/store/sqlite/schema.ts'
import { MOST_TICKETS, type Store, StoreError, type StoreVerb } from '../../../src/store/store.ts'
import { NOW } from '../../fixtures/clock.ts'
import { isRoot } from '../../fixtures/needs.ts'
import { hashOf, renewalAt, sessionOf, successor } from '../sessions.ts'

const PAGE = 4096
const SESSIONS = 200

const open = (t: Test, file: string): Engine => {
  const engine = openEngine(file)
  t.teardown(() => {
    try {
      engine.close()
    } catch {
      // a test closed it
    }
  })
  return engine
}

const ask = <Name extends StoreVerb>(
  engine: Engine,
  verb: Name,
  ...args: Parameters<Store[Name]>
): Awaited<ReturnType<Store[Name]>> => {
  const [outcome] = engine.apply([{ verb, args }])
  if (!outcome) throw new Error('no outcome')
  if ('error' in outcome) throw new StoreError(outcome.error.code, outcome.error.message)
  return outcome.value as Awaited<ReturnType<Store[Name]>>
}

/** A store with `SESSIONS` sessions, every tenth ended, closed properly. */
const makeStore = (t: Test): string => {
  const file = join(t.testdir(), 'store.db')
  const engine = openEngine(file)
  for (let index = 0; index < SESSIONS; index++) {
    const sid = `sid-${index}`
    ask(engine, 'openSession', sessionOf(sid, { username: `user ${index}` }), hashOf(`${sid}/0`), 0)
    if (index % 10 === 0) ask(engine, 'endSession', sid, 'logout', NOW)
  }
  engine.close()
  return file
}

const edit = (file: string, sql: string): void => {
  const db = new DatabaseSync(file)
  db.exec(sql)
  db.close()
}

const countEverything = (engine: Engine): number =>
  ask(engine, 'countSessions', NOW) + ask(engine, 'listEnded').length

/** What the worst of the ways to look at the live ones finds, and the ended ones. */
const countWorst = (engine: Engine): number => {
  const live = ask(engine, 'listCredentials', NOW).length
  return Math.min(
    countEverything(engine),
    ask(engine, 'listEnded').length + live, // each has a user of its own
  )
}

/** The offset of the first page of a table or an index. */
const rootOf = (file: string, name: string): number => {
  const db = new DatabaseSync(file, { readOnly: true })
  const row = db.prepare('SELECT rootpage FROM sqlite_schema WHERE name = ?').get(name)
  db.close()
  return (Number(row?.['rootpage']) - 1) * PAGE
}

/** Puts /dev/null under the descriptor of an open file: it takes every write, and fsync fails (EINVAL). */
const giveAway = (file: string): void => {
  const wanted = readdirSync('/proc/self/fd').find((name) => {
    const link = `/proc/self/fd/${name}`
    return existsSync(link) && readlinkSync(link) === file
  })
  if (wanted === undefined) throw new Error(`${file} is not open`)
  closeSync(Number(wanted))
  const others: number[] = []
  let got = openSync('/dev/null', 'r+')
  while (got !== Number(wanted)) {
    others.push(got)
    got = openSync('/dev/null', 'r+')
  }
  for (const other of others) closeSync(other)
}

/** Opening the file is refused, with its name and these words, and changes nothing. */
const refuses = (
  t: Test,
  file: string,
  expected: { code: string; message: RegExp },
  why: string,
) => {
  const before = readFileSync(file)
  t.throws(() => openEngine(file).close(), { name: 'StoreError', ...expected }, why)
  t.ok(readFileSync(file).equals(before), `${why}: unchanged`)
}

const RESTORE = /restore a backup/

void t.test(
  'a store that was lost in part or in whole is refused, never begun afresh',
  async (t) => {
    const whole = readFileSync(makeStore(t))
    const file = join(t.testdirName, 'store.db')
    const pages = whole.length / PAGE
    const lastPageZeroed = Buffer.from(whole).fill(0, (pages - 1) * PAGE)
    const cases: [string, Buffer | string, RegExp][] = [
      ['0 bytes', '', /is empty.*un-revoke/],
      ['a text file', 'user:password\n'.repeat(1000), RESTORE],
      ['a short text file', 'x', RESTORE],
      ['all zeroes', Buffer.alloc(whole.length), RESTORE],
      ['the header alone', whole.subarray(0, 100), RESTORE],
      ['one page', whole.subarray(0, PAGE), RESTORE],
      ['one page less', whole.subarray(0, whole.length - PAGE), RESTORE],
      ['one byte less', whole.subarray(0, whole.length - 1), RESTORE],
      ['the last page zeroed', lastPageZeroed, RESTORE],
    ]
    for (let round = 0; round < 40; round++) {
      const length = 1 + Math.floor(Math.random() * (whole.length - 1))
      cases.push([`cut at ${length}`, whole.subarray(0, length), RESTORE])
    }
    for (const [why, content, message] of cases) {
      for (const suffix of ['-wal', '-shm']) rmSync(file + suffix, { force: true })
      writeFileSync(file, content)
      refuses(t, file, { code: 'damaged', message }, why)
    }
  },
)

void t.test('a flipped byte is refused, or costs no more than the row that it is in', async (t) => {
  // SQLite has no checksums: a flip inside a value is a value. What must not happen is a store that starts
  // with less than it had and says nothing.
  const whole = readFileSync(makeStore(t))
  const file = join(t.testdirName, 'store.db')
  const roots = ['sessions_live', 'sessions_expiry', 'sessions_ended'].map((name) =>
    rootOf(file, name),
  )
  const codes = new Set<string>()
  for (let round = 0; round < 300; round++) {
    const anywhere = Math.floor(Math.random() * whole.length)
    // Within an index, above all: a key that sorts elsewhere hides all that is beyond it.
    const root = roots[round % 6]
    const offset = round < 100 ? round : root === undefined ? anywhere : root + (anywhere % PAGE)
    const mask = 1 + Math.floor(Math.random() * 255)
    const why = `byte ${offset} xor ${mask}`
    for (const suffix of ['-wal', '-shm']) rmSync(file + suffix, { force: true })
    const flipped = Buffer.from(whole)
    flipped.writeUInt8(flipped.readUInt8(offset) ^ mask, offset)
    writeFileSync(file, flipped)
    let opened = false
    try {
      const engine = openEngine(file)
      opened = true
      try {
        const known = countWorst(engine)
        if (known < SESSIONS - 1) t.fail(`${why}: ${known} of ${SESSIONS} sessions are left`)
      } finally {
        engine.close()
      }
    } catch (error) {
      const { code, message } = error as StoreError
      codes.add(code)
      if (!opened && !readFileSync(file).equals(flipped)) t.fail(`${why}: changed`)
      if (!/restore a backup|install the newer/.test(message)) t.fail(`${why}: ${message}`)
    }
  }
  t.ok(codes.has('damaged'), [...codes].join(' '))
})

/** Ends `sid` as a file does whose index lost it: the row says so, the index does not. */
const loseEnd = (file: string, sid: string): void => {
  const db = new DatabaseSync(file)
  db.enableDefensive(false)
  db.exec('PRAGMA writable_schema = ON')
  const index = db.prepare("SELECT * FROM sqlite_schema WHERE name = 'sessions_ended'").get()
  db.exec("DELETE FROM sqlite_schema WHERE name = 'sessions_ended'")
  db.close()
  edit(file, `UPDATE sessions SET ended_at = ${NOW}, cause = 'logout' WHERE sid = '${sid}'`)
  const again = new DatabaseSync(file)
  again.enableDefensive(false)
  again.exec('PRAGMA writable_schema = ON')
  again
    .prepare('INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)')
    .run(...['type', 'name', 'tbl_name', 'rootpage', 'sql'].map((key) => index?.[key] ?? null))
  again.close()
}

void t.test('an index that lost an end of a session lets nobody in again', async (t) => {
  const file = makeStore(t)
  loseEnd(file, 'sid-7')
  refuses(t, file, { code: 'damaged', message: RESTORE }, 'a store of usual size')

  // Too large to be checked whole at each start: the ends are read from the rows.
  const large = makeStore(t)
  edit(large, "UPDATE sessions SET agent = hex(zeroblob(20000000)) WHERE sid = 'sid-8'")
  loseEnd(large, 'sid-7')
  const ended = ask(open(t, large), 'listEnded')
  t.equal(ended.length, SESSIONS / 10 + 1)
  t.ok(ended.some(({ sid }) => sid === 'sid-7'))
})

void t.test('an index whose condition was changed is refused', async (t) => {
  const file = makeStore(t)
  // Too large to be checked whole, which would find it as well.
  edit(file, "UPDATE sessions SET agent = hex(zeroblob(20000000)) WHERE sid = 'sid-8'")
  const text = readFileSync(file)
  const at = text.indexOf('WHERE ended_at IS NOT NULL')
  text.write('WHERE ended_at IS NOT 0000', at)
  writeFileSync(file, text)
  const message = /sessions_ended is not as it was made.*restore a backup/
  refuses(t, file, { code: 'damaged', message }, 'sessions_ended')
})

void t.test('what somebody added is left alone, unless our statements fail of it', async (t) => {
  const file = makeStore(t)
  edit(file, 'CREATE TABLE audit (sid); CREATE INDEX by_address ON sessions (address)')
  const add = 'CREATE TRIGGER note AFTER UPDATE ON sessions BEGIN INSERT INTO audit VALUES (1); END'
  edit(file, add)
  openEngine(file).close()
  edit(file, 'DROP TABLE audit')
  refuses(t, file, { code: 'damaged', message: /audit.*restore a backup/ }, 'the table is gone')
  const open = readdirSync('/proc/self/fd').filter((name) => {
    const link = `/proc/self/fd/${name}`
    return existsSync(link) && readlinkSync(link).startsWith(file)
  })
  t.same(open, [], 'nothing is left open')
})

void t.test("what is not ours is refused, also if it is SQLite's", async (t) => {
  const file = join(t.testdir(), 'store.db')
  edit(file, 'CREATE TABLE notes (text); PRAGMA application_id = 252006674')
  const message = /not a store of Postern's: move it away/
  refuses(t, file, { code: 'damaged', message }, 'another application')
})

void t.test('a store whose tables are not ours is refused', async (t) => {
  const file = makeStore(t)
  edit(file, 'DROP TABLE users')
  refuses(t, file, { code: 'damaged', message: RESTORE }, 'a table is gone')
  const engine = makeStore(t)
  edit(engine, 'ALTER TABLE sessions DROP COLUMN agent')
  refuses(t, engine, { code: 'damaged', message: RESTORE }, 'a column is gone')
})

void t.test('a newer store is refused with both versions named', async (t) => {
  const file = makeStore(t)
  edit(file, `PRAGMA user_version = ${SCHEMA_VERSION + 1}`)
  const message = new RegExp(
    `has schema ${SCHEMA_VERSION + 1}, this Postern knows ${SCHEMA_VERSION}: install the newer`,
  )
  refuses(t, file, { code: 'newer', message }, 'newer')
})

void t.test('also where a kill left a log beside it, neither of the two is touched', async (t) => {
  const file = makeStore(t)
  const other = join(dirname(file), 'copy.db')
  const db = new DatabaseSync(file)
  db.exec(`PRAGMA user_version = ${SCHEMA_VERSION + 1}`)
  // Copied while it is open: what a kill would have left.
  writeFileSync(`${other}-wal`, readFileSync(`${file}-wal`))
  writeFileSync(other, readFileSync(file))
  db.close()
  const log = readFileSync(`${other}-wal`)
  t.not(log.length, 0)
  refuses(t, other, { code: 'newer', message: /install the newer/ }, 'newer, in the log')
  t.ok(readFileSync(`${other}-wal`).equals(log))
})

void t.test('an older store is brought up to date', async (t) => {
  const file = join(t.testdir(), 'store.db')
  edit(file, `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = 0; VACUUM`)
  const engine = open(t, file)
  ask(engine, 'openSession', sessionOf('a'), hashOf('a/0'), 0)
  engine.close()
  const db = new DatabaseSync(file, { readOnly: true })
  t.match(db.prepare('PRAGMA user_version').get(), { user_version: SCHEMA_VERSION })
  db.close()
  t.equal(countEverything(open(t, file)), 1)
})

void t.test('one that cannot be brought up to date is refused', async (t) => {
  const file = join(t.testdir(), 'store.db')
  edit(file, `PRAGMA application_id = ${APPLICATION_ID}; CREATE TABLE users (id)`)
  t.throws(() => openEngine(file), { code: 'damaged', message: /already exists.*restore/ })
  t.throws(() => openEngine(file), { code: 'damaged' }, 'and nothing holds its lock')
})

void t.test('a store that is gone while its log is there is not replaced', async (t) => {
  const file = join(t.testdir(), 'store.db')
  writeFileSync(`${file}-wal`, 'what was acknowledged last')
  t.throws(() => openEngine(file), { code: 'missing', message: /restore a backup/ })
  t.notOk(existsSync(file))
  writeFileSync(`${file}-wal`, '')
  t.equal(countEverything(open(t, file)), 0, 'an empty log holds nothing')
})

void t.test(
  'a first start that was killed half way leaves nothing that the next must refuse',
  async (t) => {
    const file = join(t.testdir(), 'store.db')
    for (const suffix of ['', '-journal', '-wal', '-shm'])
      writeFileSync(`${file}.new${suffix}`, 'half')
    t.equal(countEverything(open(t, file)), 0)
    t.same(
      readdirSync(dirname(file)).filter((name) => name.includes('.new')),
      [],
    )
  },
)

void t.test('a lock that cannot be taken for another reason says that reason', async (t) => {
  const file = join(t.testdir(), 'store.db')
  mkdirSync(`${file}.lock`)
  t.throws(() => openEngine(file), { code: 'unavailable', message: /writable for the user/ })
  rmSync(`${file}.lock`, { recursive: true })
  writeFileSync(`${file}.lock`, 'no database at all, and longer than a header would be '.repeat(40))
  t.throws(() => openEngine(file), { code: 'damaged', message: file })
  t.notOk(existsSync(file))
})

void t.test('a lock that cannot be written is a refusal: it would keep nobody out', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-')) // where also nobody comes in
  t.teardown(() => rmSync(folder, { recursive: true }))
  chmodSync(folder, 0o777)
  const file = join(folder, 'store.db')
  openEngine(file).close()
  chmodSync(file, 0o666)
  chmodSync(`${file}.lock`, 0o444)
  const cure = /store\.db\.lock cannot be written, so it would keep no second Postern out: chown/
  if (isRoot) process.seteuid?.(65_534) // root may write everything
  try {
    t.throws(() => openEngine(file), { code: 'unavailable', message: cure })
  } finally {
    if (isRoot) process.seteuid?.(0)
  }
  t.end()
})

void t.test('a second engine on the same file is refused, in this process too', async (t) => {
  const file = join(t.testdir(), 'store.db')
  const first = open(t, file)
  t.throws(() => openEngine(file), { code: 'locked', message: /state directory of its own/ })
  ask(first, 'ping')
  first.close()
  ask(open(t, file), 'ping')
})

void t.test(
  'calls that share a transaction: a bad one fails alone, the others are done once',
  async (t) => {
    const engine = open(t, join(t.testdir(), 'store.db'))
    const login = (sid: string) =>
      ({ verb: 'openSession', args: [sessionOf(sid), hashOf(`${sid}/0`), 0] }) as const
    t.same(engine.apply([]), [])
    t.match(engine.apply([login('a'), login('b'), login('a'), login('c')]), [
      { value: [] },
      { value: [] },
      { error: { code: 'unavailable', message: /UNIQUE/ } },
      { value: [] },
    ])
    t.equal(countEverything(engine), 3)
    t.match(engine.apply([login('a')]), [{ error: { code: 'unavailable' } }])
    t.match(
      engine.apply([{ verb: 'identify', args: [undefined] }]),
      [{ error: { code: 'unavailable', message: String } }],
      'a value that no column takes is a fault as well',
    )
  },
)

void t.test(
  'after a failed fsync every call is refused, also when fsync works again',
  async (t) => {
    const file = join(t.testdir(), 'store.db')
    const engine = open(t, file)
    ask(engine, 'ping')
    giveAway(`${file}-wal`)
    const ping = { verb: 'ping', args: [] } as const
    const refused = { error: { code: 'unavailable', message: /then restart Postern/ } }
    t.match(engine.apply([ping, ping]), [refused, refused])
    t.match(engine.apply([ping]), [refused])
    t.match(engine.apply([{ verb: 'countSessions', args: [NOW] }]), [refused])
  },
)

void t.test(
  'while another program writes, calls fail and name it; then they are done',
  async (t) => {
    const file = join(t.testdir(), 'store.db')
    const engine = open(t, file)
    const other = new DatabaseSync(file)
    other.exec('BEGIN IMMEDIATE')
    t.match(engine.apply([{ verb: 'ping', args: [] }]), [
      { error: { code: 'unavailable', message: /close the program that writes to it/ } },
    ])
    other.close()
    ask(engine, 'ping')
  },
)

void t.test('a file that was taken away is missed', async (t) => {
  const file = join(t.testdir(), 'store.db')
  const engine = open(t, file)
  renameSync(file, `${file}.elsewhere`)
  t.match(engine.apply([{ verb: 'ping', args: [] }]), [
    { error: { code: 'missing', message: /put it back/ } },
  ])
  renameSync(`${file}.elsewhere`, file)
  ask(engine, 'ping')
})

void t.test('damage that is met later on is named as such', async (t) => {
  const file = makeStore(t)
  const engine = open(t, file)
  truncateSync(file, PAGE)
  t.match(engine.apply([{ verb: 'listSessions', args: [NOW] }]), [{ error: { code: 'damaged' } }])
})

void t.test('what one session can make grow is bounded, and goes when it is idle', async (t) => {
  const file = join(t.testdir(), 'store.db')
  const engine = open(t, file)
  ask(engine, 'openSession', sessionOf('a'), hashOf('0'), 0)
  for (let n = 0; n < 9; n++) {
    const next = successor(`${n + 1}`, 'family')
    t.match(ask(engine, 'rotate', hashOf(`${n}`), next, renewalAt(0), 30), { outcome: 'rotated' })
  }
  for (let n = 1; n <= MOST_TICKETS + 9; n++) {
    t.equal(ask(engine, 'useTicket', `t${n}`, 'r', NOW, NOW + n, 'a'), 'first')
  }
  t.equal(ask(engine, 'useTicket', 't1', 'r', NOW, NOW + 1, 'a'), 'used')
  t.equal(ask(engine, 'useTicket', `t${MOST_TICKETS}`, 'r', NOW, NOW + MOST_TICKETS, 'a'), 'repeat')
  using db = new DatabaseSync(file, { readOnly: true })
  const count = (table: string) => db.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n']
  t.equal(count('refresh_tokens'), 3, 'the last, its predecessor and their family')
  t.equal(count('used_tickets'), MOST_TICKETS + 1)
  for (const request of ['x', '']) {
    t.equal(ask(engine, 'useTicket', 't99', request, NOW, NOW + 99, 'a'), 'used')
  }
  ask(engine, 'prune', NOW, 0)
  ask(engine, 'prune', NOW + 5000, NOW + 5000, 5001)
  t.equal(count('sessions'), 1)
  for (let n = 0; n < 2; n++) ask(engine, 'prune', NOW + 5000, NOW + 5000, 5000)
  t.same([count('sessions'), count('refresh_tokens'), count('used_tickets')], [0, 0, 0])
})
