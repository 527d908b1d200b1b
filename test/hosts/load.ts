// Checks at a steady pace over one daemon's socket, each with its answer and how long it took. A check that was
// never answered is written down as well. It must never wait for an answer before it asks the next.

import { Agent, request } from 'node:http'
import type { Test } from 'tap'

import { CHECK, checkHeaders } from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

export interface Answered {
  /** Milliseconds of performance.now() at which it was asked. */
  readonly at: number
  readonly took: number
  /** What of that nobody but the daemon took: neither the machine nor this process, asleep or busy. */
  readonly its: number
  /** 0: no answer. */
  readonly status: number
  readonly reason: string
}

export interface Load {
  readonly answers: readonly Answered[]
  /** Stops asking; resolves when all have been answered. */
  stop(): Promise<readonly Answered[]>
}

const PATIENCE = 60_000
const TICK = 5 // milliseconds

/** The longest pause of this process since it was asked last; kept for as long as somebody asks. */
const watchPauses = (t: Test): ((since: number) => number) => {
  const pauses: { at: number; length: number }[] = []
  let last = performance.now()
  const tick = (): void => {
    const now = performance.now()
    if (now - last > 4 * TICK) pauses.push({ at: now, length: now - last })
    last = now
  }
  const timer = setInterval(tick, TICK)
  t.teardown(() => clearInterval(timer))
  return (since) => {
    tick()
    return Math.max(0, ...pauses.filter(({ at }) => at > since).map(({ length }) => length))
  }
}

/** Asks over connections that are kept, as nginx does. */
export const createAsker = (
  t: Test,
  socketPath: string,
): ((token: string) => Promise<Answered>) => {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const pauseSince = watchPauses(t)
  t.teardown(() => agent.destroy())
  return (token) =>
    new Promise((resolve) => {
      const at = performance.now()
      const elapsed = startStopwatch()
      const done = (status: number, reason: string): void => {
        const { took, ours } = elapsed()
        resolve({ at, took, its: Math.min(ours, took - pauseSince(at)), status, reason })
      }
      request({
        socketPath,
        path: CHECK,
        agent,
        headers: checkHeaders(token),
        signal: AbortSignal.timeout(PATIENCE),
      })
        .on('response', (response) => {
          const reason = String(response.headers['x-auth-reason'] ?? '')
          response.resume().on('end', () => done(Number(response.statusCode), reason))
        })
        .on('error', ({ message }) => done(0, message))
        .end()
    })
}

/** `token` is asked for before each check. */
export const startLoad = (
  t: Test,
  socketPath: string,
  token: () => string,
  perSecond = 50,
): Load => {
  const ask = createAsker(t, socketPath)
  const answers: Answered[] = []
  const underWay = new Set<Promise<void>>()
  const startedAt = performance.now()
  let asked = 0
  const timer = setInterval(() => {
    // By the clock, not by the ticks: after a pause of this process what is due is asked at once.
    const due = ((performance.now() - startedAt) / 1000) * perSecond
    for (; asked < due; asked++) {
      const answer = ask(token()).then((one) => {
        answers.push(one)
        underWay.delete(answer)
      })
      underWay.add(answer)
    }
  }, 1000 / perSecond)
  const halt = (): void => clearInterval(timer)
  t.teardown(halt)
  return {
    answers,
    async stop() {
      halt()
      await Promise.all(underWay)
      return answers.toSorted((one, two) => one.at - two.at)
    },
  }
}

const CHECK_WITHIN = 200 // milliseconds
const SHARE = 0.01 // of the checks may be later: the machine is not ours alone

/** What came too late, unless so few did that it says nothing; none: all in time. */
export const lateOnes = (answers: readonly Answered[]): string[] => {
  const late = answers.filter(({ its }) => its > CHECK_WITHIN)
  if (late.length <= answers.length * SHARE) return []
  return late.map(
    ({ took, its, status, reason }) =>
      `a check: ${status} ${reason} in ${Math.round(took)} ms, ${Math.round(its)} of them its own`,
  )
}

/** Of numbers: the one that so many percent of them do not exceed. */
export const percentile = (numbers: readonly number[], percent: number): number => {
  const sorted = numbers.toSorted((one, two) => one - two)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? NaN
}

export const inWords = (numbers: readonly number[]): string =>
  [50, 99, 100]
    .map(
      (percent) =>
        `${percent === 100 ? 'max' : `p${percent}`} ${percentile(numbers, percent).toFixed(1)} ms`,
    )
    .join(', ')
