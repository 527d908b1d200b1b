// One and three daemons behind one nginx, on one Redis: what a check costs in each, and how soon the end of a session
// is known to the others.

import { setTimeout as pause } from 'node:timers/promises'

import { ask } from '../ask.ts'
import { generator } from '../load.ts'
import {
  BASE,
  BROWSER_HEADERS,
  CHEAP,
  CHECK,
  CHECK_HEADERS,
  createMint,
  login,
  openPostern,
  type Postern,
} from '../postern.ts'
import { processorSeconds } from '../processor.ts'
import { openRedis } from '../redis-server.ts'
import type { Scenario } from '../scenario.ts'
import { openShared } from '../shared.ts'
import { openSite, RECORDING, type Site } from '../site.ts'
import { interleave, median, spread } from '../statistics.ts'
import { micros, milliseconds, percent, ratio, round } from '../table.ts'
import { sample, warmUp } from './check.ts'

const TOKENS = 1000
const MANY = 8
const FEW = 3
const OTHERS = 2
const LATE = 3000 // milliseconds: twice what the bound promises

interface Variant {
  name: string
  site: Site
  daemons: readonly Postern[]
  tokens: string[]
  connections: number
}

const statusAt = async (one: Postern, token: string): Promise<number> =>
  (
    await ask(one.http, CHECK, {
      headers: { ...CHECK_HEADERS, Authorization: `Bearer ${token}` },
    })
  ).status

/** Seconds from the answer to a logout until another daemon refuses the token. */
const propagation = async (first: Postern, other: Postern, user: string): Promise<number> => {
  const { access } = await login(first, user)
  if ((await statusAt(other, access)) !== 204) throw new Error('another daemon refuses a new token')
  const headers = { Authorization: `Bearer ${access}` }
  await ask(first.http, `${BASE}/auth/logout`, { method: 'POST', headers })
  const startedAt = performance.now()
  while ((await statusAt(other, access)) !== 401) {
    if (performance.now() - startedAt > LATE) throw new Error('a logout did not reach another host')
    await pause(0.2)
  }
  return (performance.now() - startedAt) / 1000
}

export const instances: Scenario = {
  name: 'instances',
  explain: 'one and three daemons on one Redis behind one nginx',
  async run(place, { seconds, rounds, scale }) {
    const redis = await openRedis(place, 'everysec')
    const state = place.folder('shared-state')
    const alone = await openPostern(place, { name: 'alone', cost: CHEAP })
    const shared: Postern[] = []
    for (const name of ['one', 'two', 'three']) {
      const kick = place.at('nginx-three.sock')
      shared.push(await openShared(place, redis, { name, state, kick, cost: CHEAP }))
    }
    const [first = alone, ...others] = shared
    const variant = async (
      name: string,
      folder: string,
      daemons: readonly Postern[],
      mint: Postern,
    ): Promise<Variant> => ({
      name,
      connections: MANY,
      daemons,
      site: await openSite(place, {
        name: folder,
        postern: daemons.map(({ http }) => String(http)),
      }),
      tokens: createMint(mint, (await login(mint, 'u0')).access)(TOKENS),
    })
    const one = await variant('one, sessions in Redis', 'nginx-one', [first], first)
    const variants = [
      await variant('one, sessions in SQLite', 'nginx-alone', [alone], alone),
      one,
      // As many at once as each of three has: it tells a daemon that is asked less from one that is not alone.
      { ...one, name: `one, sessions in Redis, ${FEW} connections`, connections: FEW },
      await variant('three, sessions in Redis', 'nginx-three', shared, first),
    ]
    const measure = async ({ site, daemons, tokens, connections }: Variant, duration: number) => {
      const before = processorSeconds(redis.pid)
      const taken = await sample(
        place,
        {
          port: site.port,
          path: `/pbxcore/softphone/recordings/${RECORDING}`,
          headers: BROWSER_HEADERS,
          tokens,
          front: [site.worker],
          back: daemons.map(({ pid }) => pid),
        },
        duration,
        connections,
      )
      return { ...taken, redis: (processorSeconds(redis.pid) - before) / taken.seconds }
    }
    for (const one of variants) await measure(one, warmUp(seconds))
    const found = await interleave(variants, rounds, (one) => measure(one, seconds))
    const [baseline = []] = [...found.values()]
    const rows = [...found].map(([{ name }, samples]) => {
      const rates = samples.map(({ perSecond }) => perSecond)
      const costs = samples.map(({ back }) => back)
      return [
        name,
        round(median(rates)),
        `± ${percent(spread(rates))}`,
        micros(median(samples.map(({ front }) => front))),
        micros(median(costs)),
        ratio(median(costs.map((cost, at) => cost / (baseline[at]?.back ?? Number.NaN)))),
        percent(median(samples.map((one) => one.redis))),
      ]
    })
    const delays: number[] = []
    const tries = Math.max(3, Math.round(20 * scale))
    for (let at = 0; at < tries; at++) {
      for (const other of others) delays.push(await propagation(first, other, `u${at + 1}`))
    }
    const [, oneFound = [], , three = []] = [...found.values()]
    return {
      tables: [
        {
          title: 'Daemons behind one nginx, all of them on one core',
          columns: [
            'daemons',
            'requests/s',
            'spread',
            'nginx µs',
            'Postern µs, all together',
            '÷ the first',
            'Redis, of a core',
          ],
          rows,
          notes: [
            `${rounds} interleaved rounds of ${seconds} s, ${MANY} connections unless said, by ${generator(seconds)}; ${TOKENS} remembered tokens.`,
            `On two cores three daemons cannot answer more than one. To be seen is that Redis has nothing to do with a check, and what a check costs in each. Where that is more with three: the row with ${FEW} connections has the part that comes from being asked less at a time, which stays on hosts of their own; what the rest is cannot be told on two cores.`,
          ],
        },
        {
          title: 'From the answer to a logout until another daemon refuses the token',
          columns: ['', 'median', 'the longest'],
          rows: [
            [
              `${tries} logouts, ${OTHERS} other daemons`,
              milliseconds(median(delays)),
              milliseconds(Math.max(...delays)),
            ],
          ],
          notes: [],
        },
      ],
      values: {
        oneSeconds: median(oneFound.map(({ back }) => back)),
        threeSeconds: median(three.map(({ back }) => back)),
        logoutSeconds: median(delays),
      },
    }
  },
}
