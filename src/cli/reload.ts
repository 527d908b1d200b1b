// `postern reload`: the running daemon takes config, keys and users up anew, or says why not. A bad config
// changes nothing.

import { parseArgs } from 'node:util'

import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { askDaemon } from './control-client.ts'
import { BAD_CONFIG, type Command, type Io, IO_FAILED, OK, USAGE } from './io.ts'

export const reload: Command = {
  name: 'reload',
  summary: 'bring config, keys and users into force without a restart',
  usage: 'postern reload [--config FILE]',
  async run(argv, io) {
    let file: string
    try {
      const { values } = parseArgs({ args: [...argv], options: { config: { type: 'string' } } })
      file = values.config ?? CONFIG_FILE
    } catch {
      io.err(`usage: ${reload.usage}`)
      return USAGE
    }
    try {
      const { control } = loadConfig(file).listen
      const told = await tell(control, io)
      if (told !== 'not_running') return told
      io.err(
        `postern reload: nobody answers on ${control}: the daemon is not running, and reads everything when it starts; if listen.control has changed since it did, restart it`,
      )
      return IO_FAILED
    } catch (error) {
      /* c8 ignore next: a bug, for main.ts to show */
      if (!(error instanceof ConfigError)) throw error
      for (const problem of error.problems) io.err(problem)
      return BAD_CONFIG
    }
  },
}

/** After a change in a file of the daemon's: the exit code. Nobody running is no failure. */
export const tellReload = async (control: string, io: Io): Promise<number> => {
  const told = await tell(control, io)
  if (told !== 'not_running') return told
  io.out('the daemon is not running: this takes effect when it starts')
  return OK
}

const tell = async (control: string, io: Io): Promise<number | 'not_running'> => {
  const told = await askDaemon(control, 'POST', '/reload')
  if (told === 'not_running') return told
  if ('problem' in told) {
    io.err(`not reloaded: ${told.problem}`)
    return IO_FAILED
  }
  const { ignored = [], error = '' } = told.body as { ignored?: readonly string[]; error?: string }
  if (told.status !== 200) {
    io.err('not reloaded: the running daemon keeps what it had:')
    for (const line of error.split('\n')) io.err(line)
    return told.status === 409 ? BAD_CONFIG : IO_FAILED
  }
  io.out('reloaded')
  if (ignored.length > 0) io.err(`these wait for a restart: ${ignored.join(', ')}`)
  return OK
}
