// `postern machine-key`: the long-lived, scoped credentials of programs. The key is made here and printed once; the
// running daemon, which keeps them in the store, gets its hash alone.

import {
  createMachineKey,
  hashMachineKey,
  isMachineKeyName,
  parseMachineGrants,
} from '../auth/machine-key.ts'
import { systemClock } from '../clock.ts'
import { loadConfig } from '../config/load.ts'
import type { MachineKeyView } from '../daemon/machine-key-operations.ts'
import { findNetworkProblem } from '../config/networks.ts'
import { type Command, verb } from './command.ts'
import { askRunning } from './control-client.ts'
import { type Io, OK, REFUSED, Stop, WrongUsage } from './io.ts'
import { formatTable, timeText } from './table.ts'

const ask = (
  file: string,
  method: 'GET' | 'POST',
  path: string,
  asked?: Readonly<Record<string, unknown>>,
) => askRunning(loadConfig(file).listen.control, 'machine keys', method, path, asked)

const readName = (name: string): string => {
  if (isMachineKeyName(name)) return name
  throw new WrongUsage(
    'NAME is up to 40 of a-z, 0-9, . _ and -, begins with a letter or digit, and not with key_',
  )
}

const readList = (option: string, text: string): readonly string[] => {
  const parts = text.split(',').map((part) => part.trim())
  const list = parts.filter((part) => part !== '')
  if (list.length > 0) return list
  throw new WrongUsage(`${option}: name at least one`)
}

const readGrants = (text: string): readonly string[] => {
  const grants = readList('--grants', text)
  const read = parseMachineGrants(grants)
  if ('problem' in read) throw new WrongUsage(`--grants: ${read.problem}`)
  return grants
}

const readNetworks = (text: string): readonly string[] => {
  const networks = readList('--from', text)
  const problem = networks.map(findNetworkProblem).find((one) => one !== undefined)
  if (problem !== undefined) throw new WrongUsage(`--from: ${problem}`)
  return networks
}

const UNITS = { m: 60, h: 3600, d: 86_400 } as const

const DATE = /^(2\d{3}-\d\d-\d\d)(?:T\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:\d\d))?$/

/** `2027-01-31`, an instant with its zone, or a time from now; undefined where it is left out. */
const readInstant = (option: string, text: string | undefined, now: number): number | undefined => {
  if (text === undefined) return undefined
  const [, count, unit] = /^(\d{1,5})([mhd])$/.exec(text) ?? []
  const [, day = ''] = DATE.exec(text) ?? []
  // 30 February is the second of March to Date.parse.
  const isDay = Number(day.slice(-2)) === new Date(day).getUTCDate()
  const at =
    count === undefined
      ? Date.parse(isDay ? text : '') / 1000
      : now + Number(count) * UNITS[unit as keyof typeof UNITS]
  if (at > now) return at
  throw new WrongUsage(
    `${option}: write a date to come (2030-01-31, in UTC), an instant (2030-01-31T18:00Z) or a time from now (30m, 12h, 90d)`,
  )
}

const orNever = (at: number | null): string => (at === null ? 'never' : timeText(at))

const COLUMNS: readonly (readonly [heading: string, cell: (key: MachineKeyView) => string])[] = [
  ['NAME', ({ name }) => name],
  ['ID', ({ id }) => id],
  ['STATE', ({ state }) => state],
  ['LAST USED', ({ used_at: at }) => orNever(at)],
  ['FROM', ({ used_from: from }) => from || '-'],
  ['STREAMS', ({ streams }) => String(streams)],
  ['CREATED', ({ created_at: at }) => timeText(at)],
  ['EXPIRES', ({ expires_at: at }) => orNever(at)],
  ['NETWORKS', ({ from }) => from.join(',') || 'any'],
  ['GRANTS', ({ grants }) => grants.join(',')],
]

const show = (keys: readonly MachineKeyView[]): string =>
  keys.length === 0
    ? 'there are no machine keys'
    : formatTable([
        COLUMNS.map(([heading]) => heading),
        ...keys.map((key) => COLUMNS.map(([, cell]) => cell(key))),
      ])

/** The key alone on stdout, so that a script can take it; what to do with it on stderr. */
const print = (key: string, words: string, io: Io): number => {
  io.out(key)
  io.err(`${words} It is shown once and kept nowhere: it goes into \`Authorization: Bearer\`.`)
  return OK
}

/** `now`: Unix seconds. */
export const createMachineKeyCommand = (now: () => number): Command => ({
  name: 'machine-key',
  summary: 'add, list, rotate and remove the keys of programs',
  notes: [
    "GRANT is action:pattern, as of a role, or ticket:USER for tickets in a user's name; several go with commas",
    'DATE is 2030-01-31, 2030-01-31T18:00Z, or a time from now: 30m, 12h, 90d',
  ],
  verbs: {
    list: verb({
      options: { json: true, config: '[FILE]' },
      async run({ values: { json }, file }, io) {
        const { keys } = (await ask(file, 'GET', '/machine-keys')) as { keys: MachineKeyView[] }
        io.out(json ? JSON.stringify(keys) : show(keys))
        return OK
      },
    }),
    add: verb({
      operands: ['NAME'],
      options: { grants: 'GRANT,…', from: '[CIDR,…]', expires: '[DATE]', config: '[FILE]' },
      async run({ operands: [name], values: { grants, from, expires }, file }, io) {
        const key = createMachineKey()
        const asked = {
          name: readName(name),
          hash: hashMachineKey(key),
          grants: readGrants(grants),
          from: from === undefined ? [] : readNetworks(from),
          until: readInstant('--expires', expires, now()),
        }
        const { added } = await ask(file, 'POST', '/machine-keys/add', asked)
        if (added !== true) {
          throw new Stop(REFUSED, `${name}: has a key already: rotate it, or remove it first`)
        }
        return print(key, `${name} added.`, io)
      },
    }),
    rotate: verb({
      operands: ['NAME'],
      options: { 'old-until': '[DATE]', config: '[FILE]' },
      async run({ operands: [name], values: { 'old-until': until }, file }, io) {
        const key = createMachineKey()
        const oldUntil = readInstant('--old-until', until, now())
        const asked = { name: readName(name), hash: hashMachineKey(key), old_until: oldUntil }
        const { old } = await ask(file, 'POST', '/machine-keys/rotate', asked)
        if (typeof old !== 'string') throw new Stop(REFUSED, `${name}: no such machine key: add it`)
        const end =
          oldUntil === undefined
            ? `until it is removed: postern machine-key remove ${old}`
            : `until ${timeText(oldUntil)}`
        return print(key, `${name} has a new key; the old one works ${end}.`, io)
      },
    }),
    remove: verb({
      operands: ['NAME|ID'],
      options: { config: '[FILE]' },
      async run({ operands: [which], file }, io) {
        const { removed } = await ask(file, 'POST', '/machine-keys/remove', { which })
        if (removed === 0)
          throw new Stop(REFUSED, 'no such machine key: see `postern machine-key list`')
        io.out(`${which}: ${removed === 1 ? 'removed' : `removed, ${String(removed)} keys`}`)
        return OK
      },
    }),
  },
})

export const machineKey = createMachineKeyCommand(systemClock.now)
