// Refreshes, with what a daemon keeps its sessions in: the embedded store, and Redis as safe and as fast as it goes.

import type { Report } from '../generator.ts'
import { drive, requestText } from '../load.ts'
import {
  BASE,
  CHEAP,
  createMint,
  login,
  openPostern,
  PBX,
  pbxLogin,
  type Postern,
} from '../postern.ts'
import { PROBE, probe } from '../probe.ts'
import { processorSeconds } from '../processor.ts'
import { openRedis, type Redis } from '../redis-server.ts'
import { type Scenario, Skip } from '../scenario.ts'
import { openShared } from '../shared.ts'
import { interleave, median, spread } from '../statistics.ts'
import { micros, milliseconds, percent, ratio, round } from '../table.ts'

const CONNECTIONS = 32
const SESSIONS = 200
const STORM = 500 // refreshes a second, as in the goal

const KEPT = requestText('POST', `${BASE}/auth/refresh`, { Authorization: 'Bearer @@' })
const ROTATED = requestText('POST', `${PBX}/auth:refresh`, { Cookie: 'refreshToken=@@' })
const NEXT = 'refreshToken=([^;]+)'

interface Variant {
  name: string
  on: Postern
  redis?: Redis
  rotates: boolean
  tokens: readonly string[]
  credentials: string[]
}

interface Sample {
  perSecond: number
  /** Of all, answered with 503: Redis was silent for a quarter of a second. */
  undecided: number
  postern: number
  redis: number
  idle: Report
  during: Report
}

const openVariants = async (
  name: string,
  on: Postern,
  redis: Redis | undefined,
  sessions: number,
): Promise<Variant[]> => {
  const users = on.users.slice(0, sessions)
  const kept: string[] = []
  const rotated: string[] = []
  let access = ''
  for (const user of users) {
    const one = await login(on, user)
    access = one.access
    kept.push(one.refresh)
    rotated.push(await pbxLogin(on, user))
  }
  const common = { on, tokens: createMint(on, access)(100), ...(redis && { redis }) }
  return [
    { ...common, name: `${name}, token kept`, rotates: false, credentials: kept },
    { ...common, name: `${name}, token rotated`, rotates: true, credentials: rotated },
  ]
}

export const refresh: Scenario = {
  name: 'refresh',
  explain: 'refreshes a second with SQLite and with Redis, and checks during a refresh storm',
  async run(place, { seconds, rounds, scale }) {
    const sessions = Math.max(40, Math.round(SESSIONS * scale))
    const notes: string[] = []
    const embedded = await openPostern(place, { name: 'embedded', cost: CHEAP })
    const variants = await openVariants(
      'SQLite, fsync for each commit',
      embedded,
      undefined,
      sessions,
    )
    for (const durability of ['always', 'everysec'] as const) {
      try {
        const redis = await openRedis(place, durability)
        const on = await openShared(place, redis, { name: durability, cost: CHEAP })
        const name = `Redis, appendfsync ${durability}`
        variants.push(...(await openVariants(name, on, redis, sessions)))
      } catch (error) {
        if (!(error instanceof Skip)) throw error
        notes.push(`Left out: ${error.message}.`)
        break
      }
    }
    const load = async (
      variant: Variant,
      more: { seconds: number; rate?: number },
    ): Promise<Report> => {
      const { on, rotates, credentials } = variant
      const report = await drive(place, {
        to: on.http,
        connections: CONNECTIONS,
        template: rotates ? ROTATED : KEPT,
        credentials,
        ...(rotates && { follow: NEXT }),
        ...more,
      })
      variant.credentials = report.credentials ?? credentials
      const { '200': done = 0, '503': undecided = 0 } = report.statuses
      if (done === 0 || done + undecided < report.requests) {
        throw new Error(`${variant.name}: ${JSON.stringify(report.statuses)}`)
      }
      return report
    }
    const measure = async (variant: Variant): Promise<Sample> => {
      const { on, redis, tokens } = variant
      const idle = await probe(place, on, tokens, seconds)
      const cost = (): [number, number] => [
        processorSeconds(on.pid),
        redis ? processorSeconds(redis.pid) : 0,
      ]
      const before = cost()
      const full = await load(variant, { seconds })
      const after = cost()
      const [, during] = await Promise.all([
        load(variant, { seconds, rate: STORM }),
        probe(place, on, tokens, seconds),
      ])
      const undecided = full.statuses['503'] ?? 0
      const done = Math.max(1, full.requests - undecided)
      return {
        perSecond: done / full.seconds,
        undecided: undecided / full.requests,
        postern: (after[0] - before[0]) / done,
        redis: (after[1] - before[1]) / done,
        idle,
        during,
      }
    }
    for (const one of variants) await load(one, { seconds: Math.min(seconds, 1) })
    const found = await interleave(variants, rounds, measure)
    const [first = []] = [...found.values()]
    const values: Record<string, number> = {}
    const rows = [...found].map(([{ name, redis, rotates }, samples]) => {
      const rates = samples.map(({ perSecond }) => perSecond)
      const rate = median(rates)
      const kind = `${redis ? (name.includes('always') ? 'always' : 'everysec') : 'sqlite'}${rotates ? 'Rotated' : 'Kept'}`
      values[`${kind}PerSecond`] = rate
      values[`${kind}Seconds`] = median(samples.map(({ postern }) => postern))
      values[`${kind}RedisSeconds`] = median(samples.map((one) => one.redis))
      return [
        name,
        round(rate),
        `± ${percent(spread(rates))}`,
        ratio(median(rates.map((one, at) => one / (first[at]?.perSecond ?? Number.NaN)))),
        micros(values[`${kind}Seconds`] ?? 0),
        redis ? micros(values[`${kind}RedisSeconds`] ?? 0) : '',
        percent(median(samples.map((one) => one.undecided))),
        milliseconds(median(samples.map(({ idle }) => idle.p99))),
        milliseconds(median(samples.map(({ during }) => during.p99))),
        ratio(median(samples.map(({ idle, during }) => during.p99 / idle.p99))),
      ]
    })
    return {
      tables: [
        {
          title: 'Refreshes by one daemon on one core, Redis on the same one',
          columns: [
            'sessions are kept in',
            'refreshes/s',
            'spread',
            '÷ the first',
            'Postern µs',
            'Redis µs',
            '503',
            'check p99 idle',
            `check p99 at ${STORM} refreshes/s`,
            '÷ idle',
          ],
          rows,
          notes: [
            `${rounds} interleaved rounds of ${seconds} s, ${CONNECTIONS} connections, ${sessions} sessions each; ${PROBE}.`,
            ...notes,
          ],
        },
      ],
      values,
    }
  },
}
