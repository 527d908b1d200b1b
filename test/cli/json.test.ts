// What `--json` prints, of every command that has it: one line, for a script to read line by line.

import t from 'tap'

import { machineKey } from '../../src/cli/machine-key.ts'
import { COMMANDS } from '../../src/cli/postern.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import { runCommand } from './run.ts'

void t.test('every --json is one line of JSON', async (t) => {
  const daemon = await startTestDaemon(t)
  const { access } = await daemon.softphone()
  const at = ['--config', daemon.place.config]
  await runCommand(machineKey, ['add', 'k', '--grants', 'read:x', ...at])
  const calls = COMMANDS.flatMap((command) =>
    Object.entries(command.verbs)
      .filter(([, { options }]) => options['json'] === true)
      .map(([verb]) => ({ command, words: verb === '' ? [] : [verb] })),
  )
  t.ok(calls.length > 4)
  for (const { command, words } of calls) {
    const { name } = command
    const argv = [...words, '--json', ...at]
    const { out } = await runCommand(command, argv, access)
    t.equal(out, JSON.stringify(JSON.parse(out)), name)
    t.ok(out.length > 2, `${name}: it had something to say`)
  }
})
