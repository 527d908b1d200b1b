// The part that ends streams, by the way there is today: nginx's kick socket.

import type { Revocations } from '../auth/revocations.ts'
import type { Time } from '../clock.ts'
import type { Metrics } from '../metrics.ts'
import type { Store } from '../store/store.ts'
import { createKeeps, type Keeps } from '../streams/kept.ts'
import { type KickWatch, openKickWatch } from '../streams/kick-watch.ts'
import { createKicker } from '../streams/kicker.ts'
import { createRegistry, type Registry } from '../streams/registry.ts'
import { createWorkers, type Workers } from '../streams/workers.ts'
import type { TermsInForce } from './in-force.ts'
import type { Observer } from './observe.ts'
import type { Sharing } from './sharing.ts'

/** `opened` closes them. */
export const openStreams = async (
  parts: {
    store: Store
    revocations: Revocations
    terms: TermsInForce
    renew: Sharing['renew']
    observer: Observer
    metrics: Metrics
    clock: Time
  },
  opened: AsyncDisposableStack,
): Promise<{ registry: Registry; kickWatch: KickWatch; keeps: Keeps; workers: Workers }> => {
  const { store, revocations, terms, renew, observer, metrics, clock } = parts
  const kicker = createKicker(terms.now().config.streams.kickSocket)
  opened.defer(() => kicker.close())
  const kickWatch = await openKickWatch({ kicker, clock, onChange: observer.kickSocket })
  opened.defer(() => kickWatch.close())
  const workers = createWorkers({
    file: terms.now().config.streams.processes,
    clock,
    onDeath: observer.workerDied,
    onReplaced: observer.workersReplaced,
  })
  opened.defer(() => workers.close())
  const registry = createRegistry({
    store,
    ender: kicker,
    workers,
    clock,
    limits: () => terms.now().config.streams,
    observe: metrics.kicked,
    onFault: observer.streamFault,
    isEnded: revocations.has,
    stillAllowed: terms.stillAllowed,
    renew,
  })
  opened.defer(() => registry.close())
  return { registry, kickWatch, keeps: createKeeps(kicker, clock), workers }
}
