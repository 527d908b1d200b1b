// A CDR that goes on: rows appended, changed and deleted, tables and files replaced, and what cannot be read.
import { copyFileSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { buildCallIndex, findParties } from '../../src/calls/call-index.ts'
import { CdrError } from '../../src/calls/cdr-file.ts'
import { createCdrReader, inspectCdr, readCdr } from '../../src/calls/cdr-reader.ts'
import { filesBeside, FOLDER, insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'

const begin = async (t: Test, statements: readonly string[] = [TABLE], mode = 'WAL') => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-cdr-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'cdr.db')
  const writer = startWriter(t, file)
  await writer.run(`PRAGMA journal_mode=${mode}`, 'PRAGMA synchronous=OFF', ...statements)
  return { file, writer }
}

const follow = (
  file: string,
  given: { table?: string; columns?: Record<string, string>; prefixes?: readonly string[] } = {},
) => {
  const { table = 'cdr_general', columns = {}, prefixes = [FOLDER] } = given
  const terms = { file, table, columns: new Map(Object.entries(columns)), prefixes }
  const reader = createCdrReader(terms, 'key')
  let older = buildCallIndex('key').finish().index
  let newest = older
  let now = 0
  const said: { problem?: string; doubts: readonly string[]; recordings: number; slices: number } =
    {
      doubts: [],
      recordings: 0,
      slices: 0,
    }
  const take = (news: ReturnType<typeof reader.look>) => {
    if (news.problem !== undefined) said.problem = news.problem.replaceAll(file, 'FILE')
    if (!news.newest) return
    delete said.problem
    older = news.older ?? older
    ;({ newest } = news)
    said.doubts = news.doubts.map((doubt) => doubt.replaceAll(file, 'FILE'))
    said.recordings = news.recordings
  }
  return {
    said,
    /** All that a look leads to. */
    look(seconds = 0.5): void {
      now += seconds
      take(reader.look(now))
      for (said.slices = 0; reader.isSweeping(); said.slices++) take(reader.goOn(now))
    },
    of: (path: string) => findParties([older, newest], 'key', path),
    reader,
  }
}

const rows = (count: number, from = 1) =>
  `WITH RECURSIVE n(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM n WHERE i < ${from + count - 1})
   INSERT INTO cdr_general (id, src_chan, src_num, recordingfile, billsec) SELECT i, 'PJSIP/201-0000000a', '201', '${FOLDER}/' || i || '.mp3', 5 FROM n`

void t.test('rows that come, change and go, seen at the next look', async (t) => {
  for (const mode of ['WAL', 'DELETE']) {
    const { file, writer } = await begin(t, [TABLE], mode)
    const { look, of, said } = follow(file)
    look()
    t.same([of('a.wav'), said], [undefined, { doubts: [], recordings: 0, slices: 1 }])
    await writer.run(insertCall('a.wav', '201', 0))
    look()
    t.same(of('a.wav'), [], 'it only rang, so far')
    await writer.run('UPDATE cdr_general SET billsec = 5')
    look()
    t.same(of('a.wav'), ['201'])
    await writer.run(insertCall('a.wav', '202'))
    look()
    t.same(of('a.wav')?.toSorted(), ['201', '202'])
    await writer.run("DELETE FROM cdr_general WHERE src_num = '202'")
    look()
    t.same(of('a.wav'), ['201'])
    t.same(of('a.webm'), ['201'])
    t.equal(said.recordings, 1)
    await writer.close()
    look()
    t.same(of('a.wav'), ['201'])
    t.same(filesBeside(file), ['cdr.db'])
  }
})

void t.test('what did not change is not read, but once more after a change', async (t) => {
  const { file, writer } = await begin(t)
  const { look, reader } = follow(file)
  look()
  const isRead = () => reader.look(1).newest !== undefined
  t.same([isRead(), isRead(), isRead()], [true, true, false])
  await writer.run(insertCall('a.wav'))
  t.same([isRead(), isRead(), isRead()], [true, true, false])
})

