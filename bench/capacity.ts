// The arithmetic of docs/capacity.md: what one instance, three and one Redis carry, and what a million softphones need.
// Every number is measured or named as assumed; it must never hold a number that is neither.

import { bytes, duration, micros, milliseconds, percent, round, type Table } from './table.ts'

/** Scenario → its numbers. */
export type Values = Readonly<Record<string, Readonly<Record<string, number>>>>

export const ASSUMED = {
  phones: 1_000_000,
  tokenLife: 3600,
  /** Of its life, after which a phone refreshes. */
  refreshAt: 0.8,
  streams: 3,
  /** Of a phone in a day. */
  recordings: 5,
  pieces: 20,
  busyHours: 8,
  reconnects: 1,
  hosts: 10,
  threads: 8,
} as const

const DAY = 86_400

type Read = (scenario: string, value: string) => number

const createRead =
  (values: Values): Read =>
  (scenario, value) =>
    values[scenario]?.[value] ?? Number.NaN

const GIB = 1024 ** 3

const carried = (read: Read): Table => {
  const each = (scenario: string, value: string): number => 1 / read(scenario, value)
  const server = (verb: string): string => round(each('redis', `${verb}AlwaysSeconds`))
  const row = (what: string, one: number, redis: string, limit: string): string[] => [
    what,
    round(one),
    round(one * 3),
    redis,
    limit,
  ]
  const streams = GIB / read('subscriptions', 'nginxBytes')
  return {
    title: 'What is carried, a second',
    columns: ['what', 'one instance', 'three instances', 'one Redis', 'what limits it next'],
    rows: [
      row('checks, remembered token', each('checks', 'rememberedSeconds'), 'not asked', 'nginx'),
      row('checks, new token', each('checks', 'firstSeenSeconds'), 'not asked', 'the signature'),
      row(
        'pieces of a recording, one nginx worker each',
        each('check', 'nginxSeconds'),
        'not asked',
        'more workers, then the network',
      ),
      row(
        'logins, one hashing thread each',
        read('login', 'perSecondOneThread'),
        server('login'),
        'argon2id: more threads on more cores',
      ),
      [
        'refreshes, token kept, in SQLite',
        round(each('refresh', 'sqliteKeptSeconds')),
        '',
        '',
        'SQLite belongs to one instance',
      ],
      row(
        'refreshes, token kept, in Redis',
        each('refresh', 'alwaysKeptSeconds'),
        server('renew'),
        'the daemon, then Redis',
      ),
      row(
        'refreshes, token rotated, in Redis',
        each('refresh', 'alwaysRotatedSeconds'),
        server('rotate'),
        'the daemon, then Redis',
      ),
      row('streams opened', each('subscriptions', 'posternSeconds'), '', 'the daemon'),
      row('streams ended', read('subscriptions', 'kicksPerSecond'), '', 'nginx: a request each'),
      row('live streams (not a second: for 1 GiB each)', streams, '', 'memory of the nginx host'),
    ],
    notes: [
      'A core of its own for each daemon, each nginx worker and Redis, which is then at 100 %: plan for half. Where a processor is the limit it is 1,000,000 ÷ µs; Redis with `appendfsync always`.',
    ],
  }
}

