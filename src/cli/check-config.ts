// `postern check-config`: would the daemon start with this file? It asks the very loader that the daemon
// uses, and never touches the daemon, the state or the file. A shared store is looked at, and only warned of.

import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { inspectSharedStore } from '../daemon/open-state.ts'
import { StoreError } from '../store/store.ts'
import { type Command, verb } from './command.ts'
import { OK } from './io.ts'

export const checkConfig: Command = {
  name: 'check-config',
  summary: `say whether a configuration is good (default: ${CONFIG_FILE})`,
  verbs: {
    '': verb({
      operands: ['[FILE]'],
      options: {},
      async run({ operands: [file = CONFIG_FILE] }, io) {
        try {
          // A server that is away, or set up badly, is no reason not to start: the daemon waits for it.
          const warnings = await inspectSharedStore(loadConfig(file))
          for (const warning of warnings) io.err(`warning: ${warning}`)
        } catch (error) {
          if (error instanceof StoreError) throw new ConfigError([`${file}: ${error.message}`])
          throw error
        }
        io.out(`${file}: ok`)
        return OK
      },
    }),
  },
}
