// `postern check-config`: would the daemon start with this file? It asks the very loader that the daemon
// uses, and never touches the daemon, the state or the file. A shared store is looked at, and only warned of.

import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { inspectSharedStore } from '../daemon/open-state.ts'
import { StoreError } from '../store/store.ts'
import { BAD_CONFIG, type Command, type Io, OK, USAGE } from './io.ts'

const usage = 'postern check-config [FILE]'

export const checkConfig: Command = {
  name: 'check-config',
  summary: `say whether a configuration is good (default: ${CONFIG_FILE})`,
  usage,
  async run(argv: readonly string[], io: Io): Promise<number> {
    const [file = CONFIG_FILE, ...more] = argv
    if (more.length > 0 || file === '' || file.startsWith('-')) {
      io.err(`usage: ${usage}`)
      return USAGE
    }
    try {
      const config = loadConfig(file)
      // A server that is away, or set up badly, is no reason not to start: the daemon waits for it.
      for (const warning of await inspectSharedStore(config)) io.err(`warning: ${warning}`)
    } catch (error) {
      if (error instanceof StoreError) {
        io.err(`${file}: ${error.message}`)
        return BAD_CONFIG
      }
      if (!(error instanceof ConfigError)) throw error
      for (const problem of error.problems) io.err(problem)
      return BAD_CONFIG
    }
    io.out(`${file}: ok`)
    return OK
  },
}
