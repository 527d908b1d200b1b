// `postern key`: the keys that sign, in the key file of the state directory. The running daemon is told at
// once. No part of a key but its public half is ever printed.

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
import type { Config } from '../config/config.ts'
import { editKeys, keysFile } from '../config/keys-file.ts'
import { loadConfig } from '../config/load.ts'
import { lockFile } from '../files/lock-file.ts'
import { asOwner } from '../files/owner.ts'
import { type Command, verb } from './command.ts'
import { type Io, OK, REFUSED, Stop, WrongUsage } from './io.ts'
import { tellReload } from './reload.ts'
import { formatTable, timeText } from './table.ts'

const isAlgorithm = (text: string): text is Algorithm =>
  (ALGORITHMS as readonly string[]).includes(text)

const REFUSALS: Readonly<Record<'unknown_key' | 'last_key' | 'retired_already', string>> = {
  unknown_key: 'no such key: see `postern key list`',
  last_key: 'no other key can sign: add one first (`postern key add`)',
  retired_already: 'the key is already retired: see `postern key list`',
}

const explain = (edit: Exclude<KeyEdit, { text: string }>): string => {
  if (edit.refused !== 'alive') return REFUSALS[edit.refused]
  return edit.gone === undefined
    ? `the key is not retired: access tokens and tickets signed with it would stop working at once, and clients would have to refresh; retire it first, or give --yes`
    : `access tokens signed with the key may be valid until ${timeText(edit.gone)}: they and tickets signed with it would stop working at once, and clients would have to refresh; wait, or give --yes`
}

const underLock = async <Result extends object>(
  directory: string,
  edit: (text: string) => Result,
): Promise<Result> => {
  const release = await lockFile(`${keysFile(directory)}.lock`)
  try {
    return await editKeys(directory, edit)
  } finally {
    release()
  }
}

const formatKeys = (rows: readonly KeyRow[]): string =>
  formatTable([
    ['KID', 'ALG', 'STATE', 'CREATED', 'RETIRED', 'LAST TOKEN GONE'],
    ...rows.map(({ kid, alg, state, created, retired, gone }) => [
      kid,
      alg,
      state,
      ...[created, retired, gone].map((at) => (at === undefined ? '-' : timeText(at))),
    ]),
  ])

/** Changes the key file, says what was done and tells the daemon. `done` gets the key's id. */
const change = async (
  config: Config,
  edit: (text: string) => KeyEdit,
  done: (kid: string) => string,
  io: Io,
): Promise<number> => {
  const { directory } = config.state
  const edited = await asOwner(keysFile(directory), () => underLock(directory, edit))
  if ('refused' in edited) throw new Stop(REFUSED, explain(edited))
  io.out(done(edited.kid))
  await tellReload(config.listen.control, io)
  return OK
}

/** How long an access token lives at most. */
const lifeOf = ({ softphone, mikopbx }: Config): number =>
  Math.max(softphone.accessTtl, mikopbx.accessTtl)

/** `now`: Unix seconds. */
export const createKeyCommand = (now: () => number): Command => ({
  name: 'key',
  summary: 'list, add, retire and remove the keys that sign tokens',
  verbs: {
    list: verb({
      options: { json: true, config: '[FILE]' },
      async run({ values: { json }, file }, io) {
        const config = loadConfig(file)
        const read = (text: string) => ({ rows: listKeys(text, lifeOf(config)) })
        const { directory } = config.state
        const { rows } = await asOwner(keysFile(directory), () => editKeys(directory, read))
        io.out(json ? JSON.stringify(rows) : formatKeys(rows))
        return OK
      },
    }),
    add: verb({
      options: { alg: `[${ALGORITHMS.join('|')}]`, standby: true, config: '[FILE]' },
      run({ values: { alg = 'HS256', standby }, file }, io) {
        if (!isAlgorithm(alg)) throw new WrongUsage(`--alg is one of ${ALGORITHMS.join(', ')}`)
        const what = standby
          ? 'it verifies, and signs once the keys before it are retired'
          : 'it signs from now on; retire the one before'
        return change(
          loadConfig(file),
          (text) => addKey(text, alg, standby, now()),
          (kid) => `${kid} added: ${what}`,
          io,
        )
      },
    }),
    retire: verb({
      operands: ['KID'],
      options: { config: '[FILE]' },
      run({ operands: [kid], file }, io) {
        const config = loadConfig(file)
        const at = now()
        return change(
          config,
          (text) => retireKey(text, kid, at),
          () =>
            `${kid} retired: it no longer signs; its last access token expires at ${timeText(at + lifeOf(config))}`,
          io,
        )
      },
    }),
    remove: verb({
      operands: ['KID'],
      options: { yes: true, config: '[FILE]' },
      run({ operands: [kid], values: { yes }, file }, io) {
        const config = loadConfig(file)
        return change(
          config,
          (text) => removeKey(text, kid, { force: yes, life: lifeOf(config), now: now() }),
          () => `${kid} removed: access tokens signed with it are no longer accepted`,
          io,
        )
      },
    }),
  },
})

export const key = createKeyCommand(systemClock.now)
