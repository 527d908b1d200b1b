// The list of live streams as text, a line for each thing that happened; of two lines about one stream the later counts.
// A line that says nothing we know is a newer version's. What is no JSON, or a stream without all it needs, is damage.

import type { Subscription } from './subscription.ts'

const TEXTS = [
  'kick',
  'sid',
  'username',
  'role',
  'resource',
  'address',
  'agent',
  'kid',
  'worker',
] as const
const NUMBERS = ['userId', 'startedAt', 'until'] as const
/** Absent in a kicked stream's line. The last two have the form of the cutter's lines: a longer one ends all orders. */
const MAYBE = {
  number: /^/,
  action: /^/,
  connection: /^[0-9A-Fa-f.:]{2,45} \d{1,5} [0-9A-Fa-f.:]{2,45} \d{1,5}$/,
  cookie: /^[0-9a-f]{1,16}$/,
} as const
const MEMBERS = [...TEXTS, ...NUMBERS, ...Object.keys(MAYBE)]

const toLine = (value: object): string => `${JSON.stringify(value)}\n`

/** `of`: whose streams they are. */
export const headLine = (of: string): string => toLine({ of })
export const openedLine = (stream: Subscription): string => `${JSON.stringify(stream, MEMBERS)}\n`
export const closedLine = (closed: readonly string[]): string => toLine({ closed })
/** What is remembered of nginx's processes. */
export const nginxLine = (nginx: object): string => toLine({ nginx })

export interface Lines {
  /** Undefined where no list begins there. */
  of: string | undefined
  streams: Map<string, Subscription>
  nginx: unknown
  isDamaged: boolean
}

const isStream = (
  value: object & { [name: string]: unknown },
): value is Subscription & typeof value =>
  TEXTS.every((name) => typeof value[name] === 'string') &&
  NUMBERS.every((name) => Number.isSafeInteger(value[name])) &&
  (value['connection'] === undefined) === (value['cookie'] === undefined) &&
  Object.entries(MAYBE).every(
    ([name, form]) =>
      value[name] === undefined || (typeof value[name] === 'string' && form.test(value[name])),
  )

export const readLines = (text: string): Lines => {
  const found: Lines = { of: undefined, streams: new Map(), nginx: undefined, isDamaged: false }
  const lines = text.split('\n').slice(0, -1) // a kill can tear the last one, which nobody was answered for
  for (const line of lines) {
    try {
      const said = Object(JSON.parse(line)) as { [name: string]: unknown }
      const { of, kick, closed, nginx } = said as Record<
        'of' | 'kick' | 'closed' | 'nginx',
        unknown
      >
      if (typeof of === 'string') found.of = of
      if (nginx !== undefined) found.nginx = nginx
      if (Array.isArray(closed)) for (const one of closed) found.streams.delete(String(one))
      if (kick === undefined) continue
      if (isStream(said)) found.streams.set(said.kick, said)
      else found.isDamaged = true
    } catch {
      found.isDamaged = true
    }
  }
  found.isDamaged ||= found.of === undefined
  return found
}
