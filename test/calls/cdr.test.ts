// A CDR that a thread reads: within two seconds a row counts here, and nothing here waits for it.
import { subscribe } from 'node:diagnostics_channel'
import { renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { openCdr } from '../../src/calls/cdr.ts'
import { systemClock } from '../../src/clock.ts'
import { FOLDER, insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

/** Nobody waits for what may be over in a moment. */
const hurried = { ...systemClock, monotonic: () => systemClock.monotonic() * 20 }

const open = (t: Test, file: string, clock = hurried) => {
  const told: string[] = []
  const terms = {
    file,
    table: 'cdr_general',
    columns: new Map<string, string>(),
    prefixes: [FOLDER],
  }
  const cdr = openCdr(
    terms,
    {
      onRead: (recordings) => told.push(`read ${recordings}`),
      onProblem: (problem) => told.push(problem.replaceAll(file, 'FILE')),
      onDoubt: (doubt) => told.push(doubt.replaceAll(file, 'FILE')),
    },
    clock,
  )
  t.teardown(() => cdr.close())
  return { cdr, told }
}

const until = async (holds: () => boolean): Promise<void> => {
  for (let tries = 0; !holds(); tries++) {
    if (tries > 10_000) throw new Error('it never came')
    await pause(10)
  }
}

void t.test('a row counts within two seconds, and what was known stays', async (t) => {
  const file = join(t.testdir(), 'cdr.db')
  const { cdr, told } = open(t, file)
  t.equal(cdr.name, 'cdr')
  t.same(
    [cdr.partiesOf('a.wav'), cdr.state()],
    [undefined, { recordings: undefined, problem: undefined }],
  )
  await until(() => told.length > 0)
  t.match(told, ['FILE: is not there: correct calls.cdr_file, or let the PBX make it'])
  const draft = startWriter(t, `${file}.draft`)
  await draft.run('PRAGMA journal_mode=WAL', TABLE)
  await draft.close()
  renameSync(`${file}.draft`, file)
  const writer = startWriter(t, file)
  await until(() => told.length > 1)
  t.same(told[1], 'read 0')
  await pause(1000) // the file is there, and the call goes on
  t.equal(cdr.partiesOf('a.wav'), undefined)
  await writer.run(insertCall('a.wav'))
  const elapsed = startStopwatch()
  await until(() => cdr.partiesOf('a.wav') !== undefined)
  t.ok(elapsed().ours <= 2000, `known after ${elapsed().took} ms`)
  t.same([cdr.partiesOf('a.wav'), cdr.state()], [['201'], { recordings: 1, problem: undefined }])
  await writer.run('ALTER TABLE cdr_general RENAME COLUMN src_num TO number')
  await until(() => told.length > 2)
  t.match(told[2], /has no column src_num \(source\)/)
  t.match(cdr.state(), { recordings: 1, problem: /src_num/ })
  t.same(cdr.partiesOf('a.webm'), ['201'])
  await writer.run('ALTER TABLE cdr_general RENAME COLUMN number TO src_num')
  await until(() => told.length > 3)
  t.equal(told[3], 'read 1')
})

void t.test('a doubt is told once', async (t) => {
  const file = join(t.testdir(), 'cdr.db')
  const writer = startWriter(t, file)
  await writer.run(
    'CREATE TABLE cdr_general (recordingfile, billsec, src_num, dst_num)',
    `INSERT INTO cdr_general VALUES ('a.wav', 1, '201', '79')`,
  )
  const { cdr, told } = open(t, file)
  await until(() => cdr.partiesOf('a.wav') !== undefined)
  await writer.run(`INSERT INTO cdr_general VALUES ('b.wav', 1, '201', '79')`)
  await until(() => cdr.partiesOf('b.wav') !== undefined)
  t.match(told, ['read 1', /channel of the source/, /channel of the destination/])
  t.equal(told.length, 3)
})

void t.test('a thread that ends is begun again', async (t) => {
  let threads = 0
  subscribe('worker_threads', () => threads++)
  const quick = {
    ...systemClock,
    every: (_: number, job: () => void) => systemClock.every(0.01, job),
  }
  const { told } = open(t, '/x\0', quick)
  await until(() => threads >= 2)
  const ended = told.filter((line) => !line.includes('a look at it')) // by this clock a start hangs
  t.match(ended, [
    /^FILE: the thread that reads it ended \(.*\): it is begun again every ten seconds$/,
  ])
  t.equal(ended.length, 1, 'told once')
})

void t.test('closed, it says nothing more', async (t) => {
  const file = join(t.testdir(), 'cdr.db')
  writeFileSync(file, 'x'.repeat(1000))
  const { cdr, told } = open(t, file)
  await cdr.close()
  await pause(50)
  t.same(told, [])
})

/** By hand: CDR_ROWS=1000000 tap test/calls/cdr.test.ts */
const ROWS = Number(process.env['CDR_ROWS'] ?? 100_000)
const MIB = 2 ** 20

void t.test(
  `${ROWS} recordings: memory, the time to read them, and nothing waits meanwhile`,
  async (t) => {
    const file = join(t.testdir(), 'cdr.db')
    const writer = startWriter(t, file)
    await writer.run(
      'PRAGMA journal_mode=WAL',
      'PRAGMA synchronous=OFF',
      TABLE,
      `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ROWS})
     INSERT INTO cdr_general (start, src_chan, src_num, dst_chan, dst_num, UNIQUEID, linkedid, recordingfile, from_account, to_account, is_app, billsec)
     SELECT '2026-11-28 10:00:00.123', printf('PJSIP/%d-%08x', 200 + i % 800, i), 200 + i % 800, printf('PJSIP/%d-%08x', 200 + i * 7 % 801, i), 200 + i * 7 % 801,
       'mikopbx-17358' || i || '.1_abcdef', 'mikopbx-17358' || i || '.1', '${FOLDER}/2026/11/28/10/mikopbx-17358' || i || '.1_AbCdEfGhIj.mp3', 200 + i % 800, 200 + i * 7 % 801, '0', 55 FROM n`,
    )
    const before = process.memoryUsage().rss
    const elapsed = startStopwatch()
    const { cdr } = open(t, file)
    const own = process.threadCpuUsage()
    await until(() => cdr.state().recordings !== undefined)
    const took = elapsed()
    const { user, system } = process.threadCpuUsage(own)
    const spent = (user + system) / 1000
    const more = (process.memoryUsage().rss - before) / MIB
    const path = (at: number) => `2026/11/28/10/mikopbx-17358${at}.1_AbCdEfGhIj.mp3`
    t.same(cdr.partiesOf(path(ROWS))?.length, 2)
    const looks = 20_000
    const since = performance.now()
    for (let at = 1; at <= looks; at++) cdr.partiesOf(path((at * 7919) % ROWS))
    const each = ((performance.now() - since) * 1000) / looks
    t.comment(
      `${more.toFixed(0)} MiB, read in ${took.took.toFixed(0)} ms, of which this thread spent ${spent.toFixed(0)}; a look-up ${each.toFixed(1)} µs`,
    )
    await writer.run(
      "UPDATE cdr_general SET src_num = '77', src_chan = 'PJSIP/77-0000000a' WHERE id = 1",
    )
    const changed = startStopwatch()
    await until(() => cdr.partiesOf(path(1))?.includes('77') === true)
    const seen = changed()
    t.comment(`a change of the oldest row is seen after ${seen.took.toFixed(0)} ms`)
    t.ok(seen.ours <= 2000 + ROWS / 100, `${seen.ours} ms`)
    t.equal(cdr.state().recordings, ROWS)
    t.ok(more <= 150, `${more} MiB`)
    t.ok(spent <= 100 + ROWS / 1000, `this thread spent ${spent} ms`)
  },
)

void t.test('a look that hangs is told, and when it is over', async (t) => {
  const file = join(t.testdir(), 'cdr.db')
  const writer = startWriter(t, file)
  await writer.run('PRAGMA journal_mode=WAL', TABLE, insertCall('a.wav'))
  let tick = (): void => undefined
  const every = (_: number, job: () => void) => {
    tick = job
    return () => undefined
  }
  const { cdr, told } = open(t, file, { ...hurried, every })
  const hang = (): void => {
    for (let looks = 0; looks < 25; looks++) tick()
  }
  hang() // no answer comes in between
  t.match(told, [/FILE: a look at it has taken ten seconds/])
  t.match(cdr.state(), { recordings: undefined, problem: /mend its disk/ })
  await until(() => told.length > 1)
  t.match([told[1], cdr.state()], ['read 1', { recordings: 1, problem: undefined }])
  for (let looks = 0; looks < 5; looks++) {
    tick()
    await pause(100) // until nothing is new any more
  }
  hang()
  t.match(cdr.state(), { recordings: 1, problem: /mend its disk/ })
  await until(() => cdr.state().problem === undefined)
  t.equal(told.at(-1), 'read 1')
  t.same(cdr.partiesOf('a.wav'), ['201'])
})
