// How what is live is ended: a cut where its connection is known, else a kick. What keeps one means from working never
// stops the other.

import type { Time } from '../clock.ts'
import type { Cutter } from './cutter.ts'
import { createHolds } from './holds.ts'
import type { Kicker } from './kicker.ts'
import { createKicks, type KickObservation } from './kicks.ts'
import { isCut, type LiveStream } from './live-list.ts'
import { createOutage, type Outage } from './outage.ts'
import type { KickCause } from './subscription.ts'
import { createUnsure } from './unsure.ts'
import type { Workers } from './workers.ts'

export const createEndings = (parts: {
  kicker: Pick<Kicker, 'end'>
  cutter: Pick<Cutter, 'end' | 'look'>
  /** Of the kicker. */
  outage: Outage
  workers: Pick<Workers, 'foundNobody' | 'mayLinger' | 'reloadDue'>
  clock: Pick<Time, 'after' | 'every' | 'monotonic'>
  observe(kick: KickObservation): void
  onFault(error: unknown): void
  /** It is over, as far as can be told. */
  onOver(stream: LiveStream): void
}) => {
  const { kicker, cutter, workers, clock, onOver } = parts
  const unsure = createUnsure({ workers, clock, onOver })
  const kicks = createKicks({ ...parts, means: 'kick', ender: kicker, onOver: unsure.judge })
  const cuts = createKicks({
    ...parts,
    means: 'cut',
    ender: cutter,
    outage: createOutage(clock, () => {}), // the cutter says it itself
  })
  const holds = createHolds({ cutter, clock, cut: cuts.start })
  const stop = clock.every(0.2, unsure.review)
  return {
    hold: holds.hold,
    start(streams: readonly LiveStream[], cause: KickCause): void {
      kicks.start(
        streams.filter((stream) => !isCut(stream)),
        cause,
      )
      cuts.start(holds.defer(streams.filter(isCut), cause), cause)
    },
    /**
     * Resolves when all of the session that is being ended is gone, as far as can be told, or after 0.2 s; at once
     * where nginx, or the cutter, is away.
     */
    settled: (sid: string) => Promise.all([kicks.settled(sid), cuts.settled(sid)]),
    /** nginx says that a stream on this id has ended. False: it is none of these. */
    ended(id: string): boolean {
      const ending = kicks.get(id)
      if (ending) ending.endTold = true // the answer to its kick may be that nobody is there
      return ending !== undefined || cuts.get(id) !== undefined || unsure.ended(id)
    },
    countUnsure: unsure.count,
    /** Nobody is kept waiting any more. */
    close(): void {
      stop()
      holds.close()
      kicks.close()
      cuts.close()
    },
  }
}
