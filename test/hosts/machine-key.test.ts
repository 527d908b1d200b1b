// A machine key that is removed on one host, as both enforce it: in checks, of which fifty come each second, and in streams.

import t from 'tap'

import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask } from '../nginx/ask.ts'
import { endsWithin, QUIET_WAYS } from '../nginx/live.ts'
import { type Host, inOneOfThree } from './bed.ts'
import { NEEDS_STREAMS, openWithStreams, STREAMS_WITHIN } from './enforced.ts'
import { startLoad } from './load.ts'

const WITHIN = 100 // milliseconds from the order to the first refusal
const ROUNDS = 3 // on each host

/** The first check that was refused, and the last that passed, in milliseconds after the order. */
const firstRefusal = (
  answers: readonly { at: number; took: number; status: number }[],
  orderedAt: number,
): { first: number; last: number } => {
  const refused = answers.filter(({ status }) => status === 401)
  const passed = answers.filter(({ status }) => status === 204)
  return {
    first: Math.min(...refused.map(({ at, took }) => at + took)) - orderedAt,
    last: Math.max(...passed.map(({ at }) => at)) - orderedAt,
  }
}

void t.test('a key removed on one host is dead on both', NEEDS_STREAMS, async (t) => {
  const { a, b, nginx } = await openWithStreams(t)
  const add = async (host: Host): Promise<string> => {
    const { code, out, err } = await host.postern(
      'machine-key',
      'add',
      'board',
      '--grants',
      'subscribe:room-*,read:recordings/**',
    )
    if (code !== 0) throw new Error(err)
    return out
  }
  const remove = (host: Host) =>
    ask(0, '/machine-keys/remove', {
      socket: host.place.at('control.sock'),
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ which: 'board' }),
    })
  const [toRefuse, toClose]: number[][] = [[], []]

  const round = async (host: Host): Promise<readonly string[]> => {
    const key = await add(host)
    const streams = []
    for (const [, open] of QUIET_WAYS) {
      streams.push(await open(t, nginx.port, 'room-quiet', { Authorization: `Bearer ${key}` }))
    }
    const loads = [a, b].map(({ socket }) => startLoad(t, socket, () => key))
    await new Promise((resolve) => setTimeout(resolve, 300))
    const elapsed = startStopwatch()
    const orderedAt = performance.now()
    const removed = remove(host)
    const took = await endsWithin(streams, STREAMS_WITHIN, elapsed)
    const { status, body } = await removed
    t.same([status, JSON.parse(body)], [200, { removed: 1 }])
    await new Promise((resolve) => setTimeout(resolve, WITHIN))
    const seen = await Promise.all(loads.map((load) => load.stop()))
    const late: string[] = []
    for (const answers of seen) {
      t.same(
        answers.filter(({ status }) => status !== 204 && status !== 401),
        [],
        'each check is decided',
      )
      t.ok(answers.some(({ status }) => status === 204))
      const { first, last } = firstRefusal(answers, orderedAt)
      toRefuse?.push(first)
      if (first > WITHIN) late.push(`first refusal after ${Math.round(first)} ms`)
      if (last > WITHIN) late.push(`a check that was asked ${Math.round(last)} ms later passed`)
    }
    toClose?.push(took)
    if (took > STREAMS_WITHIN) late.push(`streams closed after ${Math.round(took)} ms`)
    t.same([await a.check(key), await b.check(key)], ['401 session_ended', '401 session_ended'])
    return late
  }

  await inOneOfThree(t, 'within 100 ms, streams within 500', async () => {
    const late: string[] = []
    for (let n = 0; n < ROUNDS; n++) late.push(...(await round(a)), ...(await round(b)))
    return late
  })
  const words = (all: readonly number[] = []): string =>
    `slowest ${Math.round(Math.max(...all))} ms, median ${Math.round(all.toSorted((x, y) => x - y)[all.length >> 1] ?? 0)} ms`
  t.comment(`first refusal after the order: ${words(toRefuse)}; streams closed: ${words(toClose)}`)

  const left = await add(a)
  t.equal(await b.check(left), '204', 'its name is free again, on both')
  await b.daemon().end('SIGKILL')
  t.equal((await remove(a)).status, 200)
  await b.start()
  t.equal(await b.check(left), '401 session_ended', 'who was away then hears of it at the start')
})
