// What `--json` prints, of every command that has it: one line, for a script to read line by line.

import { globSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

import type { Command } from '../../src/cli/io.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import { runCommand } from './run.ts'

const CLI = join(import.meta.dirname, '..', '..', 'src', 'cli')

const isCommand = (value: unknown): value is Command => typeof Object(value).usage === 'string'

void t.test('every --json is one line of JSON', async (t) => {
  const daemon = await startTestDaemon(t)
  const { access } = await daemon.softphone()
  const argv: Readonly<Record<string, readonly string[]>> = {
    doctor: [],
    key: ['list'],
    session: ['list'],
    token: ['inspect'],
    user: ['list'],
  }
  const modules = await Promise.all(
    globSync('*.ts', { cwd: CLI }).map((file) => import(join(CLI, file)) as Promise<object>),
  )
  const withJson = modules
    .flatMap((module) => Object.values(module).filter(isCommand))
    .filter(({ usage }) => usage.includes('--json'))
  t.same(withJson.map(({ name }) => name).sort(), Object.keys(argv), 'a row for each')
  for (const command of withJson) {
    const { name } = command
    const words = [...(argv[name] ?? []), '--json', '--config', daemon.place.config]
    const { out } = await runCommand(command, words, access)
    t.equal(out, JSON.stringify(JSON.parse(out)), name)
    t.ok(out.length > 2, `${name}: it had something to say`)
  }
})
