// What must be known before anything is decided: the ends of sessions, the streams that another process handed out,
// and what changed while nobody looked.

import type { Revocations } from '../auth/revocations.ts'
import type { Clock } from '../clock.ts'
import type { Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { UserFollower } from './follow-users.ts'

export const createLearner =
  (parts: {
    store: Pick<Store, 'countTime' | 'epoch' | 'listEnded' | 'listSubscriptions'>
    revocations: Pick<Revocations, 'add' | 'forget' | 'moveEpoch'>
    registry: Pick<Registry, 'adopt'>
    follower: Pick<UserFollower, 'endSessionsOfChangedUsers'>
    clock: Clock
  }) =>
  async (): Promise<void> => {
    const { store, revocations, registry, follower, clock } = parts
    for (const { sid, until } of await store.listEnded()) revocations.add(sid, until)
    // After that: what another instance forgets meanwhile is in the list, or past.
    revocations.forget(await store.countTime(clock.now(), 0))
    revocations.moveEpoch(await store.epoch())
    const adopted = await store.listSubscriptions()
    await follower.endSessionsOfChangedUsers()
    registry.adopt(adopted)
  }
