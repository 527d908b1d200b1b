// What a check costs: pieces of a recording through nginx, protected in several ways, and the daemon asked directly.

import { ask } from '../ask.ts'
import { freePort } from '../free-port.ts'
import { generator, get, type Got } from '../load.ts'
import { type Peers, openPeers } from '../peers.ts'
import { type Part, until } from '../place.ts'
import {
  BROWSER_HEADERS,
  CHECK,
  CHECK_HEADERS,
  createMint,
  login,
  openPostern,
  spoil,
} from '../postern.ts'
import { processorSeconds } from '../processor.ts'
import type { Scenario } from '../scenario.ts'
import { openSite, RECORDING } from '../site.ts'
import { interleave, median, spread } from '../statistics.ts'
import { micros, percent, ratio, round, type Table } from '../table.ts'

const TOKENS = 1000
const BAD = 10 // of a thousand and ten
const MOST_REFUSED = 0.02
const CONNECTIONS = 8

interface Variant {
  name: string
  port: number
  path: string
  headers: Readonly<Record<string, string>>
  tokens: readonly string[]
  /** nginx's worker; none where the backend is asked directly. */
  front: number[]
  back: number[]
}

export interface Sample extends Got {
  perSecond: number
  /** Seconds of the processor for one request. */
  front: number
  back: number
}

/** Seconds in which every token is verified and the compiler is done; not where nobody looks at the numbers. */
export const warmUp = (seconds: number): number => (seconds < 1 ? seconds : 3)

export const sample = async (
  place: Parameters<typeof get>[0],
  { port, path, headers, tokens, front, back }: Omit<Variant, 'name'>,
  seconds: number,
  connections = CONNECTIONS,
): Promise<Sample> => {
  const before = [processorSeconds(...front), processorSeconds(...back)] as const
  const got = await get(place, { port, path, headers, tokens, connections, seconds })
  const after = [processorSeconds(...front), processorSeconds(...back)] as const
  if (got.requests === 0 || got.broken > got.requests / 100) {
    throw new Error(`${path}: ${got.broken} of ${got.requests} answers did not come`)
  }
  // A way that lets nobody in, or asks nobody, would look fast. Few requests may hold no bad token, or some more.
  if (got.refused > got.requests * MOST_REFUSED + BAD) {
    throw new Error(`${path}: ${got.refused} of ${got.requests} were refused`)
  }
  return {
    ...got,
    perSecond: got.requests / got.seconds,
    front: (after[0] - before[0]) / got.requests,
    back: (after[1] - before[1]) / got.requests,
  }
}

const tableOf = (
  title: string,
  found: ReadonlyMap<Variant, readonly Sample[]>,
  compared: readonly (readonly [title: string, baseline: string])[],
  notes: readonly string[],
): Table => {
  const rates = (name: string): number[] =>
    [...found].find(([variant]) => variant.name === name)?.[1].map((one) => one.perSecond) ?? []
  const behind = [...found.keys()].some(({ front }) => front.length > 0)
  const rows = [...found].map(([{ name, front, back }, samples]) => {
    const own = samples.map((one) => one.perSecond)
    const against = compared.map(([, baseline]) => {
      const other = rates(baseline)
      return ratio(median(own.map((rate, index) => rate / (other[index] ?? Number.NaN))))
    })
    return [
      name,
      round(median(own)),
      `± ${percent(spread(own))}`,
      ...against,
      ...(behind ? [front.length > 0 ? micros(median(samples.map((one) => one.front))) : ''] : []),
      back.length > 0 ? micros(median(samples.map((one) => one.back))) : '',
      round(median(samples.map((one) => one.p99 * 1000))),
    ]
  })
  return {
    title,
    columns: [
      'way',
      'requests/s',
      'spread',
      ...compared.map(([name]) => name),
      ...(behind ? ['nginx µs'] : []),
      'backend µs',
      'p99 ms',
    ],
    rows,
    notes,
  }
}

