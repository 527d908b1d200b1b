// Worker threads that hash passwords, and a bounded queue before them. argon2 never runs on libuv's
// pool: there, four hashes made a signature check wait for almost two seconds.
import { Worker } from 'node:worker_threads'
import type { HashJob, HashReply } from './hash-jobs.ts'

export interface PasswordPoolOptions {
  workers: number
  /** Jobs that may wait for a worker, so that a storm of logins ends in a queue of known length. */
  queue?: number
  memory: number
  passes: number
  /** Said once, if the workers could not be given a lower priority. */
  onNotNiced?: (error: unknown) => void
  /** What a worker runs; tests put one there that fails. */
  entry?: URL
}

const QUEUE = 64
export const QUEUE_RETRY = 2 // seconds: a full queue of 40 ms each in two workers is through after 1.3

interface Waiting {
  job: HashJob
  resolve(answer: boolean | string): void
  reject(fault: Error): void
}

interface Seat {
  worker: Worker
  current: Waiting | undefined
}

export const createPasswordPool = (options: PasswordPoolOptions) => {
  const entry = options.entry ?? new URL('./hash-worker.ts', import.meta.url)
  const seats = new Set<Seat>()
  const waiting: Waiting[] = []
  const { queue = QUEUE } = options
  let closed = false
  let niceReported = false

  const assign = (seat: Seat, entered: Waiting): void => {
    seat.current = entered
    seat.worker.ref() // the process stays for a job, never for an idle worker
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
    seat.worker.postMessage(entered.job)
  }

  const takeNext = (seat: Seat): void => {
    const next = waiting.shift()
    if (next !== undefined) assign(seat, next)
  }

  const receive = (seat: Seat, reply: HashReply): void => {
    if ('notNiced' in reply) {
      if (!niceReported) options.onNotNiced?.(reply.notNiced)
      niceReported = true
      return
    }
    const done = seat.current
    seat.current = undefined
    seat.worker.unref()
    takeNext(seat)
    if ('answer' in reply) done?.resolve(reply.answer)
    else done?.reject(new Error('a password could not be hashed', { cause: reply.fault }))
  }

  const openSeat = (): Seat => {
    const worker = new Worker(entry, { execArgv: [] })
    const seat: Seat = { worker, current: undefined }
    let cause: unknown
    worker.on('message', (reply: HashReply) => receive(seat, reply))
    worker.on('error', (error) => (cause = error))
    worker.on('exit', () => {
      seats.delete(seat)
      seat.current?.reject(new Error('a hash worker ended in the middle of a job', { cause }))
      if (waiting.length > 0 && !closed) takeNext(openSeat())
    })
    worker.unref()
    seats.add(seat)
    return seat
  }

  /** Starts a worker only when there is a job for it: an idle daemon keeps its memory small. */
  const findIdleSeat = (): Seat | undefined => {
    for (const seat of seats) if (seat.current === undefined) return seat
    return seats.size < options.workers ? openSeat() : undefined
  }

  const submit = (job: HashJob): Promise<boolean | string> | undefined => {
    if (closed) return undefined
    const idle = findIdleSeat()
    if (idle === undefined && waiting.length >= queue) return undefined
    return new Promise((resolve, reject) => {
      const entered: Waiting = { job, resolve, reject }
      if (idle === undefined) waiting.push(entered)
      else assign(idle, entered)
    })
  }

  return {
    /** undefined: the queue is full, nobody was judged. Rejects only on a fault (a worker that died). */
    verify: (stored: string, password: string): Promise<boolean> | undefined =>
      submit({ verify: stored, password })?.then((answer) => answer === true),
    hash: (password: string): Promise<string> | undefined =>
      submit({ hash: password, memory: options.memory, passes: options.passes })?.then(String),
    /** Jobs that wait for a worker. */
    queued: () => waiting.length,
    /** Fails what still waits or runs. Afterwards every job is refused like one too many. */
    async close(): Promise<void> {
      closed = true
      for (const entered of waiting.splice(0))
        entered.reject(new Error('the password pool was closed before this job was begun'))
      await Promise.all([...seats].map(({ worker }) => worker.terminate()))
    },
  }
}

export type PasswordPool = ReturnType<typeof createPasswordPool>
