// Every user source as one, in the order of the configuration: the first that knows the name decides.
// Its answer to a stranger must cost as much as its answer to a user, or the time tells who exists.
import { findPasswordProblem } from '../passwords/hash.ts'
import { QUEUE_RETRY } from '../passwords/pool.ts'
import type { UserSource } from './source.ts'

export type IsMeant = boolean | UserSource['name']

/** `names`: of all sources, each once. */
export interface Directory extends Omit<UserSource, 'name' | 'reread'> {
  /**
   * Every source reads again, even if one of them throws; that error is thrown afterwards. The sources with problems,
   * and what they are. `isMeant`: for all of them, or for the one named.
   */
  reread(isMeant: IsMeant): Promise<ReadonlyMap<UserSource['name'], readonly string[]>>
  /** How many users each of those that are held in memory has. */
  countBySource(): ReadonlyMap<UserSource['name'], number>
}

const isUnknown = (answer: object): boolean =>
  'refused' in answer && answer.refused === 'unknown_user'

/** `hashDecoy` costs as much as a real check; undefined if the queue is full. */
export const createDirectory = (
  sources: readonly UserSource[],
  hashDecoy: (username: string) => Promise<unknown> | undefined,
): Directory => {
  /**
   * The first answer that is not "never heard of". A source that is away ends the search: whoever
   * could cut it off would else choose which source, and so which password, counts for a name.
   */
  const ask = async <Answer extends object>(
    question: (source: UserSource) => Promise<Answer>,
  ): Promise<Answer | undefined> => {
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

      const hashed = hashDecoy(username)
      if (hashed === undefined) return { unavailable: 'hash_queue_full', retryAfter: QUEUE_RETRY }
      await hashed
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

    names: () => new Set(sources.flatMap((source) => [...source.names()])),

    countBySource: () =>
      new Map(
        sources
          .filter(({ name }) => name !== 'http')
          .map(({ name, names }) => [name, [...names()].length]),
      ),

    async reread(isMeant) {
      const readings = sources.map(
        async (source) =>
          [source.name, await source.reread(isMeant === true || isMeant === source.name)] as const,
      )
      await Promise.allSettled(readings)
      const found = await Promise.all(readings)
      return new Map(found.filter(([, problems]) => problems.length > 0))
    },

    close() {
      for (const source of sources) source.close()
    },
  }
}
