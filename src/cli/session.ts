// `postern session`: who is logged in, who is listening to what, and the end of it. Only the running daemon
// knows and can: without it there is nothing to list and nothing to end.

import { parseArgs } from 'node:util'

import { ConfigError } from '../config/config-error.ts'
import { CONFIG_FILE, loadConfig } from '../config/load.ts'
import { askDaemon } from './control-client.ts'
import { BAD_CONFIG, type Command, type Io, IO_FAILED, OK, REFUSED, USAGE } from './io.ts'
import { formatTable } from './table.ts'

const OPTIONS = {
  config: { type: 'string' },
  user: { type: 'string' },
  all: { type: 'boolean' },
  json: { type: 'boolean' },
} as const

interface Listed {
  id: string
  username: string
  dialect: string
  created_at: number
  expires_at: number
  last_seen_at: number
  address: string
  agent: string
  subscriptions: { resource: string; since: number; until: number; address: string }[]
}

const timeText = (seconds: number): string =>
  new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')

const formatSessions = (sessions: readonly Listed[]): string[] => [
  ...formatTable([
    ['SESSION', 'USER', 'SINCE', 'LAST SEEN', 'UNTIL', 'FROM', 'CLIENT'],
    ...sessions.map(({ id, username, created_at, last_seen_at, expires_at, address, agent }) => [
      id,
      username,
      ...[created_at, last_seen_at, expires_at].map(timeText),
      address,
      agent,
    ]),
  ]),
  ...listening(sessions),
]

const listening = (sessions: readonly Listed[]): string[] => {
  const rows = sessions.flatMap(({ id, username, subscriptions }) =>
    subscriptions.map(({ resource, since, until, address }) => [
      id,
      username,
      resource,
      timeText(since),
      timeText(until),
      address,
    ]),
  )
  return rows.length === 0
    ? []
    : ['', ...formatTable([['LISTENING', 'USER', 'TO', 'SINCE', 'UNTIL', 'FROM'], ...rows])]
}

/** The words after the verb as the daemon's query; undefined where nobody, or more than one, is meant. */
const readWhich = (
  ids: readonly string[],
  user: string | undefined,
  all: boolean,
): string | undefined => {
  const said = [ids.length > 0, user !== undefined, all].filter(Boolean).length
  if (said !== 1 || ids.length > 1) return undefined
  if (ids[0] !== undefined) return `id=${encodeURIComponent(ids[0])}`
  return user === undefined ? 'all=true' : `user=${encodeURIComponent(user)}`
}

const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`

export const session: Command = {
  name: 'session',
  summary: 'list and end sessions and live subscriptions',
  usage: [
    'postern session list [--user NAME] [--json]',
    '       postern session end ID | --user NAME | --all',
    '       postern session kick ID | --user NAME | --all   (ends live streams, not the session)',
    '       all of them: [--config FILE]',
  ].join('\n'),
  async run(argv, io) {
    const wrong = (problem: string): number => {
      io.err(`postern session: ${problem}`)
      io.err(`usage: ${session.usage}`)
      return USAGE
    }
    let parsed
    try {
      parsed = parseArgs({ args: [...argv], options: OPTIONS, allowPositionals: true })
    } catch {
      return wrong('an option is unknown, or lacks its value')
    }
    const { config, user, all = false, json = false } = parsed.values
    const [verb = '', ...ids] = parsed.positionals
    try {
      const socket = loadConfig(config ?? CONFIG_FILE).listen.control
      if (verb === 'list') {
        if (ids.length > 0 || all) return wrong('list takes --user and --json')
        return await list(socket, user, json, io)
      }
      if (verb !== 'end' && verb !== 'kick') return wrong('list, end or kick?')
      const which = readWhich(ids, user, all)
      if (which === undefined) return wrong('say one of: a session id, --user NAME, --all')
      return await act(socket, verb, which, io)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      for (const problem of error.problems) io.err(problem)
      return BAD_CONFIG
    }
  },
}

const ask = async (
  socket: string,
  method: 'GET' | 'POST',
  path: string,
  io: Io,
): Promise<Readonly<Record<string, unknown>> | number> => {
  const told = await askDaemon(socket, method, path)
  if (told === 'not_running') {
    io.err('postern session: the daemon is not running: start it, sessions are in its hands')
    return IO_FAILED
  }
  if ('problem' in told || told.status !== 200) {
    io.err(`postern session: ${'problem' in told ? told.problem : `it answered ${told.status}`}`)
    return IO_FAILED
  }
  return told.body as Readonly<Record<string, unknown>>
}

const list = async (
  socket: string,
  user: string | undefined,
  json: boolean,
  io: Io,
): Promise<number> => {
  const query = user === undefined ? '' : `?user=${encodeURIComponent(user)}`
  const body = await ask(socket, 'GET', `/sessions${query}`, io)
  if (typeof body === 'number') return body
  const sessions = body['sessions'] as Listed[]
  if (json) io.out(JSON.stringify(sessions))
  else if (sessions.length === 0) io.out('nobody is logged in')
  else for (const line of formatSessions(sessions)) io.out(line)
  return OK
}

const act = async (
  socket: string,
  verb: 'end' | 'kick',
  which: string,
  io: Io,
): Promise<number> => {
  const body = await ask(socket, 'POST', `/sessions/${verb}?${which}`, io)
  if (typeof body === 'number') return body
  const count = Number(body[verb === 'end' ? 'ended' : 'kicked'])
  io.out(verb === 'end' ? `${plural(count, 'session')} ended` : `${plural(count, 'stream')} ended`)
  // An id that names nothing is likely mistyped; "everybody" may well be nobody.
  return count === 0 && which.startsWith('id=') ? REFUSED : OK
}
