// `postern check-config`: would the daemon start with this file? It asks the very functions that a start asks,
// and never touches the daemon, the state or the file. A shared store is looked at, and only warned of.

import { CONFIG_FILE, openConfig } from '../config/load.ts'
import { judgeConfig } from '../daemon/judge.ts'
import { inspectSharedStore } from '../daemon/open-state.ts'
import { type Command, verb } from './command.ts'
import { OK } from './io.ts'

export const checkConfig: Command = {
  name: 'check-config',
  summary: `say whether a configuration is good (default: ${CONFIG_FILE})`,
  verbs: {
    '': verb({
      operands: ['[FILE]'],
      options: {},
      async run({ file }, io) {
        const loaded = openConfig(file)
        const warnings = [...loaded.warnings, ...(await judgeConfig(loaded))]
        // A server that is away, or set up badly, does not keep the daemon from starting: it waits for it.
        warnings.push(...(await inspectSharedStore(loaded.config)))
        for (const warning of warnings) io.err(`warning: ${warning}`)
        io.out(`${file}: ok`)
        return OK
      },
    }),
  },
}
