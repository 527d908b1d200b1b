// A database that is somebody else's, as its writer leaves it: every journal mode, open, closed and dead; nothing is
// made beside it, and no write waits.
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { CdrError, lookAtCdrFile, readCdrFile } from '../../src/calls/cdr-file.ts'
import { filesBeside, insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

const root = needs(isRoot, 'root, who may become somebody else')

const countRows = (database: DatabaseSync): unknown =>
  database.prepare('SELECT count(*) AS rows FROM cdr_general').get()?.['rows']

const count = (file: string): unknown => {
  try {
    return readCdrFile(file, countRows)
  } catch (error) {
    if (!(error instanceof CdrError)) throw error
    return `${error.isPassing ? 'passing: ' : ''}${error.message.replaceAll(file, 'FILE')}`
  }
}

const begin = async (t: Test, mode: string, umask?: number) => {
  const file = join(t.testdir(), 'cdr.db')
  const writer = startWriter(t, file, umask)
  await writer.run(`PRAGMA journal_mode=${mode}`, TABLE, insertCall('a.wav'))
  return { file, writer }
}

/** More than a small cache holds: it goes to the file before the commit. */
const LONG = Array.from({ length: 50 }, () => insertCall('x'.repeat(500)))

/** As a user who owns nothing of it. */
const asAnother = <T>(work: () => T): T => {
  const { seteuid, setegid, setgroups, getgroups } = process as Required<typeof process>
  const groups = getgroups()
  setgroups([])
  setegid(65_534)
  seteuid(65_534)
  try {
    return work()
  } finally {
    seteuid(0)
    setegid(0)
    setgroups(groups)
  }
}

void t.test(
  'WAL: what is not in the database yet is read, and its writer finds itself alone',
  async (t) => {
    const { file, writer } = await begin(t, 'WAL')
    t.equal(count(file), 1)
    await writer.run('BEGIN', insertCall('b.wav'))
    t.equal(count(file), 1, 'a transaction that goes on')
    await writer.run('COMMIT')
    t.equal(count(file), 2)
    t.same(filesBeside(file), ['cdr.db', 'cdr.db-shm', 'cdr.db-wal'])
    await writer.run('PRAGMA wal_checkpoint(TRUNCATE)')
    t.equal(count(file), 2)
    await writer.close()
    t.same(filesBeside(file), ['cdr.db'], 'the writer takes its files with it')
    t.equal(count(file), 2)
    t.same(filesBeside(file), ['cdr.db'], 'and nobody made others')
  },
)

void t.test('WAL: a writer that died leaves what is still read', async (t) => {
  const { file, writer } = await begin(t, 'WAL')
  await writer.run('PRAGMA wal_autocheckpoint=0', insertCall('b.wav'))
  await writer.kill()
  const left = filesBeside(file)
  t.same(left, ['cdr.db', 'cdr.db-shm', 'cdr.db-wal'])
  t.equal(count(file), 2)
  rmSync(`${file}-shm`)
  t.match(count(file), /^passing: FILE: has a -wal and no -shm: let its writer not hold it/)
  t.same(filesBeside(file), ['cdr.db', 'cdr.db-wal'])
})

void t.test('WAL: for another user as for root', root, async (t) => {
  const { file, writer } = await begin(t, 'WAL')
  t.equal(
    asAnother(() => count(file)),
    1,
    'which the writer has open',
  )
  const beside = filesBeside(file)
  await writer.close()
  t.equal(
    asAnother(() => count(file)),
    1,
    'which nobody has open',
  )
  t.same([beside.length, filesBeside(file).length], [3, 1])
  await t.test('rights', async (t) => {
    const closed = await begin(t, 'WAL', 0o077)
    const words =
      /^FILE: may not be read: add the user of the daemon to the group that FILE, its -wal/
    chmodSync(closed.file, 0o644)
    t.match(
      asAnother(() => count(closed.file)),
      words,
      '-shm',
    )
    chmodSync(`${closed.file}-shm`, 0o644)
    t.match(
      asAnother(() => count(closed.file)),
      words,
      '-wal',
    )
    chmodSync(`${closed.file}-wal`, 0o644)
    t.equal(
      asAnother(() => count(closed.file)),
      1,
    )
    chmodSync(closed.file, 0o600)
    t.match(
      asAnother(() => count(closed.file)),
      words,
      'the file',
    )
    chmodSync(t.testdirName, 0o700)
    t.match(
      asAnother(() => count(closed.file)),
      words,
      'its folder',
    )
    t.throws(() => asAnother(() => lookAtCdrFile(closed.file)), { message: /may not be read/ })
  })
})

for (const mode of ['DELETE', 'TRUNCATE', 'PERSIST']) {
  void t.test(`${mode}: no lock is taken, and what is half written is not read`, async (t) => {
    const { file, writer } = await begin(t, mode)
    t.equal(count(file), 1)
    await writer.run('BEGIN', insertCall('b.wav'))
    t.equal(count(file), 1, 'nothing of it is in the file')
    await writer.run('COMMIT')
    t.equal(count(file), 2)
    await writer.run('PRAGMA cache_size=1', 'BEGIN', ...LONG)
    t.match(count(file), /^passing: FILE: is being written, or a crash left its -journal: start/)
    await writer.run('ROLLBACK')
    t.equal(count(file), 2)
    // The writer commits while somebody reads: whoever took SQLite's own lock would make it fail.
    let said = ''
    const slow = readCdrFile(file, (database) => {
      const rows = countRows(database)
      const sql = insertCall('c.wav')
      if (said === '')
        said = execFileSync(
          process.execPath,
          [
            '-e',
            `const { DatabaseSync } = require('node:sqlite'); new DatabaseSync(${JSON.stringify(file)}, { timeout: 0 }).exec(${JSON.stringify(sql)}); console.log('done')`,
          ],
          { encoding: 'utf8' },
        )
      return rows
    })
    t.equal(said, 'done\n')
    t.equal(slow, 3, 'what moved meanwhile is read again')
  })
}

void t.test('a crash in a transaction is told', async (t) => {
  const { file, writer } = await begin(t, 'DELETE')
  await writer.run('PRAGMA cache_size=1', 'BEGIN', ...LONG)
  await writer.kill()
  t.match(count(file), /a crash left its -journal/)
})

void t.test('a file that moves all the time', (t) => {
  const file = join(t.testdir(), 'cdr.db')
  execFileSync(process.execPath, [
    '-e',
    `new (require('node:sqlite').DatabaseSync)(${JSON.stringify(file)}).exec(${JSON.stringify(TABLE)})`,
  ])
  let tries = 0
  t.throws(
    () =>
      readCdrFile(file, () => {
        tries++
        appendFileSync(file, 'x')
      }),
    { message: /is written all the time: let the PBX use journal_mode=WAL/, isPassing: true },
  )
  t.equal(tries, 5)
  t.throws(
    () =>
      readCdrFile(file, () => {
        appendFileSync(file, 'x')
        throw new Error('half of it')
      }),
    { message: /is written all the time/ },
    'what half of it says is no problem of its own',
  )
  t.end()
})

void t.test('whatever else stands there is told, with its cure', (t) => {
  const folder = t.testdir({ text: 'x'.repeat(2000), empty: '', none: {} })
  t.match(count(join(folder, 'absent')), /^passing: .*: is not there: correct calls.cdr_file/)
  t.match(count(join(folder, 'text', 'x')), /is not there/)
  t.match(
    count(join(folder, 'text')),
    /^passing: FILE: is no SQLite database: correct calls.cdr_file/,
  )
  t.match(count(join(folder, 'none')), /^FILE: is no file: correct calls.cdr_file/)
  execFileSync('mkfifo', [join(folder, 'fifo')])
  t.match(count(join(folder, 'fifo')), /^FILE: is no file/)
  t.match(count(join(folder, 'empty')), /no such table/)
  symlinkSync('loop', join(folder, 'loop'))
  t.match(count(join(folder, 'loop')), /^FILE: ELOOP/)
  t.throws(() => lookAtCdrFile(join(folder, 'absent')), { message: /is not there/ })
  t.end()
})

void t.test('what SQLite says is told in words', (t) => {
  const file = join(t.testdir(), 'cdr.db')
  execFileSync(process.execPath, [
    '-e',
    `new (require('node:sqlite').DatabaseSync)(${JSON.stringify(file)}).exec(${JSON.stringify(TABLE)})`,
  ])
  const say = (errcode: number) => {
    try {
      readCdrFile(file, () => {
        throw Object.assign(new Error('SAID'), { errcode })
      })
    } catch (error) {
      return (error as Error).message.replaceAll(file, 'FILE')
    }
    return ''
  }
  t.match(say(5), /is locked: let its writer not hold it in exclusive mode/)
  t.match(say(262), /is locked/)
  t.match(say(1288), /cannot be read now \(SAID\)/)
  t.match(say(10), /cannot be read now \(SAID\): mend the disk, if this stays/)
  t.match(say(11), /is damaged \(SAID\): mend it with the PBX/)
  t.match(say(14), /may not be read/)
  t.equal(say(1), 'FILE: SAID')
  t.end()
})

void t.test('another file in its place is another, and a write leaves another mark', (t) => {
  const folder = t.testdir({ one: 'x' })
  const file = join(folder, 'cdr.db')
  copyFileSync(join(folder, 'one'), file)
  const before = lookAtCdrFile(file)
  t.same(lookAtCdrFile(file), before)
  writeFileSync(`${file}-wal`, 'x')
  const written = lookAtCdrFile(file)
  t.not(written.mark, before.mark)
  t.equal(written.whole, before.whole)
  chmodSync(file, 0o600)
  t.not(lookAtCdrFile(file).mark, written.mark, 'whoever may not read it any more looks again')
  mkdirSync(join(folder, 'old'))
  execFileSync('mv', [file, join(folder, 'old')])
  copyFileSync(join(folder, 'one'), file)
  t.not(lookAtCdrFile(file).whole, before.whole)
  t.end()
})
