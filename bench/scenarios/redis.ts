// What one Redis carries: its processor time for each of the adapter's verbs, for the hosts that watch it, and the
// memory that a session takes there and in the embedded store.

import { randomBytes } from 'node:crypto'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts'
import { type Place, until } from '../place.ts'
import { processorSeconds } from '../processor.ts'
import { type Durability, openRedis, type Redis } from '../redis-server.ts'
import type { Scenario } from '../scenario.ts'
import { interleave, median, spread } from '../statistics.ts'
import { sessionOf, type StoreJob, type StoreReport, type Verb } from '../store-client.ts'
import { bytes, micros, percent, ratio, round, type Table } from '../table.ts'

const CLIENT = join(import.meta.dirname, '..', 'store-client.ts')
const CLIENTS = 2
const SESSIONS = 100_000
const TO_END = 8000 // sessions that each client of a logout run has to end
const TO_REFRESH = 500
const FILL_LIMIT = 300 // seconds that a client may take to make its sessions
const AT_ONCE = 64
const HOSTS = 50

interface Ran {
  perSecond: number
  /** Seconds of Redis' processor for one. */
  cost: number
  done: number
}

const run = async (
  place: Place,
  redis: Redis,
  job: Omit<StoreJob, 'url' | 'hosts'> & { hosts?: number },
  clients: number,
): Promise<Ran> => {
  const whole: StoreJob = { hosts: 1, ...job, url: redis.url }
  const argv = [process.execPath, CLIENT, JSON.stringify(whole)]
  const parts = Array.from({ length: clients }, () => place.start('client', 'front', argv))
  for (const part of parts) await until(part, () => part.said().includes('ready\n'), FILL_LIMIT)
  const before = processorSeconds(redis.pid)
  for (const { child } of parts) child.kill('SIGUSR2')
  const codes = await Promise.all(parts.map(({ ended }) => ended))
  const used = processorSeconds(redis.pid) - before
  if (codes.some((code) => code !== 0)) {
    throw new Error(`${job.verb}: ${parts.map((part) => part.said()).join('')}`)
  }
  const reports = parts.map((part) => {
    const [, text = ''] = part.said().split('ready\n')
    return JSON.parse(text) as StoreReport
  })
  const done = reports.reduce((sum, report) => sum + report.done, 0)
  const perSecond = reports.reduce((sum, report) => sum + report.done / report.seconds, 0)
  return { perSecond, cost: used / done, done }
}

const VERBS: readonly (readonly [verb: Verb, name: string])[] = [
  ['login', 'login (throttle, number, session)'],
  ['renew', 'refresh, token kept'],
  ['rotate', 'refresh, token rotated'],
  ['logout', 'logout'],
]

/** Processor time and rate of each verb, by how safe the server is. */
const measureVerbs = async (
  place: Place,
  { seconds, rounds, scale }: { seconds: number; rounds: number; scale: number },
): Promise<{ table: Table; values: Record<string, number> }> => {
  const kinds: readonly Durability[] = ['no', 'everysec', 'always']
  const variants: { verb: Verb; name: string; kind: Durability; redis: Redis }[] = []
  for (const kind of kinds) {
    const redis = await openRedis(place, kind)
    for (const [verb, name] of VERBS) variants.push({ verb, name, kind, redis })
  }
  const toEnd = Math.max(200, Math.round(TO_END * scale))
  const found = await interleave(variants, rounds, ({ verb, redis }) => {
    const most = verb === 'logout' ? toEnd : verb === 'renew' || verb === 'rotate' ? TO_REFRESH : 0
    return run(place, redis, { verb, seconds, most }, CLIENTS)
  })
  const of = (verb: Verb, kind: Durability): readonly Ran[] =>
    [...found].find(([one]) => one.verb === verb && one.kind === kind)?.[1] ?? []
  const values: Record<string, number> = {}
  const rows = VERBS.map(([verb, name]) => {
    const cells = kinds.flatMap((kind) => {
      const ran = of(verb, kind)
      const cost = median(ran.map((one) => one.cost))
      values[
        `${verb}${kind === 'no' ? 'Memory' : kind === 'always' ? 'Always' : 'Everysec'}Seconds`
      ] = cost
      return [round(median(ran.map(({ perSecond }) => perSecond))), micros(cost)]
    })
    const plain = of(verb, 'no')
    const safe = of(verb, 'always')
    const against = safe.map(
      ({ perSecond }, at) => perSecond / (plain[at]?.perSecond ?? Number.NaN),
    )
    return [
      name,
      ...cells,
      `± ${percent(spread(safe.map(({ cost }) => cost)))}`,
      ratio(median(against)),
    ]
  })
  const table: Table = {
    title: `One Redis on one core, ${CLIENTS} clients on the other, each with ${AT_ONCE} calls under way`,
    columns: [
      'verb of the store',
      'memory alone: a second',
      'Redis µs',
      'everysec: a second',
      'Redis µs',
      'always: a second',
      'Redis µs',
      'spread',
      'always ÷ memory',
    ],
    rows,
    notes: [
      `${rounds} interleaved rounds of ${seconds} s. The clients share a core and are what limits "a second"; what Redis itself could do is 1,000,000 ÷ µs.`,
    ],
  }
  return { table, values }
}

