// The `postern` process: its arguments go to src/cli/postern.ts, which returns the exit code.

import { FAULT } from './cli/io.ts'
import { postern } from './cli/postern.ts'

const err = (line: string): void => {
  process.stderr.write(`${line}\n`)
}

// `postern user list | head -1`: a reader that has seen enough is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

try {
  process.exitCode = await postern(process.argv.slice(2), {
    out: (line) => {
      process.stdout.write(`${line}\n`)
    },
    err,
    stdin: process.stdin,
  })
} catch (error) {
  err(`postern: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  process.exitCode = FAULT
}
