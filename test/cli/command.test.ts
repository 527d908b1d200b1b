// The frame of every command: words read by a table, help made from it, and what is thrown as lines and a code.

import t from 'tap'

import { type Command, usageLines, verb } from '../../src/cli/command.ts'
import { Stop, WrongUsage } from '../../src/cli/io.ts'
import { ConfigError } from '../../src/config/config-error.ts'
import { CONFIG_FILE } from '../../src/config/load.ts'
import { StartError } from '../../src/daemon/open-state.ts'
import { LockError } from '../../src/files/lock-file.ts'
import { StoreError } from '../../src/store/store.ts'
import { runCommand } from './run.ts'

const asked: unknown[] = []
const note = (call: unknown, status: number): number => {
  asked.push(call)
  return status
}
const throwing = (error: unknown): Command => ({
  name: 'fail',
  summary: '',
  verbs: {
    '': verb({
      options: {},
      run() {
        throw error
      },
    }),
  },
})

const pets: Command = {
  name: 'pets',
  summary: 'keep pets',
  notes: ['a cat keeps itself'],
  verbs: {
    feed: verb({
      operands: ['NAME', '[FOOD]'],
      options: { times: '[N]', bowl: 'BOWL', dry: true, config: '[FILE]' },
      run: (call) => note(call, 0),
    }),
    list: verb({ options: { json: true }, run: (call) => note(call, 7) }),
  },
}
const one: Command = {
  name: 'one',
  summary: '',
  verbs: { '': verb({ options: {}, run: async () => 0 }) },
}

const FEED = 'postern pets feed NAME [FOOD] [--times N] --bowl BOWL [--dry] [--config FILE]'
const LIST = 'postern pets list [--json]'
const NOTE = '           a cat keeps itself'

void t.test('a verb gets what its table says', async (t) => {
  const rows: readonly (readonly [argv: string, call: object])[] = [
    [
      'feed tom --bowl=red',
      { values: { bowl: 'red', dry: false }, operands: ['tom'], file: CONFIG_FILE },
    ],
    [
      '--config x feed --dry --bowl a tom --times=--2 --bowl b fish',
      {
        values: { bowl: 'b', dry: true, times: '--2', config: 'x' },
        operands: ['tom', 'fish'],
        file: 'x',
      },
    ],
    ['feed --bowl - -- --tom', { values: { bowl: '-', dry: false }, operands: ['--tom'] }],
  ]
  for (const [argv, call] of rows) {
    t.same(await runCommand(pets, argv.split(' ')), { status: 0, out: '', err: '' }, argv)
    t.match(asked.pop(), call, argv)
  }
  t.equal((await runCommand(pets, ['list'])).status, 7, 'its number is the exit code')
  t.equal((await runCommand(one, [])).status, 0)
})

void t.test('usage comes from the table', async (t) => {
  t.same(usageLines(pets), [FEED, LIST])
  t.same(usageLines(one), ['postern one'])
  for (const help of ['-h', '--help']) {
    const rows = [
      [[help], `usage: ${FEED}\n       ${LIST}\n${NOTE}`],
      [['list', '--frob', help], `usage: ${LIST}\n${NOTE}`],
      [[help, 'feed'], `usage: ${FEED}\n${NOTE}`],
    ] as const
    for (const [argv, out] of rows)
      t.same(await runCommand(pets, argv), { status: 0, out, err: '' })
  }
  t.same(await runCommand(one, ['-h']), { status: 0, out: 'usage: postern one', err: '' })
})

void t.test('wrong words are named, with what would be right', async (t) => {
  const rows: readonly (readonly [argv: string, err: string])[] = [
    ['', 'pets: a verb is missing'],
    ['fed tom', 'pets: there is no such verb: did you mean feed?'],
    ['toString', 'pets: there is no such verb'],
    ['list --jsn', 'pets list: there is no option "--jsn" here: did you mean --json?'],
    ['list --jsn=hunter2', 'pets list: there is no option "--jsn" here: did you mean --json?'],
    ['list -phunter2', 'pets list: there is no option "-p" here'],
    ['list --dry', 'pets list: there is no option "--dry" here'],
    ['list --toString', 'pets list: there is no option "--toString" here'],
    ['list --\u001b[2J', 'pets list: there is no option "--\\u001b[2J" here'],
    ['list --json=yes', 'pets list: --json takes no value'],
    ['list hunter2', 'pets list: takes options only'],
    ['feed tom --bowl', 'pets feed: --bowl lacks its value'],
    ['feed tom --bowl --dry', 'pets feed: --bowl lacks its value'],
    ['feed tom', 'pets feed: --bowl BOWL is missing'],
    ['feed --bowl a', 'pets feed: NAME is missing'],
    ['feed --bowl a hunter2 fish hunter2', 'pets feed: takes one NAME [FOOD] and options only'],
  ]
  for (const [argv, problem] of rows) {
    const { status, out, err } = await runCommand(pets, argv === '' ? [] : argv.split(' '))
    t.same({ status, out }, { status: 64, out: '' }, argv)
    const [first, ...usage] = err.split('\n')
    t.equal(first, `postern ${problem}`)
    const lines = problem.startsWith('pets feed')
      ? [`usage: ${FEED}`]
      : problem.startsWith('pets list')
        ? [`usage: ${LIST}`]
        : [`usage: ${FEED}`, `       ${LIST}`]
    t.same(usage, [...lines, NOTE], argv)
    t.notMatch(err, 'hunter2', 'a value or an operand may be a secret')
  }
  t.match(await runCommand(pets, ['feed', '', '--bowl', 'a']), { err: /NAME is missing/ })
  t.same(asked.splice(0).length, 1, 'nothing else was run')
})

void t.test('what is thrown becomes lines and an exit code', async (t) => {
  const file = (code: string, path?: string) =>
    Object.assign(new Error('x'), { code, syscall: 'open', ...(path !== undefined && { path }) })
  const rows: readonly (readonly [error: Error, status: number, err: string])[] = [
    [new ConfigError(['a:1: x', 'a:2: y']), 78, 'a:1: x\na:2: y'],
    [new StartError('a cure'), 78, 'a cure'],
    [new Stop(1, 'no'), 1, 'postern fail: no'],
    [new WrongUsage('no'), 64, 'postern fail: no\nusage: postern fail'],
    [new LockError('held'), 74, 'postern fail: held'],
    [new StoreError('damaged', 'broken'), 74, 'postern fail: broken'],
    [
      file('EACCES', '/a'),
      74,
      'postern fail: /a: EACCES: run this as root (sudo); root works as the owner of that folder: if you are root, look at what stands there',
    ],
    [
      file('EIO'),
      74,
      'postern fail: a file: EIO: check that this is the right file and can be used',
    ],
  ]
  for (const [error, status, err] of rows) {
    t.same(await runCommand(throwing(error), []), { status, out: '', err })
  }
  await t.rejects(runCommand(throwing(new TypeError('a bug')), []), TypeError)
})
