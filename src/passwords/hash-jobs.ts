// What a hash worker does with a job. A job that fails answers with its error: the login that waits for it must never
// wait forever.
import { hashPassword, verifyPassword } from './hash.ts'

export type HashJob =
  | { verify: string; password: string }
  | { hash: string; memory: number; passes: number }

export type HashReply =
  | { answer: boolean | string }
  | { fault: unknown }
  /** Sent at most once, before any answer: the worker runs at the daemon's own priority. */
  | { notNiced: unknown }

/** The part of a worker's message channel that is needed here. */
export interface JobPort {
  on(event: 'message', listener: (job: HashJob) => void): unknown
  postMessage(reply: HashReply): void
}

const work = (job: HashJob): HashReply => {
  try {
    if ('verify' in job) return { answer: verifyPassword(job.verify, job.password) }
    return { answer: hashPassword(job.hash, job) }
  } catch (error) {
    return { fault: error }
  }
}

/** `port` is null on a main thread: nobody sends jobs there. */
export const serveHashes = (port: JobPort | null, lowerPriority: () => void): void => {
  if (port === null) return
  try {
    // On Linux this call nices one thread alone: a storm of logins yields to the thread that answers checks.
    lowerPriority()
  } catch (error) {
    port.postMessage({ notNiced: error })
  }
  port.on('message', (job) => port.postMessage(work(job)))
}