export const check: Scenario = {
  name: 'check',
  explain: 'a check behind nginx and asked directly, against static files and bare node:http',
  async run(place, { seconds, rounds, peers: withPeers }) {
    const [barePort, answeringPort, directPort] = [
      await freePort(),
      await freePort(),
      await freePort(),
    ]
    const [bareSocket, answeringSocket] = [place.at('bare.sock'), place.at('answering.sock')]
    const startBare = async (...addresses: string[]): Promise<Part> => {
      const program = `${import.meta.dirname}/../bare.ts`
      const part = place.start('bare', 'back', [process.execPath, program, ...addresses])
      await until(part, () =>
        ask(addresses.at(-1) ?? '', '/').then(
          () => true,
          () => false,
        ),
      )
      return part
    }
    const bare = await startBare(String(barePort), bareSocket)
    const answering = await startBare('--answers', String(answeringPort), answeringSocket)
    const postern = await openPostern(place)
    const direct = await openPostern(place, { name: 'direct', port: directPort })
    const tokensOf = async (one: typeof postern): Promise<string[]> => {
      const tokens = createMint(one, (await login(one, 'u0')).access)(TOKENS + BAD)
      // Spread among the others, as they come.
      return tokens.map((token, index) => (index % 101 === 100 ? spoil(token) : token))
    }
    const [tokens, directTokens] = [await tokensOf(postern), await tokensOf(direct)]
    const peers: Peers = withPeers
      ? await openPeers(place)
      : { found: [], skipped: 'other products are measured with --peers, which fetches them' }
    const site = await openSite(place, {
      postern: [String(postern.http)],
      compared: {
        bare_tcp: { address: `127.0.0.1:${barePort}` },
        bare_unix: { address: `unix:${bareSocket}` },
        bare_lean: { address: `unix:${bareSocket}`, lean: true },
        answering: { address: `unix:${answeringSocket}`, lean: true },
        ...Object.fromEntries(
          peers.found.map(({ id, port }) => [id, { address: `127.0.0.1:${port}` }]),
        ),
      },
    })
    const behind = (name: string, path: string, back: number[], own = tokens): Variant => ({
      name,
      port: site.port,
      path: `${path}${RECORDING}`,
      headers: BROWSER_HEADERS,
      tokens: own,
      front: [site.worker],
      back,
    })
    const variants = [
      behind('static file, no check', '/static/', []),
      behind('bare `node:http`, TCP', '/bare_tcp/', [bare.pid]),
      behind('bare `node:http`, unix', '/bare_unix/', [bare.pid]),
      behind('bare `node:http`, unix, the same few headers', '/bare_lean/', [bare.pid]),
      behind('the same, answering with as many', '/answering/', [answering.pid]),
      behind('**Postern**, as shipped', '/pbxcore/softphone/recordings/', [postern.pid]),
      ...peers.found.map((peer) =>
        behind(peer.name, `/${peer.id}/`, [peer.part.pid], peer.tokens(TOKENS + BAD)),
      ),
    ]
    const asked = (name: string, port: number, pid: number, own = directTokens): Variant => ({
      name,
      port,
      path: name === '**Postern**' ? CHECK : '/check',
      headers: CHECK_HEADERS,
      tokens: own,
      front: [],
      back: [pid],
    })
    const directly = [
      asked('bare `node:http`', barePort, bare.pid),
      asked('the same, answering with as many headers', answeringPort, answering.pid),
      asked('**Postern**', directPort, direct.pid),
      ...peers.found.map((peer) =>
        asked(peer.name, peer.port, peer.part.pid, peer.tokens(TOKENS + BAD)),
      ),
    ]
    // Once without counting: every token is verified, the file is in memory.
    for (const one of [...variants, ...directly]) await sample(place, one, warmUp(seconds))
    const found = await interleave(variants, rounds, (one) => sample(place, one, seconds))
    const foundDirectly = await interleave(directly, rounds, (one) => sample(place, one, seconds))
    const of = (
      all: ReadonlyMap<Variant, readonly Sample[]>,
      start: string,
      value: (one: Sample) => number,
    ): number => median([...all].find(([{ name }]) => name.startsWith(start))?.[1].map(value) ?? [])
    const means = `${rounds} interleaved rounds of ${seconds} s, ${CONNECTIONS} connections, by ${generator(seconds)}; ${TOKENS} tokens and 1 % bad ones.`
    return {
      tables: [
        tableOf(
          '64 KiB pieces of a recording through nginx (one worker)',
          found,
          [
            ['÷ static', 'static file, no check'],
            ['÷ bare TCP', 'bare `node:http`, TCP'],
          ],
          [means, ...(peers.skipped === undefined ? [] : [`Left out: ${peers.skipped}.`])],
        ),
        tableOf(
          'The check asked directly over TCP, without nginx',
          foundDirectly,
          [['÷ bare', 'bare `node:http`']],
          [means],
        ),
      ],
      values: {
        nginxSeconds: of(found, '**Postern', (one) => one.front),
        staticSeconds: of(found, 'static', (one) => one.front),
        posternSeconds: of(found, '**Postern', (one) => one.back),
        bareSeconds: of(found, 'bare `node:http`, unix, the same', (one) => one.back),
        behindPerSecond: of(found, '**Postern', (one) => one.perSecond),
        directSeconds: of(foundDirectly, '**Postern', (one) => one.back),
        directPerSecond: of(foundDirectly, '**Postern', (one) => one.perSecond),
      },
    }
  },
}