void t.test('of many rows the newest are read at once, the others in slices', async (t) => {
  const { file, writer } = await begin(t, [TABLE, rows(25_000)])
  const { look, of, said } = follow(file)
  look()
  t.same([of('1.mp3'), of('25000.mp3'), said.recordings], [['201'], ['201'], 25_000])
  t.equal(said.slices, 6, '5,000 rows in slices of 1,000, and the newest')
  const change = (id: number) =>
    `UPDATE cdr_general SET src_num = '202', src_chan = 'PJSIP/202-0000000a' WHERE id = ${id}`
  await writer.run(change(1), change(25_000))
  look()
  t.same([of('1.mp3'), of('25000.mp3')], [['202'], ['202']], 'those that changed, wherever')
  t.equal(said.slices, 9, 'one sum and its end, which differs, and all of them')
  look()
  t.equal(said.slices, 3, 'the mark may be of a tick in which more was written: once more')
  look(1000)
  t.equal(said.slices, 0, 'nothing has changed since')
  await writer.run(insertCall('a.wav'))
  look()
  look()
  t.equal(said.slices, 3, 'of what is older only the sum is read')
  look(1000)
  await writer.run(change(2))
  look(0.01)
  look(0.01)
  await writer.run('UPDATE cdr_general SET billsec = NULL WHERE id = 3')
  look(0.05)
  t.same([of('2.mp3'), of('3.mp3'), said.slices], [['202'], ['201'], 0], 'not all the time')
  look(0.05)
  t.same(of('3.mp3'), [], 'who is none any more')
  await writer.run('DELETE FROM cdr_general WHERE id IN (4, 5000, 5001)')
  look()
  t.same([of('4.mp3'), of('4.webm')], [undefined, undefined], 'that are deleted')
  await writer.run(rows(45_000, 30_000))
  look()
  t.same([of('74999.mp3'), of('30000.mp3'), said.recordings], [['201'], ['201'], 69_998])
  await writer.run(rows(45_000, 80_000))
  look()
  t.same(of('124999.mp3'), ['201'])
  t.ok(said.slices > 20, 'these are more than the newest: read as a whole')
  await writer.run('DELETE FROM cdr_general')
  look()
  look()
  t.same([of('124999.mp3'), of('1.mp3'), said.recordings], [undefined, undefined, 0], 'emptied')
})

void t.test('a database that takes its place is read as a whole', async (t) => {
  const { file, writer } = await begin(t, [TABLE, rows(21_000)])
  const { look, of, said, reader } = follow(file)
  look()
  await writer.close()
  const other = await begin(t, [TABLE, insertCall('b.wav')])
  t.equal(of('1.mp3')?.length, 1)
  const rotated = `${file}.1`
  renameSync(file, rotated)
  look()
  t.same([said.problem, of('1.mp3')], [undefined, ['201']], 'for a moment there is none')
  copyFileSync(rotated, file)
  rmSync(rotated)
  reader.look(1000)
  t.equal(reader.isSweeping(), true)
  reader.goOn(1000)
  await other.writer.close()
  renameSync(other.file, file)
  look()
  t.same(
    [of('1.mp3'), of('b.wav'), said.recordings],
    [undefined, ['201'], 1],
    'also during a sweep',
  )
})

void t.test(
  'while one takes its place at the end of a sweep, nothing of it is mixed',
  async (t) => {
    const { file, writer } = await begin(t, [TABLE, insertCall('a.wav')])
    await writer.close()
    copyFileSync(file, `${file}.new`)
    const { look, reader, of } = follow(file)
    reader.look(1)
    renameSync(`${file}.new`, file)
    t.same(reader.goOn(1), {})
    look()
    t.same(of('a.wav'), ['201'])
  },
)

