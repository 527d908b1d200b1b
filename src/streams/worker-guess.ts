// The workers that ask, and what follows from it where nginx's processes cannot be read: a worker's death, told by
// checks and kicks. Neither tells alone: a quiet worker asks nothing for hours (of two, one may hold 11 of 12
// connections), and nobody is found where a client left.

import type { Clock } from '../clock.ts'

const OVERLAP = 2 // seconds in which workers of before a reload still ask
const QUIET = 60 // seconds without a check by which survivors are taken for gone, once there are new workers
const WORKERS = 256 // that are remembered, those that asked last; each reload brings new ones

export const createWorkerGuess = (
  clock: Pick<Clock, 'monotonic'>,
  /** Who asked before the last start. */
  before: readonly string[],
  onDeath: (pid: string, others: readonly string[]) => void,
) => {
  const started = clock.monotonic()
  const seen = new Map(before.map((pid) => [pid, { first: -Infinity, last: started }]))
  const suspects = new Set<string>()

  /** When a worker came that was not there at that time. */
  const replacedAt = (last: number): number =>
    Math.min(...Array.from(seen.values(), ({ first }) => (first > last ? first : Infinity)))

  /** What a check proves of a worker that came then: it was there before a suspect's successor, so that was no reload. */
  const judge = (first: number): void => {
    const now = clock.monotonic()
    for (const pid of suspects) {
      const at = replacedAt(Number(seen.get(pid)?.last))
      if (first >= at || now <= at + OVERLAP) continue
      suspects.delete(pid)
      seen.delete(pid)
      const others = [...seen.keys()].filter((other) => Number(seen.get(other)?.first) < at)
      onDeath(pid, others)
    }
  }

  return {
    /** Whether it asks for the first time. */
    asks(pid: string): boolean {
      const now = clock.monotonic()
      const known = seen.get(pid)
      const witness = { first: known?.first ?? now, last: now }
      seen.delete(pid)
      suspects.delete(pid)
      const [silent = ''] = seen.keys()
      if (seen.size >= WORKERS) {
        seen.delete(silent)
        suspects.delete(silent)
      }
      seen.set(pid, witness)
      judge(witness.first)
      return known === undefined
    },
    /** When that was; now, of one that has not asked. */
    firstAsked: (pid: string): number => seen.get(pid)?.first ?? clock.monotonic(),
    /** All of them. */
    asked: () => [...seen.keys()],
    suspect(pid: string): void {
      if (seen.has(pid)) suspects.add(pid)
    },
    /** Those of them that are not all replaced by now, as far as can be told. */
    stillThere(pids: readonly string[]): readonly string[] {
      const last = Math.max(...pids.map((pid) => seen.get(pid)?.last ?? 0))
      return clock.monotonic() > replacedAt(last) + QUIET ? [] : pids
    },
  }
}
