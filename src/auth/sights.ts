// Whoever shows what a refresh gave has had its answer. Until somebody does, that answer may be lost (a phone fell asleep
// before it came), and the older refresh token gets it again; from then on whoever shows the older one has copied it.
// A sight is written behind the answer to whoever showed the token, and always before an older token of its session is
// judged here. One that a crash takes is made up for by the next check: after a start no token is remembered.

import type { Time } from '../clock.ts'
import type { Store } from '../store/store.ts'

const WRITE_EVERY = 1 // second, while something is owed

export const createSights = ({
  store,
  clock,
}: {
  store: Pick<Store, 'seeSuccessor'>
  clock: Pick<Time, 'every'>
}) => {
  /** Not known to be written: session → the latest generation that was shown. */
  const owed = new Map<string, number>()

  const settle = async (sid: string): Promise<void> => {
    const generation = owed.get(sid)
    if (generation === undefined) return
    await store.seeSuccessor(sid, generation)
    if (owed.get(sid) === generation) owed.delete(sid)
  }

  let writing = false
  const settleAll = async (): Promise<void> => {
    if (writing) return // a store that is away takes its time to say so
    writing = true
    try {
      for (const sid of owed.keys()) await settle(sid)
    } catch {
      // Tried again.
    } finally {
      writing = false
    }
  }
  const stop = clock.every(WRITE_EVERY, () => void settleAll())

  return {
    /** Waits for nothing. The first generation replaced none. */
    saw(sid: string, generation: number): void {
      if (generation === 0 || generation < (owed.get(sid) ?? 0)) return
      owed.set(sid, generation)
      settle(sid).catch(() => undefined) // owed
    },
    /** Resolves where the store knows what was seen here of a session; rejects with its fault. */
    settle,
    close: stop,
  }
}

export type Sights = ReturnType<typeof createSights>
