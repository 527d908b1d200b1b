// A login storm: fifty clients that log in as fast as they are let, and checks that go on meanwhile.

import type { Report } from '../generator.ts'
import { drive, requestText } from '../load.ts'
import type { Core } from '../place.ts'
import {
  BASE,
  CHEAP,
  createMint,
  login as logIn,
  LOGIN_HEADERS,
  loginBody,
  openPostern,
  type Postern,
} from '../postern.ts'
import { PROBE, probe } from '../probe.ts'
import { processorSeconds } from '../processor.ts'
import type { Scenario } from '../scenario.ts'
import { interleave, median, spread } from '../statistics.ts'
import { milliseconds, percent, ratio, round } from '../table.ts'

const CLIENTS = 50
const USER = 'u100' // each as long as the next: the length of the body is written before

const storm = requestText('POST', `${BASE}/auth/login`, LOGIN_HEADERS, loginBody(USER)).replace(
  USER,
  '@@',
)

interface Variant {
  name: string
  on: Postern
  tokens: readonly string[]
}

interface Sample {
  perSecond: number
  /** Seconds of the processor for one login. */
  cost: number
  idle: Report
  during: Report
}

export const login: Scenario = {
  name: 'login',
  explain: 'logins a second for each hashing thread, and checks during a login storm',
  async run(place, { seconds, rounds }) {
    const open = async (
      name: string,
      core: Core,
      workers: number,
      more: Parameters<typeof openPostern>[1] = {},
    ): Promise<Variant> => {
      const on = await openPostern(place, { name: `daemon-${name.length}`, core, workers, ...more })
      return { name, on, tokens: createMint(on, (await logIn(on, 'u0')).access)(100) }
    }
    const variants = [
      await open('one thread, one core', 'back', 1),
      await open('two threads, two cores', 'any', 2),
      await open('one thread, one core, the cheapest hash allowed', 'back', 1, { cost: CHEAP }),
    ]
    const measure = async ({ on, tokens }: Variant): Promise<Sample> => {
      const idle = await probe(place, on, tokens, seconds)
      const before = processorSeconds(on.pid)
      const [logins, during] = await Promise.all([
        drive(place, {
          to: on.http,
          connections: CLIENTS,
          seconds,
          template: storm,
          credentials: on.users.filter((user) => user.length === USER.length),
        }),
        probe(place, on, tokens, seconds),
      ])
      const done = logins.statuses['200'] ?? 0
      const used = processorSeconds(on.pid) - before
      const odd = Object.keys(logins.statuses).filter((status) => !/^(?:200|503)$/.test(status))
      if (done === 0 || odd.length > 0) throw new Error(JSON.stringify(logins.statuses))
      return {
        perSecond: (logins.requests - (logins.statuses['503'] ?? 0)) / logins.seconds,
        cost: used / done,
        idle,
        during,
      }
    }
    const found = await interleave(variants, rounds, measure)
    const rows = [...found].map(([{ name }, samples]) => {
      const rates = samples.map(({ perSecond }) => perSecond)
      return [
        name,
        round(median(rates)),
        `± ${percent(spread(rates))}`,
        milliseconds(median(samples.map(({ cost }) => cost))),
        milliseconds(median(samples.map(({ during }) => during.p50))),
        milliseconds(median(samples.map(({ idle }) => idle.p99))),
        milliseconds(median(samples.map(({ during }) => during.p99))),
        ratio(median(samples.map(({ idle, during }) => during.p99 / idle.p99))),
      ]
    })
    const [one = [], two = []] = [...found.values()]
    return {
      tables: [
        {
          title: `A login storm of ${CLIENTS} clients (argon2id, 19 MiB, two passes, unless said)`,
          columns: [
            'where hashes are made',
            'logins/s',
            'spread',
            'Postern, processor each',
            'check p50',
            'check p99 idle',
            'check p99 in the storm',
            '÷ idle',
          ],
          rows,
          notes: [`${rounds} interleaved rounds of ${seconds} s; ${PROBE}.`],
        },
      ],
      values: {
        perSecondOneThread: median(one.map(({ perSecond }) => perSecond)),
        perSecondTwoThreads: median(two.map(({ perSecond }) => perSecond)),
        loginSeconds: median(one.map(({ cost }) => cost)),
        checkP99: median(one.map(({ during }) => during.p99)),
      },
    }
  },
}
