// `postern key`: the keys that sign, in the key file of the state directory. The running daemon is told at
// once. No part of a key but its public half is ever printed.

import { parseArgs } from 'node:util'

import {
  addKey,
  type KeyEdit,
  type KeyRow,
  listKeys,
  removeKey,
  retireKey,
} from '../auth/key-set.ts'
import { type Algorithm, ALGORITHMS } from '../auth/keyring.ts'
import { systemClock } from '../clock.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { editKeys, keysFile } from '../config/keys-file.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { LockError, lockFile } from '../files/lock-file.ts'
import { BAD_CONFIG, type Command, type Io, IO_FAILED, OK, REFUSED, USAGE } from './io.ts'
import { tellReload } from './reload.ts'
import { formatTable } from './table.ts'

const OPTIONS = {
  config: { type: 'string' },
  alg: { type: 'string' },
  standby: { type: 'boolean' },
  yes: { type: 'boolean' },
  json: { type: 'boolean' },
} as const

type Values = ReturnType<typeof parseArgs<{ options: typeof OPTIONS }>>['values']

interface Asked {
  config: Config
  kid: string
  values: Values
  now: number
  /** Seconds that an access token lives at most. */
  life: number
}

interface Verb {
  /** Beside --config. */
  options: readonly (keyof typeof OPTIONS)[]
  takesKid: boolean
  edit(text: string, asked: Asked): KeyEdit
  done(kid: string, asked: Asked): string
}

const isAlgorithm = (text: string): text is Algorithm =>
  (ALGORITHMS as readonly string[]).includes(text)

const timeText = (seconds: number): string =>
  new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')

const VERBS: Readonly<Record<string, Verb>> = {
  add: {
    options: ['alg', 'standby'],
    takesKid: false,
    edit: (text, { values, now }) =>
      addKey(text, values.alg as Algorithm, values.standby === true, now),
    done: (kid, { values }) =>
      values.standby === true
        ? `${kid} added: it verifies, and signs once the keys before it are retired`
        : `${kid} added: it signs from now on; retire the one before`,
  },
  retire: {
    options: [],
    takesKid: true,
    edit: (text, { kid, now }) => retireKey(text, kid, now),
    done: (kid, { now, life }) =>
      `${kid} retired: it signs nothing more; its last access token is gone at ${timeText(now + life)}`,
  },
  remove: {
    options: ['yes'],
    takesKid: true,
    edit: (text, { kid, values, life, now }) =>
      removeKey(text, kid, { force: values.yes === true, life, now }),
    done: (kid) => `${kid} removed: access tokens signed with it count no more`,
  },
}

const REFUSALS: Readonly<Record<'unknown_key' | 'last_key' | 'retired_already', string>> = {
  unknown_key: 'there is no such key: see `postern key list`',
  last_key: 'nothing else signs: add another key first (`postern key add`)',
  retired_already: 'is retired already: see `postern key list`',
}

const explain = (edit: Exclude<KeyEdit, { text: string }>): string => {
  if (edit.refused !== 'alive') return REFUSALS[edit.refused]
  return edit.gone === undefined
    ? `is not retired: every access token signed with it would end at once, tickets with them, and clients would have to refresh; retire it first, or say --yes`
    : `access tokens signed with it may live until ${timeText(edit.gone)}: they would end at once, tickets with them, and clients would have to refresh; wait, or say --yes`
}

const USAGE_TEXT = [
  'postern key list [--json]',
  `       postern key add [--alg ${ALGORITHMS.join('|')}] [--standby]`,
  '       postern key retire KID',
  '       postern key remove KID [--yes]',
  '       all of them: [--config FILE]',
].join('\n')

/** `now`: Unix seconds. */
export const createKeyCommand = (now: () => number): Command => ({
  name: 'key',
  summary: 'list, add, retire and remove the keys that sign tokens',
  usage: USAGE_TEXT,
  async run(argv, io) {
    const wrong = (problem: string): number => {
      io.err(`postern key: ${problem}`)
      io.err(`usage: ${USAGE_TEXT}`)
      return USAGE
    }
    let parsed
    try {
      parsed = parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
    } catch {
      return wrong('an option is unknown, or lacks its value')
    }
    const { values } = parsed
    const [name = '', ...kids] = parsed.positionals
    const isList = name === 'list'
    const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined
    if (!verb && !isList) return wrong('list, add, retire or remove?')
    const allowed: ReadonlySet<string> = new Set(['config', ...(verb?.options ?? ['json'])])
    const odd = Object.keys(values).find((option) => !allowed.has(option))
    if (odd !== undefined) return wrong(`--${odd} has no meaning here`)
    if (kids.length !== (verb?.takesKid === true ? 1 : 0)) {
      return wrong(verb?.takesKid === true ? 'name one key' : `${name} takes no name`)
    }
    const alg = values.alg ?? 'HS256'
    if (!isAlgorithm(alg)) return wrong(`--alg is one of ${ALGORITHMS.join(', ')}`)
    try {
      const config = loadConfig(values.config ?? CONFIG_FILE)
      const asked: Asked = {
        config,
        kid: kids[0] ?? '',
        values: { ...values, alg },
        now: now(),
        life: Math.max(config.softphone.accessTtl, config.mikopbx.accessTtl),
      }
      return verb ? await change(verb, asked, io) : await list(asked, io)
    } catch (error) {
      if (error instanceof LockError) {
        io.err(`postern key: ${error.message}`)
        return IO_FAILED
      }
      /* c8 ignore next: a bug, for main.ts to show */
      if (!(error instanceof ConfigError)) throw error
      for (const problem of error.problems) io.err(problem)
      return BAD_CONFIG
    }
  },
})

export const key = createKeyCommand(systemClock.now)

const change = async (verb: Verb, asked: Asked, io: Io): Promise<number> => {
  const { config } = asked
  const edit = await underLock(config.stateDirectory, (text) => verb.edit(text, asked))
  if ('refused' in edit) {
    io.err(`${asked.kid}: ${explain(edit)}`)
    return REFUSED
  }
  io.out(verb.done(edit.kid, asked))
  return tellReload(config.listen.control, io)
}

const underLock = async <Result extends object>(
  directory: string,
  edit: (text: string) => Result,
): Promise<Result> => {
  const lock = `${keysFile(directory)}.lock`
  let release
  try {
    release = await lockFile(lock)
  } catch (error) {
    if (error instanceof LockError) throw error
    const { code = 'unknown' } = error as NodeJS.ErrnoException
    throw new ConfigError([`${lock}: cannot be made (${code}): run this as root (sudo)`])
  }
  try {
    return await editKeys(directory, edit)
  } finally {
    release()
  }
}

const list = async ({ config, life, values }: Asked, io: Io): Promise<number> => {
  const { rows } = await editKeys(config.stateDirectory, (text) => ({ rows: listKeys(text, life) }))
  if (values.json === true) io.out(JSON.stringify(rows))
  else for (const line of formatKeys(rows)) io.out(line)
  return OK
}

const formatKeys = (rows: readonly KeyRow[]): string[] =>
  formatTable([
    ['KID', 'ALG', 'STATE', 'CREATED', 'RETIRED', 'LAST TOKEN GONE'],
    ...rows.map(({ kid, alg, state, created, retired, gone }) => [
      kid,
      alg,
      state,
      ...[created, retired, gone].map((at) => (at === undefined ? '-' : timeText(at))),
    ]),
  ])
