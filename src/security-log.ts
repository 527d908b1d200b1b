// The security log as a file for jails and people: one line an event, appended and never rewritten. It never
// stops the daemon: a line that cannot be written is counted, and the main log has it all the same.

import { closeSync, existsSync, fchmodSync, openSync, writeSync } from 'node:fs'

import { formatSecurityLine, type SecurityLine } from './log.ts'

export interface SecurityLog {
  write(line: SecurityLine, time: Date): void
  /** Opens the path, anew after logrotate has moved the file away; keeps what is open where that fails. */
  reopen(path: string): void
  close(): void
}

const MODE = 0o640 // the group of the log directory may read, others learn no user names

/** An empty path: no file, the main log alone. Throws where the file cannot be opened at start. */
export const openSecurityLog = (path: string, onLost: (error: unknown) => void): SecurityLog => {
  const open = (at: string): number | undefined => {
    if (at === '') return undefined
    const isNew = !existsSync(at)
    const opened = openSync(at, 'a', MODE)
    if (isNew) fchmodSync(opened, MODE) // the process's umask is for secrets
    return opened
  }
  let fd = open(path)
  const closeFile = (): void => {
    if (fd !== undefined) closeSync(fd)
  }
  return {
    write(line, time) {
      if (fd === undefined) return
      try {
        writeSync(fd, formatSecurityLine(line, time))
      } catch (error) {
        onLost(error)
      }
    },
    reopen(at) {
      try {
        const next = open(at)
        closeFile()
        fd = next
      } catch (error) {
        onLost(error)
      }
    },
    close: closeFile,
  }
}
