// Passwords in: from a terminal that shows nothing, or from a pipe, byte for byte.
import { PassThrough } from 'node:stream'
import t from 'tap'
import { isTerminal, promptHidden, readPiped } from '../../src/cli/prompt.ts'

/** Types each chunk, as a terminal in raw mode hands it over. */
function createTerminal(...chunks: (string | Uint8Array)[]) {
  const modes: boolean[] = []
  const stream = Object.assign(new PassThrough(), {
    isTTY: true,
    setRawMode: (raw: boolean) => void modes.push(raw),
    modes,
  })
  for (const chunk of chunks) stream.write(chunk)
  return stream
}

async function* pipe(...chunks: (string | Uint8Array)[]): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Buffer.from(chunk)
}

void t.test('hidden input', async (t) => {
  process.env['TERM'] = 'dumb' // of all terminals the one on which readline edits nothing by itself
  const cases: [what: string, chunks: (string | Uint8Array)[], given: string[]][] = [
    ['two lines', ['secret\r', 'secret\r'], ['secret', 'secret']],
    ['key by key', ['a', 'b', '\r', 'c', '\n'], ['ab', 'c']],
    ['both pasted at once', ['one\rtwo\r'], ['one', 'two']],
    ['spaces stay', [' a b \r', '\r'], [' a b ', '']],
    ['backspace takes a whole character', ['ab\u{1F600}\u007Fc\b\r', '\u007Fx\r'], ['ab', 'x']],
    ['^U takes all', ['wrong\u0015right\r', '\r'], ['right', '']],
    ['no line is kept to come back', ['one\r', '\u001B[A\r'], ['one', '']],
    [
      'arrows and other keys are no text',
      ['a', '\u001B[A\u001BOP\u001B[15~', 'b', '\t', '\r', '\r'],
      ['ab', ''],
    ],
    ['^D in the middle is nothing', ['a\u0004b\r', '\r'], ['ab', '']],
    [
      'a character in two chunks',
      [Buffer.from([0xc3]), Buffer.from([0xbc]), '\r', '\r'],
      ['ü', ''],
    ],
  ]
  for (const [what, chunks, given] of cases) {
    const terminal = createTerminal(...chunks)
    const said: string[] = []
    t.same(await promptHidden(terminal, ['one?', 'two?'], (line) => said.push(line)), { given })
    t.same(said, ['one?', 'two?'], what)
    t.same(terminal.modes, [true, false], 'the terminal shows again what is typed')
    t.ok(terminal.isPaused(), 'and keeps no command alive')
  }
})

void t.test('hidden input can be left', async (t) => {
  const cancelled = 'cancelled: nothing was changed'
  const cases: [chunks: (string | Uint8Array)[], problem: string | RegExp][] = [
    [['abc\u0003'], cancelled],
    [['abc\r', '\u0004'], cancelled],
    [[Buffer.from([0xff]), '\r'], /not UTF-8/],
  ]
  for (const [chunks, problem] of cases) {
    const terminal = createTerminal(...chunks)
    t.match(await promptHidden(terminal, ['?', '?'], () => undefined), { problem })
    t.same(terminal.modes, [true, false])
  }
  const gone = createTerminal('abc')
  gone.end()
  t.same(await promptHidden(gone, ['?', '?'], () => undefined), { problem: cancelled })
})

void t.test('only what can be kept from showing is a terminal', async (t) => {
  t.equal(isTerminal(createTerminal()), true)
  t.equal(isTerminal(pipe()), false)
  t.equal(isTerminal(Object.assign(pipe(), { isTTY: true })), false)
  t.equal(isTerminal(Object.assign(pipe(), { isTTY: true, setRawMode: 1 })), false)
  t.equal(isTerminal(Object.assign(pipe(), { isTTY: false, setRawMode: () => 1 })), false)
})

void t.test('piped input loses one line break, and nothing else', async (t) => {
  const cases: [chunks: (string | Uint8Array)[], expected: object][] = [
    [['secret\n'], { given: 'secret' }],
    [['sec', 'ret\n'], { given: 'secret' }],
    [['secret'], { given: 'secret' }],
    [['secret\r\n'], { given: 'secret' }],
    [[' secret \n'], { given: ' secret ' }],
    [['\n'], { given: '' }],
    [[], { given: '' }],
    [['\uFEFFsecret'], { given: '\uFEFFsecret' }],
    [['secret\n\n'], { problem: /more than one line/ }],
    [['secret\nsecret\n'], { problem: /more than one line/ }],
    [[Buffer.from([0xff])], { problem: /not UTF-8/ }],
    [['x'.repeat(4096), 'x'], { problem: /more than 4096 bytes/ }],
  ]
  for (const [chunks, expected] of cases) t.match(await readPiped(pipe(...chunks)), expected)
})
