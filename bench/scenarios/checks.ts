// What the daemon itself pays for a check, by the kind of token: over its socket, with the headers that the shipped
// nginx files send.

import { drive, requestText } from '../load.ts'
import {
  CHECK,
  CHECK_HEADERS,
  createMint,
  login,
  openPostern,
  type Postern,
  spoil,
} from '../postern.ts'
import { processorSeconds } from '../processor.ts'
import type { Scenario } from '../scenario.ts'
import { interleave, median, spread } from '../statistics.ts'
import { micros, percent, ratio, round } from '../table.ts'

const TOKENS = 1010
const CONNECTIONS = 8
export const CHECK_REQUEST = requestText('GET', CHECK, {
  ...CHECK_HEADERS,
  Authorization: 'Bearer @@',
})

export const checks: Scenario = {
  name: 'checks',
  explain: 'the daemon alone: remembered tokens, tokens seen for the first time, bad ones',
  async run(place, { seconds, rounds }) {
    const postern = await openPostern(place)
    // A memory of 2 × 100 verdicts and a thousand tokens in turn: each is always a new one.
    const settings = '[checks]\nverdict_cache = 100'
    const forgetful = await openPostern(place, { name: 'forgetful', settings })
    const tokensOf = async (one: Postern): Promise<string[]> =>
      createMint(one, (await login(one, 'u0')).access)(TOKENS)
    const tokens = await tokensOf(postern)
    const fresh = await tokensOf(forgetful)
    const garbage = tokens.map((_, index) => `no-token-at-all-${index}`)
    const mixed = tokens.map((token, index) => (index % 101 === 100 ? spoil(token) : token))
    const variants = [
      { name: 'a remembered token', on: postern, credentials: tokens, status: '204' },
      { name: 'the same with 1 % bad ones', on: postern, credentials: mixed, status: '204' },
      { name: 'a token seen for the first time', on: forgetful, credentials: fresh, status: '204' },
      { name: 'a bad token, again', on: postern, credentials: tokens.map(spoil), status: '401' },
      {
        name: 'a bad token for the first time',
        on: forgetful,
        credentials: fresh.map(spoil),
        status: '401',
      },
      { name: 'something that is no token', on: forgetful, credentials: garbage, status: '401' },
    ]
    const measure = async (
      { name, on, credentials, status }: (typeof variants)[number],
      duration: number,
    ): Promise<{ perSecond: number; cost: number }> => {
      const before = processorSeconds(on.pid)
      const report = await drive(place, {
        to: on.http,
        connections: CONNECTIONS,
        seconds: duration,
        template: CHECK_REQUEST,
        credentials,
      })
      const cost = (processorSeconds(on.pid) - before) / report.requests
      if ((report.statuses[status] ?? 0) < report.requests * 0.9) {
        throw new Error(`${name}: ${JSON.stringify(report.statuses)}`)
      }
      return { perSecond: report.requests / report.seconds, cost }
    }
    for (const one of variants) await measure(one, Math.min(seconds, 1))
    const found = await interleave(variants, rounds, (one) => measure(one, seconds))
    const [first = []] = [...found.values()]
    const costs = [...found].map(([{ name }, samples]) => {
      const own = samples.map(({ cost }) => cost)
      return {
        name,
        cost: median(own),
        width: spread(own),
        against: median(own.map((one, index) => one / (first[index]?.cost ?? Number.NaN))),
        perSecond: median(samples.map(({ perSecond }) => perSecond)),
      }
    })
    const costOf = (name: string): number => costs.find((one) => one.name === name)?.cost ?? 0
    return {
      tables: [
        {
          title: 'The daemon on one core, asked over its socket',
          columns: ['credential', 'Postern µs', 'spread', '÷ remembered', 'asked/s'],
          rows: costs.map(({ name, cost, width, against, perSecond }) => [
            name,
            micros(cost),
            `± ${percent(width)}`,
            ratio(against),
            round(perSecond),
          ]),
          notes: [
            `${rounds} interleaved rounds of ${seconds} s, ${CONNECTIONS} connections; asked/s is what our generator on the other core asked, not what the daemon could answer: that is 1,000,000 ÷ µs.`,
          ],
        },
      ],
      values: {
        rememberedSeconds: costOf('a remembered token'),
        firstSeenSeconds: costOf('a token seen for the first time'),
        badSeconds: costOf('a bad token for the first time'),
      },
    }
  },
}
