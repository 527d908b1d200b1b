// `postern reload`: the running daemon reads config, keys and users again, or says why not. A bad config
// changes nothing.

import { loadConfig } from '../config/load.ts'
import { type Command, verb } from './command.ts'
import { orderDaemon } from './control-client.ts'
import { type Io, IO_FAILED, OK, Stop } from './io.ts'

/** False where no daemon runs. Throws a Stop where it keeps what it had. */
const tell = async (control: string, path: string, io: Io): Promise<boolean> => {
  const told = await orderDaemon(control, 'POST', path).catch((error: Stop): never => {
    throw new Stop(
      error.code,
      `not reloaded: the running daemon keeps what it had:\n${error.message}`,
    )
  })
  if (!told) return false
  const { ignored = [] } = told as { ignored?: readonly string[] }
  io.out('reloaded')
  if (ignored.length > 0) io.err(`these wait for a restart: ${ignored.join(', ')}`)
  return true
}

/**
 * After a change in a file of the daemon's. That none runs is no failure. It means that file alone: a change of users
 * that is held back stays so.
 */
export const tellReload = async (control: string, io: Io): Promise<void> => {
  if (!(await tell(control, '/reload?users=held', io)))
    io.out('the daemon is not running: this takes effect when it starts')
}

export const reload: Command = {
  name: 'reload',
  summary: 'bring config, keys and users into force without a restart',
  verbs: {
    '': verb({
      options: { config: '[FILE]' },
      async run({ file }, io) {
        const { control } = loadConfig(file).listen
        if (await tell(control, '/reload', io)) return OK
        throw new Stop(
          IO_FAILED,
          `the daemon is not running: nobody answers on ${control}; it reads everything when it starts. If it does run, listen.control has changed since it started: restart it`,
        )
      },
    }),
  },
}
