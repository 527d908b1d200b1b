// What is written: one line an event, whatever the text that a stranger sent.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
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

void t.test('no name, message or address makes a second line or a second field', async (t) => {
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
})

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

void t.test('nothing in a name hides, turns or rules a terminal, and letters stay', (t) => {
  const lines: string[] = []
  const log = createLog('info', { write: (line) => lines.push(line) })
  const user = '\u009b2J\u2028\u202e\u007f\u0085\ufeff\u200b\u{e0041}\ud800 Jürgen 李 א 😀'
  log.info({ user }, user)
  const [line = ''] = lines
  t.notMatch(line.slice(0, -1), /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
  t.match(
    line,
    String.raw`"user":"\u009b2J\u2028\u202e\u007f\u0085\ufeff\u200b\udb40\udc41\ud800 Jürgen 李 א 😀"`,
  )
  t.match(JSON.parse(line), { user, msg: user })
  t.end()
})

void t.test('a silent log writes nothing', (t) => {
  const lines: string[] = []
  createLog('silent', { write: (line) => lines.push(line) }).fatal('not heard')
  t.same(lines, [])
  t.end()
})

/** Runs a line of code with the log's module, in a process of its own. */
const run = (code: string, stdout: 'pipe' | number = 'pipe') =>
  spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `const { createLog, openLogStream } = await import(${JSON.stringify(new URL('../src/log.ts', import.meta.url).href)}); ${code}`,
    ],
    { stdio: ['ignore', stdout, 'pipe', 'ipc'], env: {} },
  )

void t.test('under the journal each line begins with its priority', async (t) => {
  const child = run(`
    const stream = openLogStream(1, { journal: true, onLost() {} })
    const log = createLog('trace', stream)
    for (const level of ['trace', 'debug', 'info', 'warn', 'error', 'fatal']) log[level](level)
    await stream.close()
    process.exit(0)`)
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  await once(child, 'close')
  const lines = text.trimEnd().split('\n')
  t.same(
    lines.map((line) => line.slice(0, 4)),
    ['<7>{', '<7>{', '<6>{', '<4>{', '<3>{', '<2>{'],
  )
  for (const line of lines) t.doesNotThrow(() => JSON.parse(line.slice(3)))
})

void t.test(
  'elsewhere a line is JSON alone, and is written before the process is gone',
  async (t) => {
    const child = run(`
    const stream = openLogStream(1, { journal: false, onLost() {} })
    createLog('info', stream).info('heard')
    await stream.close()
    createLog('info', stream).info('too late')
    process.exit(0)`)
    let text = ''
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    const [code] = (await once(child, 'close')) as [number]
    t.equal(code, 0, 'a line after the end is no fault')
    t.match(JSON.parse(text), { level: 30, msg: 'heard' })
  },
)

void t.test('F33: a reader that stops costs lines, never the process', async (t) => {
  // 4 MB into a pipe of 64 KiB that nobody reads, then a sign of life, then an end that gives up.
  const child = run(`
    let lost = 0
    const stream = openLogStream(1, { journal: false, onLost: () => lost++ })
    const log = createLog('info', stream)
    for (let n = 0; n < 4096; n++) log.info('x'.repeat(1024))
    await new Promise((resolve) => setImmediate(resolve))
    await stream.close()
    process.send({ lost })`)
  child.stdout?.pause()
  const [{ lost }] = (await once(child, 'message')) as [{ lost: number }]
  t.ok(lost > 1000, `${lost} lines were dropped and counted`)
  child.kill('SIGKILL')
  await once(child, 'exit')
})

void t.test('F34: a reader that is gone costs lines, never the process', async (t) => {
  const child = run(`
    let lost = 0
    const stream = openLogStream(1, { journal: false, onLost: () => lost++ })
    const log = createLog('info', stream)
    await new Promise((resolve) => process.once('message', resolve))
    for (let n = 0; n < 10; n++) {
      log.info('into the void')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    process.send({ lost })`)
  child.stdout?.destroy()
  child.send('go')
  const [{ lost }] = (await once(child, 'message')) as [{ lost: number }]
  t.ok(lost > 0, `${lost} losses were seen`)
  child.kill('SIGKILL')
  await once(child, 'exit')
})
