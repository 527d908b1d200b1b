// Whose call a recording is of, as a CDR in SQLite says. A thread reads it; what it knows is in memory here, so that a
// check waits for nothing.

import { randomBytes } from 'node:crypto'
import { Worker } from 'node:worker_threads'

import type { Time } from '../clock.ts'
import { buildCallIndex, findParties, release } from './call-index.ts'
import type { CallSource } from './call-source.ts'
import type { CdrTerms } from './cdr-table.ts'
import type { FromCdrThread, ToCdrThread } from './cdr-thread.ts'

export interface CdrEvents {
  /** It has been read: for the first time, or after a problem. */
  onRead(recordings: number): void
  /** What was known stays. Once for each problem, which names its cure. */
  onProblem(problem: string): void
  /** It is read, and may not say what is meant. */
  onDoubt(doubt: string): void
}

export interface CdrState {
  /** Undefined: not read yet. */
  readonly recordings: number | undefined
  readonly problem: string | undefined
}

export interface Cdr extends CallSource {
  state(): CdrState
  close(): Promise<void>
}

const LOOK_EVERY = 0.5 // seconds: with the reading, a row is known within one second
/** Of what lives no longer than a slice. With V8's own limits the rows of a sweep would leave 130 MB behind. */
const LIMITS = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 48 }
const PATIENCE = 20 // looks, with a thread that has ended or does not answer

export const openCdr = (
  terms: CdrTerms,
  events: CdrEvents,
  clock: Pick<Time, 'every' | 'monotonic'>,
): Cdr => {
  const key = randomBytes(16).toString('hex')
  let older = buildCallIndex(key).finish().index
  let newest = buildCallIndex(key).finish().index
  let recordings: number | undefined
  let problem: string | undefined
  let doubts: ReadonlySet<string> = new Set()
  let isClosed = false
  let isLooking = false
  let looksWithout = 0

  const fail = (text: string): void => {
    if (text !== problem && !isClosed) events.onProblem(text)
    problem = text
  }
  const recover = (): void => {
    problem = undefined
    if (recordings !== undefined && !isClosed) events.onRead(recordings)
  }
  const take = (news: FromCdrThread): void => {
    if (news.looked) {
      if (looksWithout >= PATIENCE) recover()
      isLooking = false
      looksWithout = 0
    }
    if (news.problem !== undefined) fail(news.problem)
    if (!news.newest || isClosed) return
    if (news.older) {
      release(older)
      older = news.older
    }
    release(newest)
    newest = news.newest
    const isFirst = recordings === undefined || problem !== undefined
    recordings = news.recordings
    problem = undefined
    if (isFirst) events.onRead(recordings)
    for (const doubt of news.doubts) if (!doubts.has(doubt)) events.onDoubt(doubt)
    doubts = new Set(news.doubts)
  }

  const start = (): Worker => {
    const begun = new Worker(new URL('./cdr-worker.ts', import.meta.url), {
      workerData: { ...terms, key },
      execArgv: [],
      resourceLimits: LIMITS,
    })
    begun.on('message', take)
    begun.on('error', ({ message }) => {
      fail(
        `${terms.file}: the thread that reads it ended (${message}): it is begun again every ten seconds`,
      )
    })
    begun.on('exit', () => (worker = undefined))
    begun.unref()
    isLooking = false
    looksWithout = 0
    return begun
  }
  const say = (message: ToCdrThread): void => worker?.postMessage(message)

  let worker: Worker | undefined = start()
  const look = (): void => {
    if (!worker && ++looksWithout >= PATIENCE) worker = start()
    else if (isLooking && ++looksWithout === PATIENCE) {
      fail(`${terms.file}: a look at it has taken ten seconds, and goes on: mend its disk`)
    }
    if (!worker || isLooking) return
    isLooking = true
    say({ look: clock.monotonic() })
  }
  look()
  const stop = clock.every(LOOK_EVERY, look)

  return {
    name: 'cdr',
    partiesOf: (recording) => findParties([older, newest], key, recording),
    state: () => ({ recordings, problem }),
    async close() {
      isClosed = true
      stop()
      await worker?.terminate()
    },
  }
}
