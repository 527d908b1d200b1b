// What is written: one line an event, whatever the text that a stranger sent.

import { spawnSync } from 'node:child_process'
import * as fc from 'fast-check'
import t from 'tap'
import { createLog, formatSecurityLine, plainText } from '../src/log.ts'

const TIME = new Date('2026-11-22T04:05:06.789Z')
const LINE = {
  event: 'AUTH_FAILED',
  message: 'wrong password',
  address: '192.0.2.1',
  user: '201',
}

void t.test('a security line has the form that jails read', async (t) => {
  t.equal(
    formatSecurityLine(LINE, TIME),
    '[AUTH_FAILED] wrong password | From: 192.0.2.1 | User: 201 | Time: 2026-11-22T04:05:06.789Z\n',
  )
  t.match(formatSecurityLine({ ...LINE, address: '2001:db8::1' }, TIME), '| From: 2001:db8::1 |')
})

void t.test('plain text stays, everything else is spelled out', async (t) => {
  const rows: readonly (readonly [text: string, plain: string])[] = [
    ['', ''],
    ['201', '201'],
    ["O'Brien <a@b> {x} ~!", "O'Brien <a@b> {x} ~!"],
    ['a\nb', String.raw`a\u000ab`],
    ['a\r\nb', String.raw`a\u000d\u000ab`],
    ['a\tb\0', String.raw`a\u0009b\u0000`],
    ['\u001b[2J', String.raw`\u001b\u005b2J`],
    ['a\u2028b\u2029', String.raw`a\u2028b\u2029`],
    ['\u007f\u0085', String.raw`\u007f\u0085`],
    ['Jürgen', String.raw`J\u00fcrgen`],
    ['😀', String.raw`\ud83d\ude00`],
    ['\ud800', String.raw`\ud800`],
    ['\u202e', String.raw`\u202e`],
    ['a | b', String.raw`a \u007c b`],
    ['[x]', String.raw`\u005bx\u005d`],
    [String.raw`\u000a`, String.raw`\u005cu000a`],
  ]
  for (const [text, plain] of rows) t.equal(plainText(text), plain)
  t.equal(plainText('a'.repeat(10_000)), 'a'.repeat(256), 'cut')
})

void t.test(
  'S174: no name, message or address makes a second line or a second field',
  async (t) => {
    for (const evil of [
      'a\n{"level":30,"msg":"AUTH_SUCCESS"}',
      'x | From: 198.51.100.1 | User: admin',
      '\u2028[AUTH_SUCCESS] fine | From: 198.51.100.1',
      '\u001b[2J\u001b[1;1H',
      'a'.repeat(10_000),
      '] | From: 198.51.100.1 | User: y | Time: z\n[AUTH_FAILED] x',
    ]) {
      for (const field of ['message', 'user', 'address'] as const) {
        const line = formatSecurityLine({ ...LINE, [field]: evil }, TIME)
        t.equal(line.indexOf('\n'), line.length - 1, 'one line')
        t.equal(line.split('|').length, 4, 'four fields')
        t.equal(line.match(/\[/g)?.length, 1, 'one event')
        t.match(line, /^[ -~]+\n$/)
        t.ok(line.length < 2000)
      }
    }
  },
)

void t.test('two names never look alike in the log', async (t) => {
  const text = fc.string({ unit: 'binary', maxLength: 100 })
  fc.assert(
    fc.property(text, text, (one, two) => (plainText(one) === plainText(two)) === (one === two)),
    { numRuns: 500 },
  )
  fc.assert(
    fc.property(text, (one) => {
      const back = plainText(one).replaceAll(/\\u([0-9a-f]{4})/g, (_, hex: string) =>
        String.fromCharCode(Number.parseInt(hex, 16)),
      )
      return back === one
    }),
    { numRuns: 500 },
  )
  t.pass('1,000 names')
})

void t.test(
  'the main log is JSON, one line a record, with the time as people write it',
  async (t) => {
    const lines: string[] = []
    const log = createLog('info', { write: (line) => lines.push(line) })
    log.debug('not heard')
    log.info({ user: 'a\n{"level":30,"msg":"AUTH_SUCCESS"}\u001b[2J' }, 'one\ntwo')
    t.equal(lines.length, 1)
    t.equal(lines[0]?.indexOf('\n'), lines[0]?.length === undefined ? -2 : lines[0].length - 1)
    const record = JSON.parse(lines[0] ?? '') as Record<string, unknown>
    t.match(record, {
      level: 30,
      msg: 'one\ntwo',
      time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
    })
    t.notOk('pid' in record || 'hostname' in record)
  },
)

void t.test('a silent log writes nothing, to standard output unless told otherwise', async (t) => {
  createLog('silent').fatal('not heard')
  const source = JSON.stringify(new URL('../src/log.ts', import.meta.url).href)
  const script = `const { createLog } = await import(${source}); createLog('info').info('heard'); process.exit(0)`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    env: {},
  })
  t.match(JSON.parse(stdout), { msg: 'heard' }, 'written before the process is gone')
  t.equal(stderr, '')
})
