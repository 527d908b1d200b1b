// Which workers nginx has, and whether one has died. A reload ends every stream; a death leaves streams on the other
// workers that go on hearing and that Nchan can never end (20 to 50 % of them, Nchan 1.3.6), until nginx is reloaded.
// So does the loss of our list: what does not stand in it is ended by nobody. All of it outlasts our own restart.

import { readFileSync } from 'node:fs'

import type { Time } from '../clock.ts'
import { createWorkerGuess } from './worker-guess.ts'

const EVERY = 1 // second between looks
const MOST_LOOKS = 3 // at processes that come and go: a reload is over by then, and workers may go on dying
const NOT_KNOWN_YET = '' // where nothing is read and nobody has asked: whoever asks first

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
  /** Streams may go on that nothing can end, and nginx's workers are still those of then. */
  reloadDue: boolean
  /** Because the list of streams was lost; else because a worker died. */
  listLost: boolean
  /** nginx's processes cannot be read. */
  guessed: boolean
  /** Streams that were to be ended and may go on. */
  unsure: number
  /** It asks by files of 0.1.0. */
  namesInHeader: boolean
}

/** Processes that may hold such streams, for as long as they are there. */
interface Holders {
  readonly pids: readonly string[]
  /** How many of these hold none: nginx's master stays over a reload. */
  readonly spare: number
  readonly guessed: boolean
  /** Unix seconds: what opened later can be ended. */
  readonly since: number
}

/** What a start must know of the time before it. */
interface Remembered {
  readonly processes: readonly string[]
  readonly asked: readonly string[]
  readonly died?: Holders | undefined
  readonly lost?: Holders | undefined
}

const readHolders = (value: unknown): Holders | undefined =>
  Array.isArray((value as Holders | undefined)?.pids) ? (value as Holders) : undefined

/** As it stands in the list; another version may have written it. */
const readRemembered = (value: unknown): Remembered => {
  const { processes, asked, died, lost } = Object(value) as Partial<Remembered>
  return {
    processes: Array.isArray(processes) ? processes : [],
    asked: Array.isArray(asked) ? asked : [],
    died: readHolders(died),
    lost: readHolders(lost),
  }
}

export const createWorkers = (parts: {
  /** `cgroup.procs` of nginx's unit. */
  file: string
  /** What was last handed to `remember`, in an earlier process. */
  remembered: unknown
  remember(what: Remembered): void
  clock: Pick<Time, 'now' | 'monotonic' | 'every'>
  /** `guessed`: told by checks and kicks alone. */
  onDeath(pids: readonly string[], guessed: boolean): void
  /** Every worker that held such streams is gone, and with them what they held. */
  onReplaced(): void
}) => {
  const { file, clock, onDeath, onReplaced } = parts
  const before = readRemembered(parts.remembered)
  let last = readPids(file)
  // A death while we were away is seen at the first look.
  let settled = before.processes.length > 0 ? new Set(before.processes) : last
  let changing = 0
  let deaths = 0
  let { died, lost } = before

  const remember = (): void =>
    parts.remember({ processes: [...settled], asked: guess.asked(), died, lost })

  const die = (pids: readonly string[], others: readonly string[], guessed: boolean): void => {
    const asked = guess.asked()
    // Not the processes that keep nginx's cache, where checks tell us who is a worker.
    const workers = others.filter((pid) => asked.includes(pid))
    if (asked.length > 0 && workers.length === 0) return
    const [left, spare] = asked.length > 0 ? [workers, 0] : [others, 1]
    deaths += pids.length
    died = { pids: left, spare, guessed, since: clock.now() }
    onDeath(pids, guessed)
  }
  const guess = createWorkerGuess(clock, before.asked, (pid, others) => {
    die([pid], others, true)
    remember()
  })

  /** By what a look finds. A master replaces what died, one for one; a reload brings a whole new set. */
  const judge = (now: ReadonlySet<string>): void => {
    const gone = [...settled].filter((pid) => !now.has(pid))
    const stayed = [...settled].filter((pid) => now.has(pid))
    const came = now.size - stayed.length
    settled = new Set(now)
    // One that stayed is the master: of a single worker nothing is left over.
    if (came > 0 && came <= gone.length && stayed.length > 1) die(gone, stayed, false)
    if (came > 0 || gone.length > 0) remember()
  }

  /** Those that are still there; undefined: what they held has ended. */
  const findLeft = (holders: Holders, now: ReadonlySet<string>): Holders | undefined => {
    const { pids, spare, guessed } = holders
    if (!guessed) {
      const left = pids.filter((pid) => now.has(pid))
      return left.length > spare ? { ...holders, pids: left } : undefined
    }
    if (pids[0] !== NOT_KNOWN_YET) return guess.stillThere(pids).length > 0 ? holders : undefined
    const asked = guess.asked()
    return asked.length > 0 ? { ...holders, pids: asked } : holders
  }

  const look = (): void => {
    const now = readPids(file)
    const isSame = now.size === last.size && [...now].every((pid) => last.has(pid))
    last = now
    changing = isSame ? 0 : changing + 1
    if (changing > 0 && changing < MOST_LOOKS) return
    changing = 0
    judge(now)
    if (!died && !lost) return
    died &&= findLeft(died, now)
    lost &&= findLeft(lost, now)
    if (died ?? lost) return
    remember()
    onReplaced()
  }
  const stop = clock.every(EVERY, look)

  return {
    /** A check says which worker asks. */
    asks(pid: string): void {
      if (guess.asks(pid)) remember()
    },
    firstAsked: guess.firstAsked,
    /** A stream of this worker's was to be ended, and nobody was there. */
    foundNobody(pid: string): void {
      if (last.size === 0) guess.suspect(pid)
    },
    /** nginx holds streams that stand in no list. */
    loseList(): void {
      const guessed = last.size === 0
      const asked = guess.asked()
      const pids = guessed ? (asked.length > 0 ? asked : [NOT_KNOWN_YET]) : [...last]
      lost = { pids, spare: guessed ? 0 : 1, guessed, since: clock.now() }
      remember()
    },
    isListLost: () => lost !== undefined,
    /** Whether it may go on for good: it was there when another worker than its own died. */
    mayLinger: ({ worker, startedAt }: { worker: string; startedAt: number }): boolean =>
      died !== undefined &&
      startedAt <= died.since &&
      (worker === '' || died.pids.includes(worker)),
    /** Whether nginx is to be reloaded. */
    reloadDue: () => (died ?? lost) !== undefined,
    deaths: () => deaths,
    /** Whether they are not read but guessed. */
    areGuessed: () => last.size === 0,
    close: stop,
  }
}

export type Workers = ReturnType<typeof createWorkers>