void t.test('what was known stays while nothing can be read, and it is told', async (t) => {
  const { file, writer } = await begin(t, [TABLE, insertCall('a.wav')])
  const { look, of, said } = follow(file)
  look()
  await writer.run('ALTER TABLE cdr_general RENAME COLUMN billsec TO seconds')
  look()
  t.same(
    [said.problem, of('a.wav')],
    [undefined, ['201']],
    'not at once: it may be about to change',
  )
  look(5)
  t.match(
    said.problem,
    'FILE: cdr_general has no column billsec (seconds): correct calls.cdr_columns',
  )
  t.same(of('a.wav'), ['201'])
  await writer.run('ALTER TABLE cdr_general RENAME TO cdr')
  look()
  t.match(said.problem, 'FILE: has no table cdr_general: correct calls.cdr_table')
  await writer.run('CREATE VIEW cdr_general AS SELECT * FROM cdr')
  look()
  t.match(said.problem, 'FILE: cdr_general is a view: name a table as calls.cdr_table')
  t.same(of('a.wav'), ['201'])
  await writer.run(
    'DROP VIEW cdr_general',
    'ALTER TABLE cdr RENAME TO cdr_general',
    'ALTER TABLE cdr_general RENAME COLUMN seconds TO billsec',
    insertCall('b.wav'),
  )
  look()
  t.same([said.problem, of('b.wav')], [undefined, ['201']])
  t.throws(() => follow(null as unknown as string).look(), TypeError, 'a fault is a fault')
})

void t.test('a table without rowids is told, whatever stands in it', async (t) => {
  for (const table of ['id TEXT PRIMARY KEY) WITHOUT ROWID', 'rowid TEXT)']) {
    const columns = 'src_num, dst_num, src_chan, recordingfile, billsec'
    const { file, writer } = await begin(t, [
      `CREATE TABLE CDR_general (${columns}, ${table}`,
      `INSERT INTO cdr_general VALUES ('201', '', 'PJSIP/201-0000000a', 'a.wav', 5, 'x')`,
    ])
    const { look, said, of } = follow(file)
    look()
    look(6)
    t.equal(
      said.problem,
      "FILE: cdr_general has no rowid of SQLite's: name a table that has as calls.cdr_table",
    )
    await writer.run(
      'DROP TABLE cdr_general',
      TABLE.replace('id INTEGER PRIMARY KEY AUTOINCREMENT', 'id TEXT PRIMARY KEY'),
      insertCall('a.wav'),
    )
    look()
    t.same([said.problem, of('a.wav')], [undefined, ['201']], 'a primary key of text is good')
  }
})

void t.test('other columns, and none for the channel', async (t) => {
  const { file, writer } = await begin(t, [
    'CREATE TABLE cdr (AcctId INTEGER PRIMARY KEY, src, dst, channel, dstchannel, billsec, userfield)',
    "INSERT INTO cdr VALUES (1, '201', '79', 'PJSIP/201-0000000a', 'PJSIP/carrier-0000000b', '12', 'a.wav')",
    "INSERT INTO cdr VALUES (2, '201', '79', 'PJSIP/carrier-0000000a', 'PJSIP/x-0000000b', '12', 'b.wav')",
    "INSERT INTO cdr VALUES (3, 201, '79', 'PJSIP/201-0000000a', '', '', 'c.wav')",
  ])
  const asterisk = { file: 'userfield', source: 'SRC', destination: 'dst' }
  const channels = { source_channel: 'channel', destination_channel: 'dstchannel' }
  const whole = follow(file, { table: 'cdr', columns: { ...asterisk, ...channels } })
  whole.look()
  t.same(['a.wav', 'b.wav', 'c.wav'].map(whole.of), [['201'], [], []])
  t.same(whole.said.doubts, [])
  const bare = follow(file, { table: 'cdr', columns: asterisk })
  bare.look()
  t.same(['a.wav', 'b.wav'].map(bare.of), [
    ['201', '79'],
    ['201', '79'],
  ])
  t.match(bare.said.doubts, [
    'FILE: cdr has no column for the channel of the source: set source_channel in calls.cdr_columns. Until then whoever shows a number counts as its user',
    /channel of the destination: set destination_channel/,
  ])
  const wrong = follow(file, { table: 'cdr', columns: { ...asterisk, source_channel: 'chanel' } })
  wrong.look()
  wrong.look(6)
  t.match(wrong.said.problem, /cdr has no column chanel \(source_channel\)/, 'named, and not there')
  await writer.close()
})

