// Every user source as one, in the order of the configuration: the first that knows the name decides.
// Its answer to a stranger must cost as much as its answer to a user, or the time tells who exists.
import { findPasswordProblem } from '../passwords/hash.ts'
import type { Authentication, Lookup, UserSource } from './source.ts'

export interface Directory {
  authenticate(username: string, password: string): Promise<Authentication>
  lookup(username: string): Promise<Lookup>
  /** Without waiting; undefined where only asking a source would tell. */
  peek(username: string): Lookup | undefined
  /** Everybody that the sources in memory hold, each once. */
  names(): Iterable<string>
  /** Every source reads again, also when one of them faults; then that fault is thrown. */
  reload(): Promise<void>
  close(): void
}

const QUEUE_RETRY = 2 // seconds: a full queue of 64 hashes is through after 1.3

/** `dummy` hashes something at the price of a real check; undefined when the queue is full. */
export function createDirectory(
  sources: readonly (UserSource & { names?(): Iterable<string> })[],
  dummy: () => Promise<unknown> | undefined,
): Directory {
  /**
   * The first answer that is not "never heard of". A source that is away ends the search: whoever
   * could cut it off would else choose which source, and so which password, counts for a name.
   */
  async function ask<Answer extends object>(
    question: (source: UserSource) => Promise<Answer>,
  ): Promise<Answer | undefined> {
    for (const source of sources) {
      const answer = await question(source)
      if (!isUnknown(answer)) return answer
    }
    return undefined
  }

  return {
    async authenticate(username, password) {
      // No hash for anyone: neither the time nor the answer depends on who exists.
      if (findPasswordProblem(password) !== undefined) return { refused: 'wrong_password' }
      const answer = await ask((source) => source.authenticate(username, password))
      if (answer !== undefined) return answer

      const spent = dummy()
      if (spent === undefined) return { unavailable: 'hash_queue_full', retryAfter: QUEUE_RETRY }
      await spent
      return { refused: 'unknown_user' }
    },

    async lookup(username) {
      return (await ask((source) => source.lookup(username))) ?? { refused: 'unknown_user' }
    },

    peek(username) {
      for (const source of sources) {
        const answer = source.peek(username)
        if (answer === undefined || !isUnknown(answer)) return answer
      }
      return { refused: 'unknown_user' }
    },

    names: () => new Set(sources.flatMap((source) => [...(source.names?.() ?? [])])),

    async reload() {
      const outcomes = await Promise.allSettled(sources.map((source) => source.reload()))
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
    },

    close() {
      for (const source of sources) source.close()
    },
  }
}

function isUnknown(answer: object): boolean {
  return 'refused' in answer && answer.refused === 'unknown_user'
}
