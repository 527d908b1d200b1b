// The `postern` command: its first word picks a command of the table, which returns the exit code.

import { version } from '../version.ts'
import { checkConfig } from './check-config.ts'
import { type Command, didYouMean, runCommand } from './command.ts'
import { doctor } from './doctor.ts'
import { type Io, OK, USAGE } from './io.ts'
import { key } from './key.ts'
import { machineKey } from './machine-key.ts'
import { policy } from './policy.ts'
import { reload } from './reload.ts'
import { serve } from './serve.ts'
import { session } from './session.ts'
import { store } from './store.ts'
import { token } from './token.ts'
import { user } from './user.ts'

export const COMMANDS: readonly Command[] = [
  serve,
  checkConfig,
  reload,
  user,
  session,
  key,
  machineKey,
  policy,
  token,
  store,
  doctor,
]

const HELP = [
  'Postern decides for nginx who may pass, and gives clients their tokens.',
  '',
  ...COMMANDS.map(({ name, summary }) => `  postern ${name.padEnd(14)} ${summary}`),
  `  postern ${'--version'.padEnd(14)} print the version`,
  '',
  'postern COMMAND --help shows how to use one.',
].join('\n')

export const postern = async ([name, ...argv]: readonly string[], io: Io): Promise<number> => {
  if (name === '--version') {
    io.out(`postern ${version}`)
    return OK
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    io.out(HELP)
    return OK
  }
  const command = COMMANDS.find((candidate) => candidate.name === name)
  if (command) return runCommand(command, argv, io)
  if (name !== undefined) {
    const near = didYouMean(
      name,
      COMMANDS.map((candidate) => candidate.name),
    )
    io.err(`postern: there is no command ${JSON.stringify(name)}${near}`)
  }
  io.err(HELP)
  return USAGE
}
