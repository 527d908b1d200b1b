// The daemon's own log: JSON lines on stdout for the journal, and the security log for people and jails.
// Text that a stranger sent goes in escaped and cut; a token, password or key never does.

import { type DestinationStream, destination, type Logger, pino } from 'pino'

export type Log = Logger

export interface SecurityLine {
  event: string
  message: string
  address: string
  user: string
  sid?: string | undefined
}

const MAX_TEXT = 256

/** One line, printable, unambiguous: what cannot be said plainly is written as \uXXXX, and so is the separator. */
export const plainText = (text: string): string =>
  text
    .slice(0, MAX_TEXT)
    .replaceAll(
      /[^ -~]|[\\|[\]]/g,
      (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
    )

/** The form that jails read: `[EVENT] message | From: <ip> | User: <name> | Time: <RFC 3339>`. */
export const formatSecurityLine = (line: SecurityLine, time: Date): string =>
  `[${line.event}] ${plainText(line.message)} | From: ${plainText(line.address)} | User: ${plainText(line.user)} | Time: ${time.toISOString()}\n`

export const createLog = (
  level: string,
  stream: DestinationStream = destination({ fd: 1, sync: true }),
): Log =>
  pino({ level, base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` }, stream)
