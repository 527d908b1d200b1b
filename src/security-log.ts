// The security log as a file for jails and people: one line an event, appended and never rewritten. It is written in
// the background, as the main log is, so a disk that hangs stops no check; a line that is not taken is counted.

import { existsSync, fchmodSync, openSync } from 'node:fs'

import { formatSecurityLine, type LogStream, openLogStream, type SecurityLine } from './log.ts'

const MODE = 0o640 // the group of the log directory may read, others learn no user names

/** An empty path: no file, the main log alone. Throws where the file cannot be opened at start. */
export const openSecurityLog = (path: string, onLost: (error: unknown) => void) => {
  const open = (at: string): LogStream | undefined => {
    if (at === '') return undefined
    const isNew = !existsSync(at)
    const fd = openSync(at, 'a', MODE)
    if (isNew) fchmodSync(fd, MODE) // the process's umask is for secrets
    return openLogStream(fd, { journal: false, onLost })
  }
  let stream = open(path)
  return {
    write(line: SecurityLine, time: Date): void {
      stream?.write(formatSecurityLine(line, time))
    },
    /** Opens the path, anew after logrotate has moved the file away; keeps what is open where that fails. */
    reopen(at: string): void {
      try {
        const next = open(at)
        void stream?.close()
        stream = next
      } catch (error) {
        onLost(error)
      }
    },
    close: async () => stream?.close(),
  }
}

export type SecurityLog = ReturnType<typeof openSecurityLog>
