// Which workers nginx has, and whether one has died. A reload ends every stream; a death leaves streams on the other
// workers that go on hearing and that Nchan can never end (20 to 50 % of them, Nchan 1.3.6), until nginx is reloaded.

import { readFileSync } from 'node:fs'

import type { Time } from '../clock.ts'
import { createWorkerGuess } from './worker-guess.ts'

const EVERY = 1 // second between looks
const MOST_LOOKS = 3 // at processes that come and go: a reload is over by then, and workers may go on dying

/** The pids of nginx's unit, its master's too. None where there is no such file, or they are another namespace's. */
const readPids = (file: string): Set<string> => {
  try {
    return new Set(readFileSync(file, 'utf8').match(/^[1-9]\d*$/gm))
  } catch {
    return new Set()
  }
}

/** For doctor. */
export interface WorkersReport {
  /** A worker died, and the others are still those of then. */
  reloadDue: boolean
  /** nginx's processes cannot be read. */
  guessed: boolean
  /** Streams that were to be ended and may go on. */
  unsure: number
  /** It asks by files of 0.1.0. */
  namesInHeader: boolean
}

export const createWorkers = (parts: {
  /** `cgroup.procs` of nginx's unit. */
  file: string
  clock: Pick<Time, 'now' | 'monotonic' | 'every'>
  /** `guessed`: told by checks and kicks alone. */
  onDeath(pids: readonly string[], guessed: boolean): void
  /** Every worker that outlived a death is gone, and with them what they held. */
  onReplaced(): void
}) => {
  const { file, clock, onDeath, onReplaced } = parts
  let settled = readPids(file)
  let last = settled
  let changing = 0
  let deaths = 0
  /** The processes that outlived a death and are still there. */
  let survivors: readonly string[] = []
  let diedAt = 0
  let wasGuessed = false

  const die = (pids: readonly string[], others: readonly string[], guessed: boolean): void => {
    deaths += pids.length
    diedAt = clock.now()
    survivors = others
    wasGuessed = guessed
    onDeath(pids, guessed)
  }
  const guess = createWorkerGuess(clock, (pid, others) => die([pid], others, true))

  /** By what a look finds. A master replaces what died, one for one; a reload brings a whole new set. */
  const judge = (now: ReadonlySet<string>): void => {
    const gone = [...settled].filter((pid) => !now.has(pid))
    const stayed = [...settled].filter((pid) => now.has(pid))
    const came = now.size - stayed.length
    settled = new Set(now)
    // One that stayed is the master: of a single worker nothing is left over.
    if (came > 0 && came <= gone.length && stayed.length > 1) die(gone, stayed, false)
  }

  const look = (): void => {
    const now = readPids(file)
    const isSame = now.size === last.size && [...now].every((pid) => last.has(pid))
    last = now
    changing = isSame ? 0 : changing + 1
    if (changing > 0 && changing < MOST_LOOKS) return
    changing = 0
    judge(now)
    if (survivors.length === 0) return
    if (wasGuessed) survivors = guess.stillThere(survivors)
    else {
      const left = survivors.filter((pid) => now.has(pid))
      survivors = left.length > 1 ? left : [] // the master stays
    }
    if (survivors.length === 0) onReplaced()
  }
  const stop = clock.every(EVERY, look)

  return {
    /** A check says which worker asks. */
    asks(pid: string): void {
      if (last.size === 0) guess.asks(pid)
    },
    /** A stream of this worker's was to be ended, and nobody was there. */
    foundNobody(pid: string): void {
      if (last.size === 0) guess.suspect(pid)
    },
    /** Whether it may go on for good: it was there when another worker than its own died. */
    mayLinger: ({ worker, startedAt }: { worker: string; startedAt: number }): boolean =>
      survivors.length > 0 && startedAt <= diedAt && (worker === '' || survivors.includes(worker)),
    /** Whether nginx is to be reloaded. */
    reloadDue: () => survivors.length > 0,
    deaths: () => deaths,
    /** Whether they are not read but guessed. */
    areGuessed: () => last.size === 0,
    close: stop,
  }
}

export type Workers = ReturnType<typeof createWorkers>