const measureHosts = async (
  place: Place,
  { seconds, rounds }: { seconds: number; rounds: number },
): Promise<{ table: Table; perHost: number }> => {
  const redis = await openRedis(place, 'everysec', { name: 'redis-hosts' })
  const duration = Math.max(seconds, 0.5) * 2
  const found = await interleave([0, HOSTS, 2 * HOSTS], rounds, async (hosts) => {
    if (hosts === 0) {
      const before = processorSeconds(redis.pid)
      await pause(duration * 1000)
      return (processorSeconds(redis.pid) - before) / duration
    }
    const ran = await run(place, redis, { verb: 'watch', seconds: duration, most: 0, hosts }, 1)
    return (ran.cost * ran.done) / duration
  })
  const idle = median(found.get(0) ?? [])
  const rows = [...found].map(([hosts, parts]) => {
    const part = median(parts)
    const each = hosts === 0 ? '' : percent((part - idle) / hosts)
    return [String(hosts), percent(part), `± ${percent(spread(parts))}`, each]
  })
  return {
    table: {
      title: 'Hosts that only watch: 16 shards, PING and INFO each second',
      columns: ['hosts', 'of a core of Redis', 'spread', 'each host'],
      rows,
      notes: [`${rounds} interleaved rounds of ${duration} s.`],
    },
    perHost: (median(found.get(2 * HOSTS) ?? []) - idle) / (2 * HOSTS),
  }
}

const measureRoom = async (
  place: Place,
  scale: number,
): Promise<{ table: Table; inRedis: number; inSqlite: number }> => {
  const count = Math.max(1000, Math.round(SESSIONS * scale))
  const redis = await openRedis(place, 'everysec', { name: 'redis-room' })
  const before = await redis.info('used_memory')
  const filled = await run(
    place,
    redis,
    { verb: 'enter', seconds: 600, most: Math.round(count / CLIENTS) },
    CLIENTS,
  )
  const inRedis = ((await redis.info('used_memory')) - before) / filled.done
  const file = join(place.folder('sqlite'), 'store.db')
  const store = await openSqliteStore(file)
  let next = 0
  const startedAt = performance.now()
  const enter = async (): Promise<void> => {
    while (next < count) {
      const username = `softphone-${next++}`
      const userId = await store.identify(username)
      const sid = randomBytes(16).toString('hex')
      await store.openSession(sessionOf(sid, username, userId), randomBytes(32), 50)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, enter))
  const perSecond = count / ((performance.now() - startedAt) / 1000)
  await store.close()
  const inSqlite = statSync(file).size / count
  return {
    table: {
      title: `${count.toLocaleString('en-US')} sessions, one a user`,
      columns: ['what', 'each', 'written a second'],
      rows: [
        ['a session in Redis, memory', bytes(inRedis), round(filled.perSecond)],
        ['a session in SQLite, file', bytes(inSqlite), round(perSecond)],
      ],
      notes: [],
    },
    inRedis,
    inSqlite,
  }
}

export const redis: Scenario = {
  name: 'redis',
  explain: 'what one Redis carries: each verb, hosts that watch it, memory for a session',
  async run(place, effort) {
    const verbs = await measureVerbs(place, effort)
    const hosts = await measureHosts(place, effort)
    const room = await measureRoom(place, effort.scale)
    return {
      tables: [verbs.table, hosts.table, room.table],
      values: {
        ...verbs.values,
        perHost: hosts.perHost,
        sessionBytes: room.inRedis,
        sqliteSessionBytes: room.inSqlite,
      },
    }
  },
}
