// Whether the daemon can decide, as /readyz and the metric say it.

import type { Time } from '../clock.ts'
import type { Store } from '../store/store.ts'
import type { Peers } from './peers.ts'
import { within } from './within.ts'

const READY_WITHIN = 1 // second

export const createReadiness = (
  store: Pick<Store, 'ping'>,
  peers: Pick<Peers, 'trouble'>,
  clock: Pick<Time, 'after'>,
) => {
  let answered = true
  return {
    /** Resolves to what keeps us from deciding, or undefined. */
    async findObstacle(): Promise<string | undefined> {
      const trouble = peers.trouble()
      if (trouble !== undefined) return trouble
      try {
        await within(clock, READY_WITHIN, store.ping())
        answered = true
        return undefined
      } catch (error) {
        answered = false
        return (error as Error).message
      }
    },
    /** As of the last look. */
    ready: () => answered && peers.trouble() === undefined,
  }
}
