// The bench runs, whatever its numbers: every scenario for a fraction of a second, and the document that is made from
// what it found. Nothing here may depend on how fast the machine is.
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

import { reckon } from '../bench/capacity.ts'
import { readDocument, readMeasured, renderDocument } from '../bench/document.ts'
import { interleave, median, spread } from '../bench/statistics.ts'
import { bytes, duration, renderTable, round } from '../bench/table.ts'
import { compiled } from './fixtures/compiled.ts'
import { nginxMissing } from './fixtures/nginx.ts'
import { NEEDS_REDIS } from './fixtures/redis.ts'

const ROOT = join(import.meta.dirname, '..')
// Every scenario, with rows that its tables must have; the longest first.
const SCENARIOS = {
  redis: ['login (throttle, number, session)', '100', 'a session in SQLite, file'],
  check: ['static file, no check', '**Postern**, as shipped', 'bare `node:http`'],
  checks: ['a remembered token', 'something that is no token'],
  login: ['one thread, one core', 'two threads, two cores'],
  refresh: [
    'SQLite, fsync for each commit, token kept',
    'Redis, appendfsync always, token rotated',
  ],
  subscriptions: ['memory of nginx, each', '200 of one user ended', '3,000'],
  instances: [
    'one, sessions in Redis, 3 connections',
    'three, sessions in Redis',
    '3 logouts, 2 other daemons',
  ],
} as const

/** `left`: what it did not put away. */
const bench = async (...argv: string[]) => {
  // The runner's own options for Node would be measured along.
  const { NODE_OPTIONS: _, ...env } = process.env
  const folder = mkdtempSync(join(tmpdir(), 'pb-'))
  const main = join(ROOT, 'bench', 'main.ts')
  const { promise, resolve } = Promise.withResolvers<{
    status: number
    stdout: string
    stderr: string
  }>()
  execFile(
    process.execPath,
    [main, ...argv],
    { env: { ...env, ...compiled(), TMPDIR: folder }, timeout: 900_000 },
    (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? 1), stdout, stderr })
    },
  )
  const ran = await promise
  const left = readdirSync(folder)
  rmSync(folder, { recursive: true, force: true })
  return { ...ran, left }
}

t.setTimeout(1_800_000)
t.jobs = 2 // a scenario waits for its parts to start half of its time

for (const [name, rows] of Object.entries(SCENARIOS)) {
  const skip = nginxMissing() || NEEDS_REDIS.skip
  void t.test(`${name} leaves a table`, { skip }, async (t) => {
    const { status, stdout, stderr, left } = await bench('--quick', name)
    t.equal(status, 0, stderr)
    t.notMatch(stdout, /Left out: (?!other products)/)
    const tables = stdout.split('\n').filter((line) => line.startsWith('| '))
    for (const row of rows) {
      const line = tables.find((one) => one.startsWith(`| ${row} |`))
      t.match(line, /\d/, row)
    }
    t.notMatch(tables.join('\n'), /NaN|undefined|\| \? \|/)
    t.same(left, [], 'nothing is left')
  })
}

void t.test('the document holds what was measured, and nothing else', (t) => {
  const measured = readMeasured()
  t.same(Object.keys(measured.scenarios).toSorted(), Object.keys(SCENARIOS).toSorted())
  t.equal(readDocument(), renderDocument(readDocument(), measured), 'script/bench --write makes it')
  t.throws(() => renderDocument(readDocument(), { machine: '', scenarios: {} }), /script\/bench/)
  const values = Object.entries(measured.scenarios).map(([name, one]) => [name, one.values])
  const text = reckon(Object.fromEntries(values)).map(renderTable).join('\n')
  t.notMatch(text, /NaN|undefined|\?/, 'the arithmetic has all of its numbers')
  t.end()
})

void t.test('numbers', async (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.equal(spread([90, 100, 110]), 0.1)
  t.same([0, 0.01234, 1.234, 12_345, 999.9].map(round), ['0', '0.012', '1.23', '12,300', '1,000'])
  t.equal(bytes(1536), '1.5 KiB')
  t.same([90, 600, 36_000].map(duration), ['90 s', '10 min', '10 h'])
  const order: string[] = []
  const found = await interleave(['a', 'b'], 2, async (one) => order.push(one))
  t.same(order, ['a', 'b', 'b', 'a'], 'another one begins each round')
  t.same(
    [...found],
    [
      ['a', [1, 4]],
      ['b', [2, 3]],
    ],
  )
})

void t.test('wrong usage is told before anything starts', async (t) => {
  for (const argv of [['nothing'], ['--secnds', '1'], ['--seconds', '0'], ['--quick', '--write']]) {
    t.match(await bench(...argv), { status: 64, stderr: /usage: script\/bench/ }, argv.join(' '))
  }
  t.match(await bench('--help'), { status: 0, stdout: /^usage: script\/bench/ })
})
