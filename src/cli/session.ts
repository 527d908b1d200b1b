// `postern session`: who is logged in, who listens to what, and how either is ended. Only the running daemon
// knows: without it there is nothing to list and nothing to end.

import { loadConfig } from '../config/load.ts'
import type { SessionView } from '../daemon/session-view.ts'
import { type Command, verb } from './command.ts'
import { askRunning } from './control-client.ts'
import { OK, REFUSED, WrongUsage } from './io.ts'
import { formatTable, timeText } from './table.ts'

const formatSessions = (sessions: readonly SessionView[]): string => {
  if (sessions.length === 0) return 'nobody is logged in'
  const table = formatTable([
    ['SESSION', 'USER', 'SINCE', 'LAST SEEN', 'UNTIL', 'FROM', 'CLIENT'],
    ...sessions.map(({ id, username, created_at, last_seen_at, expires_at, address, agent }) => [
      id,
      username,
      ...[created_at, last_seen_at, expires_at].map(timeText),
      address,
      agent,
    ]),
  ])
  const streams = sessions.flatMap(({ id, username, subscriptions }) =>
    subscriptions.map(({ resource, since, until, address }) => [
      id,
      username,
      resource,
      timeText(since),
      timeText(until),
      address,
    ]),
  )
  if (streams.length === 0) return table
  const heading = ['LISTENING', 'USER', 'TO', 'SINCE', 'UNTIL', 'FROM']
  return `${table}\n\n${formatTable([heading, ...streams])}`
}

/** Exactly one of them, as the daemon's query: a slip must not end somebody else's sessions. */
const selectSessions = (id: string | undefined, user: string | undefined, all: boolean): string => {
  const chosen = [
    ...(id === undefined ? [] : [`id=${encodeURIComponent(id)}`]),
    ...(user === undefined ? [] : [`user=${encodeURIComponent(user)}`]),
    ...(all ? ['all=true'] : []),
  ]
  const [query] = chosen
  if (query !== undefined && chosen.length === 1) return query
  throw new WrongUsage('give one of: ID, --user NAME, --all')
}

const ask = (file: string, method: 'GET' | 'POST', path: string) =>
  askRunning(loadConfig(file).listen.control, 'sessions', method, path)

/** `end` and `kick`; `field` of the daemon's answer is how many it ended. */
const ending = (name: string, field: string, noun: string) =>
  verb({
    operands: ['[ID]'],
    options: { user: '[NAME]', all: true, config: '[FILE]' },
    async run({ operands: [id], values: { user, all }, file }, io) {
      const query = selectSessions(id, user, all)
      const count = Number((await ask(file, 'POST', `/sessions/${name}?${query}`))[field])
      io.out(`${count} ${noun}${count === 1 ? '' : 's'} ended`)
      // An id that names nothing is likely mistyped; "everybody" may well be nobody.
      return count === 0 && id !== undefined ? REFUSED : OK
    },
  })

export const session: Command = {
  name: 'session',
  summary: 'list and end sessions and live streams',
  notes: ['end and kick take one of ID, --user and --all; kick ends live streams, not the session'],
  verbs: {
    list: verb({
      options: { user: '[NAME]', json: true, config: '[FILE]' },
      async run({ values: { user, json }, file }, io) {
        const query = user === undefined ? '' : `?user=${encodeURIComponent(user)}`
        const { sessions } = (await ask(file, 'GET', `/sessions${query}`)) as {
          sessions: SessionView[]
        }
        io.out(json ? JSON.stringify(sessions) : formatSessions(sessions))
        return OK
      },
    }),
    end: ending('end', 'ended', 'session'),
    kick: ending('kick', 'kicked', 'stream'),
  },
}
