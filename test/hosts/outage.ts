// One outage of the store as one host lives through it: what checks, logins, refreshes, logouts, /readyz, metrics
// and the log say before, while and after. The faults are injected for real; this only watches.

import { setTimeout as pause } from 'node:timers/promises'
import type { Test } from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import type { Reply } from '../nginx/ask.ts'
import { type Bed, HEALS_WITHIN, type Host, inOneOfThree, STALE } from './bed.ts'
import { type Answered, inWords, lateOnes, startLoad } from './load.ts'

export interface Fault {
  readonly name: string
  strike(bed: Bed, host: Host): unknown
  /** Resolves when the store could be used again. */
  heal(bed: Bed, host: Host): unknown
  /** What the log says of it: once. */
  readonly says: RegExp
  /** Seconds in which the store, though struck, still takes what it is asked; 0. */
  readonly noticedWithin?: number
  /** What Redis goes on to do, whole, since it takes no room. */
  readonly stillDone?: readonly string[]
}

const ANSWER_WITHIN = 1000 // milliseconds: four questions to the store, none of which waits longer than 0.25 s
const SLACK = 150 // milliseconds between a decision and our clock
const POLL = 1 // seconds between readings
const PER_SECOND = 50

interface Said {
  readonly what: string
  readonly at: number
  readonly took: number
  readonly status: number
  readonly retryAfter: string | undefined
}

const timed = async (what: string, asked: () => Promise<Reply>): Promise<Said> => {
  const at = performance.now()
  const { status, headers } = await asked()
  return { what, at, took: performance.now() - at, status, retryAfter: headers['retry-after'] }
}

const describe = ({ at, status, reason, took }: Answered, struckAt: number): string =>
  `${Math.round(at - struckAt)} ms after: ${status} ${reason} in ${Math.round(took)} ms`

/** What was wrong is failed here; what was only late is given back. */
const suffer = async (t: Test, bed: Bed, host: Host, fault: Fault): Promise<string[]> => {
  const { access, refresh } = await host.login()
  const leaver = await host.login()
  const gone = await host.login()
  t.equal(await host.logout(gone.access), 200)
  t.equal(await host.check(gone.access), '401 session_ended')
  const linesBefore = host.storeLines().length
  const good = startLoad(t, host.socket, () => access, PER_SECOND)
  const ended = startLoad(t, host.socket, () => gone.access, PER_SECOND)
  await pause(300)

  const struckAt = performance.now()
  await fault.strike(bed, host)
  const struckBy = performance.now()
  const said: Said[] = []
  while (performance.now() < struckBy + (STALE + 1.2) * 1000) {
    const asked = [
      timed('login', () => host.tryLogin()),
      timed('refresh', () => host.refresh(refresh)),
      timed('logout', () => host.logoutOf(leaver.access)),
    ]
    said.push(...(await Promise.all(asked)))
    await pause(150)
  }
  t.equal(await host.ready(), 503, 'it says that it is not ready')
  t.equal(await host.metric('postern_store_state{state="ok"}'), 0)
  t.equal(await host.metric('postern_store_state{state="away"}'), 1)
  t.ok((await host.metric('postern_store_age_seconds')) >= STALE)
  t.equal(await host.check(gone.access), '401 session_ended', 'what it knows it goes on to refuse')

  const healing = performance.now()
  await fault.heal(bed, host)
  const healedAt = performance.now()
  await until('it decides again', async () => (await host.check(access)) === '204')
  const decidesAt = performance.now()
  await until('it says so', async () => (await host.ready()) === 200)
  await until('in its log too', () => /in step/.test(host.storeLines().at(-1) ?? ''))
  const readyAt = performance.now()
  await pause(300)
  const [goods, endeds] = [await good.stop(), await ended.stop()]

  const wrong = (answers: readonly Answered[], isWrong: (one: Answered) => boolean): string[] =>
    answers.filter(isWrong).map((one) => describe(one, struckAt))
  t.same(
    wrong(endeds, ({ status }) => status !== 401),
    [],
    'a token known to be revoked is never let in',
  )
  t.same(
    wrong(goods, ({ status }) => status !== 204 && status !== 503),
    [],
    'a good token is allowed, or not decided about',
  )
  t.same(
    wrong(
      goods,
      ({ at, took, status }) =>
        at > struckBy + STALE * 1000 + SLACK && at + took < healing && status !== 503,
    ),
    [],
    'after stale_seconds they do not',
  )
  const known = struckBy + (fault.noticedWithin ?? 0) * 1000
  t.same(
    said.filter(({ what, at, status, retryAfter }) => {
      if (at < known || fault.stillDone?.includes(what) === true) return false
      return status !== 503 || retryAfter === undefined
    }),
    [],
    'who needs the store is told to come again, and nothing else',
  )
  if (said.some(({ what, status }) => what === 'logout' && status === 200)) {
    t.equal(
      await host.check(leaver.access),
      '401 session_ended',
      'a logout that was confirmed counts',
    )
  }
  t.notOk(
    said.some(({ status }) => status === 401),
    'never that a token is bad',
  )

  const lines = host.storeLines().slice(linesBefore)
  t.ok(
    lines.some((line) => fault.says.test(line)),
    lines.join(' | '),
  )
  t.notOk(
    lines.some((line) => line.includes('lost data')),
    'nothing was lost',
  )
  t.equal((await patiently(() => host.refresh(refresh))).status, 200, 'the session lives on')

  const took = [...goods, ...endeds].map((one) => one.took)
  t.comment(`${took.length} checks: ${inWords(took)}`)
  t.comment(`login, refresh, logout: ${inWords(said.map((one) => one.took))}`)
  t.comment(
    `decides ${Math.round(decidesAt - healedAt)} ms, ready ${Math.round(readyAt - healedAt)} ms after`,
  )
  const late = [
    ...lateOnes([...goods, ...endeds]),
    ...wrong(
      goods,
      ({ at, status }) => at < struckAt + (STALE - POLL) * 1000 - 2 * SLACK && status !== 204,
    ).map((one) => `at first checks did not go on from memory: ${one}`),
    ...wrong(goods, ({ at, status }) => at > decidesAt && status !== 204).map(
      (one) => `it did not decide again: ${one}`,
    ),
  ]
  for (const { what, took: ms } of said) {
    if (ms > ANSWER_WITHIN) late.push(`a ${what}: ${Math.round(ms)} ms`)
  }
  // A busy machine's Redis is silent now and then, which is a second fault that comes in between.
  if (lines.length > new Set(lines).size) late.push(`said twice: ${lines.join(' | ')}`)
  if (readyAt - healedAt > HEALS_WITHIN * 1000) {
    late.push(`healed after ${Math.round(readyAt - healedAt)} ms`)
  }
  return late
}

export const sufferAll = async (
  t: Test,
  bed: Bed,
  host: Host,
  faults: readonly Fault[],
): Promise<void> => {
  for (const fault of faults) {
    await t.test(fault.name, async (t) => {
      await inOneOfThree(t, 'in time', () => suffer(t, bed, host, fault))
    })
  }
}
