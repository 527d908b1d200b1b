// Passwords from the operator: typed at a terminal that shows nothing, or piped in. They never come from
// argv, which every user of the host can read, and never go to any output.

import { isUtf8 } from 'node:buffer'
import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'

import type { Io } from './io.ts'

export type Answer<Value> = { given: Value } | { problem: string }

type Stdin = Io['stdin']
type Terminal = Stdin & NodeJS.ReadableStream

const MAX_INPUT = 4096 // bytes: more than a password may have, so that "too long" can be said
const CANCELLED = 'cancelled: nothing was changed'
const NOT_UTF8 = 'the password is not UTF-8: set the terminal, or what writes it, to UTF-8'

/** A terminal that can be kept from showing what is typed. */
export const isTerminal = (stdin: Stdin): stdin is Terminal =>
  stdin.isTTY === true && 'setRawMode' in stdin && typeof stdin.setRawMode === 'function'

/** Asks one question after the other, showing nothing of what is typed. */
export const promptHidden = async (
  terminal: Terminal,
  questions: readonly string[],
  say: (line: string) => void,
): Promise<Answer<string[]>> => {
  // On a dumb terminal readline takes every key but Return and ^C for text: ^D or Backspace would be in the password.
  if (process.env['TERM'] === 'dumb') delete process.env['TERM']
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const editor = createInterface({
    input: terminal,
    output: nowhere,
    terminal: true, // raw: readline edits the line, and the terminal shows nothing by itself
    historySize: 0,
    completer: () => [[], ''], // Tab is a key, and no text
  })
  editor.on('SIGINT', () => editor.close()) // ^C
  const lines = editor[Symbol.asyncIterator]() // a paste may hold the answers to several questions
  const given: string[] = []
  try {
    for (const question of questions) {
      say(question)
      const line = await lines.next()
      if (line.done === true) return { problem: CANCELLED }
      if (line.value.includes('\uFFFD')) return { problem: NOT_UTF8 }
      given.push(line.value)
    }
    return { given }
  } finally {
    editor.close()
  }
}

/** The one line of a pipe, without its line break; nothing else is taken off. */
export const readPiped = async (stdin: Stdin): Promise<Answer<string>> => {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of stdin) {
    chunks.push(chunk)
    length += chunk.length
    if (length > MAX_INPUT) return { problem: `more than ${MAX_INPUT} bytes on standard input` }
  }
  const bytes = Buffer.concat(chunks)
  if (!isUtf8(bytes)) return { problem: NOT_UTF8 }
  const line = bytes.toString().replace(/\r?\n$/, '')
  // Two lines are a file piped in by mistake, or "password twice": a guess would lock the user out.
  if (line.includes('\n')) return { problem: 'more than one line on standard input: pipe in one' }
  return { given: line }
}
