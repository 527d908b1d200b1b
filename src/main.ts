// The `postern` command: its first word picks a command, whose number becomes the exit code. The only file
// that ends the process.

import { checkConfig } from './cli/check-config.ts'
import { doctor } from './cli/doctor.ts'
import type { Command, Io } from './cli/io.ts'
import { key } from './cli/key.ts'
import { reload } from './cli/reload.ts'
import { serve } from './cli/serve.ts'
import { policy } from './cli/policy.ts'
import { session } from './cli/session.ts'
import { store } from './cli/store.ts'
import { token } from './cli/token.ts'
import { user } from './cli/user.ts'
import { version } from './version.ts'

const COMMANDS: readonly Command[] = [
  serve,
  checkConfig,
  reload,
  user,
  session,
  key,
  policy,
  token,
  store,
  doctor,
]
const USAGE = 64
const FAULT = 70 // EX_SOFTWARE

const io: Io = {
  out: (line) => {
    process.stdout.write(`${line}\n`)
  },
  err: (line) => {
    process.stderr.write(`${line}\n`)
  },
  stdin: process.stdin,
}

const help = (): string[] => [
  'Postern decides for nginx who may pass, and gives clients their tokens.',
  '',
  ...COMMANDS.map(({ name, summary }) => `  postern ${name.padEnd(14)} ${summary}`),
  `  postern ${'--version'.padEnd(14)} print the version`,
  '',
  'postern COMMAND --help tells more of one.',
]

const run = async ([name, ...argv]: readonly string[]): Promise<number> => {
  if (name === '--version') {
    io.out(`postern ${version}`)
    return 0
  }
  if (name === '--help' || name === 'help') {
    for (const line of help()) io.out(line)
    return 0
  }
  const command = COMMANDS.find((candidate) => candidate.name === name)
  if (!command) {
    if (name !== undefined) io.err(`postern: there is no command ${JSON.stringify(name)}`)
    for (const line of help()) io.err(line)
    return USAGE
  }
  if (argv.includes('--help')) {
    io.out(`usage: ${command.usage}`)
    return 0
  }
  return command.run(argv, io)
}

// `postern user list | head -1`: a reader that has seen enough is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})

try {
  process.exitCode = await run(process.argv.slice(2))
} catch (error) {
  io.err(`postern: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
  process.exitCode = FAULT
}
