// The daemon's own log: JSON lines on stdout for the journal, and the security log for people and jails.
// Text that a stranger sent goes in escaped and cut; a token, password or key never does.

import { type DestinationStream, destination, type Logger, pino } from 'pino'

import { systemClock } from './clock.ts'

export type Log = Logger

export interface SecurityLine {
  event: string
  message: string
  address: string
  user: string
}

const MAX_TEXT = 256

/** As JSON writes it, each UTF-16 unit by itself. */
const escape = (char: string): string =>
  Array.from(
    { length: char.length },
    (_, at) => `\\u${char.charCodeAt(at).toString(16).padStart(4, '0')}`,
  ).join('')

/** One line, printable, unambiguous: what cannot be said plainly is written as \uXXXX, and so is the separator. */
export const plainText = (text: string): string =>
  text.slice(0, MAX_TEXT).replaceAll(/[^ -~]|[\\|[\]]/g, escape)

/** The form that jails read: `[EVENT] message | From: <ip> | User: <name> | Time: <RFC 3339>`. */
export const formatSecurityLine = (line: SecurityLine, time: Date): string =>
  `[${line.event}] ${plainText(line.message)} | From: ${plainText(line.address)} | User: ${plainText(line.user)} | Time: ${time.toISOString()}\n`

// RFC 5424 severities, which journald takes from a line's prefix.
const SEVERITY: Readonly<Record<string, number>> = { 10: 7, 20: 7, 30: 6, 40: 4, 50: 3, 60: 2 }
const MAX_WAITING = 1024 * 1024 // bytes that wait for a slow reader; what comes beyond is counted and dropped

export interface LogStream extends DestinationStream {
  /** Resolves when everything is written, or after a moment where nobody reads. Nothing is written after it. */
  close(): Promise<void>
}

const FLUSH_WITHIN = 0.5 // seconds

/**
 * Where the log goes. Written in the background: Node writes to a pipe synchronously, so a journal that
 * stops reading would stop every check. A reader that is gone costs lines, never the daemon.
 */
export const openLogStream = (
  fd: number,
  options: { journal: boolean; onLost(cause: unknown): void },
): LogStream => {
  const out = destination({ fd, sync: false, minLength: 1, maxLength: MAX_WAITING })
  out.on('drop', () => options.onLost(new Error('too much waits to be written')))
  out.on('error', options.onLost)
  let isOpen = true // a write after that throws
  const destroy = (): void => {
    isOpen = false
    out.destroy()
  }
  return {
    write(line) {
      if (!isOpen) return
      // pino's own beginning of every line: {"level":30,
      out.write(options.journal ? `<${SEVERITY[line.slice(9, 11)]}>${line}` : line)
    },
    async close() {
      const { promise, resolve } = Promise.withResolvers<void>()
      const cancel = systemClock.after(FLUSH_WITHIN, resolve)
      out.once('close', resolve)
      out.flush(destroy)
      await promise
      cancel()
      // Else its exit hook writes what is left synchronously, and to a full disk for ever.
      destroy()
    },
  }
}

// What JSON leaves as it is and a terminal obeys or hides: DEL and C1, marks of direction, separators of lines,
// half a character.
const UNSEEN = /[\p{Cf}\p{Cs}\p{Zl}\p{Zp}\x7f-\x9f]/gu

/** The same JSON. Letters of any language stay; what cannot be seen is written as \uXXXX. */
const spellOut = (json: string): string => json.replaceAll(UNSEEN, escape)

export const createLog = (level: string, stream: DestinationStream): Log =>
  pino(
    { level, base: null, timestamp: () => `,"time":"${systemClock.date().toISOString()}"` },
    {
      write(line) {
        stream.write(spellOut(line))
      },
    },
  )
