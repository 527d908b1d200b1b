// Passwords from the operator: typed at a terminal that shows nothing, or piped in. They never come from
// argv, which every user of the host can read, and never go to any output.
import type { Io } from './io.ts'

export type Answer<Value> = { given: Value } | { problem: string }

type Stdin = Io['stdin']
type Terminal = Stdin & { setRawMode(raw: boolean): unknown }

const MAX_INPUT = 4096 // bytes: more than a password may have, so that "too long" can be said
// Arrows, function keys, the marks around a paste: keys, of which nothing was meant as text.
const KEY_SEQUENCE = /\u001B(?:\[[0-9;?]*[ -/]*[@-~]|O.|.)?/g
const CANCELLED = 'cancelled: nothing was changed'
const NOT_UTF8 = 'the password is not UTF-8: set the terminal, or what writes it, to UTF-8'

/** A terminal that can be kept from showing what is typed. */
export function isTerminal(stdin: Stdin): stdin is Terminal {
  return stdin.isTTY === true && 'setRawMode' in stdin && typeof stdin.setRawMode === 'function'
}

/** Asks one question after the other, showing nothing of what is typed. */
export async function promptHidden(
  terminal: Terminal,
  questions: readonly string[],
  say: (line: string) => void,
): Promise<Answer<string[]>> {
  const chunks = terminal[Symbol.asyncIterator]()
  const decoder = new TextDecoder('utf-8', { fatal: true })
  const given: string[] = []
  let typed = '' // a paste may hold the answers to several questions

  terminal.setRawMode(true)
  try {
    for (const question of questions) {
      say(question)
      const line = createLine()
      for (;;) {
        const key = takeKey()
        if (key === '') {
          const chunk = await chunks.next()
          if (chunk.done === true) return { problem: CANCELLED }
          try {
            typed = decoder.decode(chunk.value, { stream: true }).replaceAll(KEY_SEQUENCE, '')
          } catch {
            return { problem: NOT_UTF8 }
          }
          continue
        }
        const state = line.press(key)
        if (state === 'cancelled') return { problem: CANCELLED }
        if (state === 'entered') break
      }
      given.push(line.text())
    }
    return { given }
  } finally {
    terminal.setRawMode(false)
    await chunks.return?.() // an open terminal would keep the command from ending
  }

  function takeKey(): string {
    const [key = ''] = typed
    typed = typed.slice(key.length)
    return key
  }
}

function createLine(): {
  press(key: string): 'typing' | 'entered' | 'cancelled'
  text(): string
} {
  let keys: string[] = []
  return {
    text: () => keys.join(''),
    press(key) {
      if (key === '\r' || key === '\n') return 'entered'
      if (key === '\u0003' || (key === '\u0004' && keys.length === 0)) return 'cancelled' // ^C ^D
      if (key === '\u007F' || key === '\b') keys.pop()
      else if (key === '\u0015') keys = [] // ^U
      else if (key >= ' ') keys.push(key)
      return 'typing'
    },
  }
}

/** The one line of a pipe. Its line break is taken off once; nothing else is. */
export async function readPiped(stdin: Stdin): Promise<Answer<string>> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of stdin) {
    chunks.push(chunk)
    length += chunk.length
    if (length > MAX_INPUT) return { problem: `more than ${MAX_INPUT} bytes on standard input` }
  }
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks))
  } catch {
    return { problem: NOT_UTF8 }
  }
  const line = text.replace(/\r?\n$/, '')
  // Two lines are a file piped in by mistake, or "password twice": a guess would lock the user out.
  if (line.includes('\n')) return { problem: 'more than one line on standard input: pipe in one' }
  return { given: line }
}
