// What must be known before anything is decided: the ends of sessions, the streams that another process handed out,
// and what changed while nobody looked.

import type { Revocations } from '../auth/revocations.ts'
import type { Clock } from '../clock.ts'
import type { Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { Subscription } from '../streams/subscription.ts'

export interface Learner {
  learn(): Promise<void>
  /** What another process handed out may have lost its right meanwhile, or have more than this config gives. */
  adopt(subscriptions: readonly Subscription[]): void
}

export const createLearner = (parts: {
  store: Pick<Store, 'epoch' | 'listEnded' | 'listSubscriptions'>
  revocations: Pick<Revocations, 'add' | 'has' | 'moveEpoch'>
  registry: Pick<Registry, 'adopt' | 'kickSession'>
  clock: Clock
  endSessionsOfChangedUsers(): Promise<void>
  review(): void
}): Learner => {
  const { store, revocations, registry, clock, endSessionsOfChangedUsers, review } = parts
  const adopt = (subscriptions: readonly Subscription[]): void => {
    registry.adopt(subscriptions)
    for (const { sid } of subscriptions) {
      if (revocations.has(sid)) void registry.kickSession(sid, 'session_ended')
    }
    review()
  }
  return {
    adopt,
    async learn() {
      for (const { sid, until } of await store.listEnded(clock.now())) revocations.add(sid, until)
      revocations.moveEpoch(await store.epoch())
      const adopted = await store.listSubscriptions()
      await endSessionsOfChangedUsers()
      adopt(adopted)
    },
  }
}