const million = (read: Read): Table => {
  const { phones, tokenLife, refreshAt, streams, recordings, pieces } = ASSUMED
  const { busyHours, reconnects, hosts } = ASSUMED
  const refreshes = phones / (tokenLife * refreshAt)
  const checks = (phones * recordings * pieces) / (busyHours * 3600)
  const opened = (phones * streams * reconnects) / DAY
  const perHost = (phones * streams) / hosts
  const onHost =
    (refreshes * read('refresh', 'alwaysKeptSeconds') +
      checks * read('checks', 'firstSeenSeconds') +
      opened * read('subscriptions', 'posternSeconds')) /
      hosts +
    read('subscriptions', 'lookSeconds') * 5
  const inNginx =
    (checks * read('check', 'nginxSeconds') + opened * read('subscriptions', 'nginxSeconds')) /
    hosts
  const inRedis = refreshes * read('redis', 'renewAlwaysSeconds') + hosts * read('redis', 'perHost')
  const memory = phones * read('redis', 'sessionBytes')
  return {
    title: `${phones.toLocaleString('en-US')} softphones on ${hosts} hosts, each with nginx, Nchan and one daemon, and one Redis`,
    columns: ['what', 'how it is reckoned', 'comes to'],
    rows: [
      [
        'refreshes',
        `${phones.toLocaleString('en-US')} ÷ (${tokenLife} s × ${refreshAt})`,
        `${round(refreshes)}/s`,
      ],
      [
        'checks for recordings',
        `${recordings} a day of ${pieces} pieces in ${busyHours} hours`,
        `${round(checks)}/s`,
      ],
      [
        'streams opened',
        `${streams} each, opened anew ${reconnects} time a day`,
        `${round(opened)}/s`,
      ],
      [
        'live streams of one host',
        `${phones.toLocaleString('en-US')} × ${streams} ÷ ${hosts}`,
        round(perHost),
      ],
      [
        'memory of nginx on one host',
        `× ${bytes(read('subscriptions', 'nginxBytes'))}`,
        bytes(perHost * read('subscriptions', 'nginxBytes')),
      ],
      [
        "the daemon's list on one host",
        `× ${bytes(read('subscriptions', 'listBytes'))}`,
        bytes(perHost * read('subscriptions', 'listBytes')),
      ],
      [
        'one look over that list, five a second',
        'measured',
        milliseconds(read('subscriptions', 'lookSeconds')),
      ],
      [
        'the daemon of one host, of a core',
        'refreshes, checks as if each token were new, streams, looks',
        percent(onHost),
      ],
      [
        'nginx of one host, of a core',
        'checks and streams, without the messages themselves',
        percent(inNginx),
      ],
      [
        'Redis, of its core',
        `refreshes × ${micros(read('redis', 'renewAlwaysSeconds'))} µs, ${hosts} hosts × ${percent(read('redis', 'perHost'))}`,
        percent(inRedis),
      ],
      ['memory of Redis', `sessions × ${bytes(read('redis', 'sessionBytes'))}`, bytes(memory)],
    ],
    notes: [],
  }
}

/** How long until all are in again; what is slowest says so. */
const powerCut = (read: Read): Table => {
  const { phones, streams, hosts } = ASSUMED
  const least = (limits: readonly (readonly [name: string, rate: number])[]) =>
    limits.toSorted(([, one], [, two]) => one - two)[0] ?? ['', Number.NaN]
  const row = (
    what: string,
    count: number,
    limits: readonly (readonly [name: string, rate: number])[],
  ): string[] => {
    const [name, rate] = least(limits)
    return [what, `${round(rate)}/s`, name, duration(count / rate)]
  }
  const logins = (threads: number): string[] =>
    row(`a login for each, ${threads} hashing threads on each host`, phones, [
      ['argon2id', hosts * threads * read('login', 'perSecondOneThread')],
      ['Redis', 1 / read('redis', 'loginAlwaysSeconds')],
    ])
  return {
    title: `After a power cut: all ${phones.toLocaleString('en-US')} come back at once, to ${hosts} hosts`,
    columns: ['what they do', 'goes at', 'limited by', 'until the last is in'],
    rows: [
      row('a refresh for each: their refresh tokens survived', phones, [
        ['daemons', hosts / read('refresh', 'alwaysKeptSeconds')],
        ['Redis', 1 / read('redis', 'renewAlwaysSeconds')],
      ]),
      row(`${streams} streams for each`, phones * streams, [
        ['daemons', hosts / read('subscriptions', 'posternSeconds')],
        ['nginx', hosts / read('subscriptions', 'nginxSeconds')],
      ]),
      logins(2),
      logins(ASSUMED.threads),
      logins(ASSUMED.threads * 4),
    ],
    notes: [
      'Refreshes and streams are one after the other here, as a daemon has one core for both.',
    ],
  }
}

export const reckon = (values: Values): readonly Table[] => {
  const read = createRead(values)
  return [carried(read), million(read), powerCut(read)]
}
