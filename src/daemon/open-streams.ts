// The part that ends streams, by the ways there are: nginx's kick socket, and the cutter; and what it knows of those of
// before.

import type { Revocations } from '../auth/revocations.ts'
import type { Time } from '../clock.ts'
import type { Metrics } from '../metrics.ts'
import { createCutter } from '../streams/cutter.ts'
import { createKeeps } from '../streams/kept.ts'
import { openKickWatch } from '../streams/kick-watch.ts'
import { createKicker } from '../streams/kicker.ts'
import { createMeans } from '../streams/means.ts'
import { createRegistry } from '../streams/registry.ts'
import { openStreamFile, streamFileOf } from '../streams/stream-file.ts'
import { createWorkers } from '../streams/workers.ts'
import type { TermsInForce } from './in-force.ts'
import type { Observer } from './observe.ts'
import type { Sharing } from './sharing.ts'

/** `opened` closes them. */
export const openStreams = async (
  parts: {
    revocations: Revocations
    terms: TermsInForce
    renew: Sharing['renew']
    /** Whose streams they are, as `openStreamFile` asks. */
    of: string
    observer: Observer
    metrics: Metrics
    clock: Time
  },
  opened: AsyncDisposableStack,
) => {
  const { of, revocations, terms, renew, observer, metrics, clock } = parts
  const streamFile = openStreamFile({
    file: streamFileOf(terms.now().config.listen.control),
    of,
    clock,
    onFault: observer.streamFile,
  })
  opened.defer(() => streamFile.shut())
  const kicker = createKicker(terms.now().config.streams.kickSocket)
  opened.defer(() => kicker.close())
  const kickWatch = await openKickWatch({ kicker, clock, onChange: observer.kickSocket })
  opened.defer(() => kickWatch.close())
  const cutter = createCutter({
    path: terms.now().config.streams.cutSocket,
    clock,
    onChange: observer.cutter,
    onRefused: observer.cutRefused,
  })
  opened.defer(() => cutter.close())
  const means = createMeans({
    cutter,
    end: () => terms.now().config.streams.end,
    clock,
    onUncuttable: observer.uncuttable,
  })
  const workers = createWorkers({
    file: terms.now().config.streams.processes,
    remembered: streamFile.nginx(),
    remember: streamFile.remember,
    clock,
    onDeath: observer.workerDied,
    onReplaced: observer.workersReplaced,
  })
  opened.defer(() => workers.close())
  const registry = createRegistry({
    file: streamFile,
    kicker,
    cutter,
    workers,
    clock,
    limits: () => terms.now().config.streams,
    observe: metrics.kicked,
    onFault: observer.streamFault,
    onCrowd: observer.crowd,
    isEnded: revocations.has,
    stillAllowed: terms.stillAllowed,
    renew,
  })
  opened.defer(() => registry.close())
  const keeps = createKeeps(kicker, workers.firstAsked, clock)
  return { registry, kicker, kickWatch, keeps, cutter, means, workers, streamFile }
}
