// What differs where instances share a store. The one place that asks whether they do.

import { createSharedThrottle } from '../auth/shared-throttle.ts'
import { createThrottle } from '../auth/throttle.ts'
import type { Time } from '../clock.ts'
import type { SharedStore } from '../store/shared-store.ts'
import type { Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { TermsInForce } from './in-force.ts'
import { alone, createPeers, type Peers, type PeersParts, renewFrom } from './peers.ts'

const OWNERS = 20_000 // sessions
const THROTTLE_WINDOW = 900 // seconds over which failed logins are counted

export const createSharing = (
  shared: SharedStore | undefined,
  { clock, terms }: { clock: Time; terms: TermsInForce },
) => {
  const limits = () => ({ ...terms.now().config.throttle, window: THROTTLE_WINDOW })
  const local = createThrottle(limits, clock)
  return {
    guesses: local,
    throttle: shared ? createSharedThrottle(local, shared.throttle, limits, clock) : local,
    /** From where accounts have logged in, by their live sessions: after a restart an owner must be no stranger. */
    async learnOwners(store: Pick<Store, 'listSessions'>): Promise<void> {
      // Where the store is away they are strangers until they log in: no reason not to start.
      const sessions = await store.listSessions(clock.now(), undefined, OWNERS).catch(() => [])
      for (const { username, address } of sessions.toReversed()) local.remember(username, address)
    },
    renew: shared && renewFrom(shared, clock),
    openPeers(
      parts: Pick<
        PeersParts,
        'allows' | 'learner' | 'log' | 'machineKeys' | 'onStanding' | 'revocations' | 'streamFile'
      > & { registry: Registry },
    ): Peers {
      const { registry, learner } = parts
      const peers = shared
        ? createPeers({
            ...parts,
            shared,
            clock,
            kick: registry.kickSelected,
            staleSeconds: () => terms.now().config.store.staleSeconds,
          })
        : alone(learner)
      return {
        ...peers,
        streamEnded(kick) {
          if (!registry.streamEnded(kick)) peers.streamEnded(kick)
        },
      }
    },
  }
}

export type Sharing = ReturnType<typeof createSharing>
