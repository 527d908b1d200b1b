// `postern` without a process: which command the first word picks, and what help says.

import t from 'tap'

import { COMMANDS, postern } from '../../src/cli/postern.ts'
import { version } from '../../src/version.ts'
import { capture } from './run.ts'

const run = (...argv: string[]) => capture((io) => postern(argv, io))

void t.test('help and version', async (t) => {
  t.same(await run('--version'), { status: 0, out: `postern ${version}`, err: '' })
  const { status, out, err } = await run('--help')
  t.same({ status, err }, { status: 0, err: '' })
  t.match(out, /^Postern decides for nginx[^]*postern serve +run the daemon/)
  const named = [...out.matchAll(/^ {2}postern (\S+)/gm)].map(([, name = '']) => name)
  t.same(named, [...COMMANDS.map(({ name }) => name), '--version'])
  for (const word of ['-h', 'help']) t.equal((await run(word)).out, out, word)
  t.same(await run(), { status: 64, out: '', err: out })
  for (const { name } of COMMANDS) {
    for (const help of ['-h', '--help']) {
      const usage = await run(name, help)
      t.match(usage, { status: 0, err: '' }, name)
      t.ok(usage.out.startsWith(`usage: postern ${name}`), name)
    }
  }
})

void t.test('a word that is no command', async (t) => {
  t.match(await run('srve'), {
    status: 64,
    out: '',
    err: /^postern: there is no command "srve": did you mean serve\?\nPostern decides/,
  })
  t.match(await run('a\nb'), { status: 64, err: /^postern: there is no command "a\\nb"\n/ })
})

void t.test('a command gets the words after its name', async (t) => {
  t.match(await run('check-config', '/none'), { status: 78, err: /^\/none: no such file/ })
})