void t.test('odd rows stop nothing', async (t) => {
  const { file } = await begin(t, [
    TABLE,
    insertCall('a.wav'),
    ...[
      'NULL',
      "''",
      "' '",
      "'-'",
      "x'00ff'",
      "'http://x/a.wav'",
      "'/etc/passwd'",
      'zeroblob(9000000)',
      "printf('%.9000000c', 'x')",
      "CAST(x'2f80' AS TEXT)",
    ].map(
      (value) =>
        `INSERT INTO cdr_general (recordingfile, billsec, src_num, src_chan) VALUES (${value}, ${value}, ${value}, ${value})`,
    ),
    `UPDATE cdr_general SET billsec = 9223372036854775807 WHERE id = 1`,
    insertCall('b.wav')
      .replace('(src_chan', '(id, src_chan')
      .replace('VALUES (', 'VALUES (9007199254740993, '),
    insertCall('c.wav').replace('(src_chan', '(id, src_chan').replace('VALUES (', 'VALUES (-5, '),
  ])
  const { look, of, said } = follow(file)
  look()
  t.same(['a.wav', 'b.wav', 'c.wav'].map(of), [['201'], ['201'], ['201']])
  t.equal(said.recordings, 3)
})

void t.test('no file below any prefix is told', async (t) => {
  const { file, writer } = await begin(t, [TABLE, insertCall('a.wav')])
  const { look, said } = follow(file, { prefixes: ['/var/spool/asterisk/monitor'] })
  look()
  t.same(said.doubts, [
    'FILE: 1 rows name a file, and none is in the folder of recordings: set calls.cdr_prefixes to where the PBX has it',
  ])
  await writer.run('DELETE FROM cdr_general')
  look()
  t.same(said.doubts, [], 'no call yet')
})

const termsOf = (file: string, prefixes = [FOLDER]) => ({
  file,
  table: 'cdr_general',
  columns: new Map<string, string>(),
  prefixes,
})

void t.test('a sweep that meets a problem goes on where it was, at the next look', async (t) => {
  const { file, writer } = await begin(t, [TABLE, rows(26_000)])
  const reader = createCdrReader(termsOf(file), 'key')
  t.same(reader.goOn(1), {}, 'nothing was begun')
  reader.look(1)
  t.same(reader.goOn(1), {})
  await writer.run('ALTER TABLE cdr_general RENAME TO other')
  t.same([reader.goOn(1), reader.isSweeping()], [{}, false], 'it waits')
  reader.look(4)
  t.same([reader.isSweeping(), reader.goOn(4)], [true, {}])
  reader.look(7)
  t.match(reader.goOn(7), { problem: /has no table cdr_general/ }, 'and says so when it stays')
  await writer.run('ALTER TABLE other RENAME TO cdr_general')
  reader.look(8)
  let slices = 0
  let found: ReturnType<typeof reader.goOn> = {}
  for (; reader.isSweeping(); slices++) found = reader.goOn(8)
  t.match(found, { recordings: 26_000 })
  t.equal(slices, 6, 'of 6,000 rows 1,000 were read, and are not read again')
})

void t.test('for a command: what is wrong, and what the daemon would know', async (t) => {
  const { file, writer } = await begin(t, [TABLE, rows(25_000)])
  t.same(inspectCdr(termsOf(file)), [])
  t.match(inspectCdr(termsOf(file, ['/x'])), [/1000 rows name a file, and none/])
  t.match(inspectCdr(termsOf(`${file}.absent`)), [/is not there/])
  t.throws(() => inspectCdr(termsOf('/x\0')), TypeError)
  const cdr = readCdr(termsOf(file))
  t.same([cdr.name, cdr.partiesOf('1.wav'), cdr.partiesOf('25000.mp3')], ['cdr', ['201'], ['201']])
  t.equal(cdr.partiesOf('25001.mp3'), undefined)
  const others = ['x/25001.wav', 'x//./25001_in.wav', '25001.mp3.bak', '25001.WAV', '125001.mp3']
  await writer.run(...others.map((path, n) => insertCall(path, `30${n}`)))
  const { look, of } = follow(file)
  look()
  const asked = [...others, '25001.mp3', 'x/25001.wav', 'x/25001_in.wav', 'x/25001.webm', '1', '']
  for (const path of asked) t.same(cdr.partiesOf(path), of(path), path)
  await writer.run('DROP TABLE cdr_general')
  t.throws(() => cdr.partiesOf('1.wav'), CdrError)
})
