// Whoever logs out over the connection that also carries a stream sees the answer: that connection is cut when the kernel
// has sent it. It must never keep a stream open for long, however many requests ask for it: a thief's would.

import type { Time } from '../clock.ts'
import type { Cutter } from './cutter.ts'
import type { LiveStream } from './live-list.ts'
import type { KickCause } from './subscription.ts'

const LOOK = 0.1 // seconds between the answer and a look whether it has been sent, and to the next one
const LOOKS = 4
const MOST = 0.45 // seconds in all, of which an answer waits for 0.2 at most (kicks.ts)

interface Deferred {
  /** What is to end with the connection. */
  readonly ends: [readonly LiveStream[], KickCause][]
  readonly cancel: () => void
}

export const createHolds = (parts: {
  cutter: Pick<Cutter, 'look'>
  clock: Pick<Time, 'after'>
  cut(streams: readonly LiveStream[], cause: KickCause): void
}) => {
  const { cutter, clock, cut } = parts
  /** How many requests that may end a session are under way on a connection. */
  const requests = new Map<string, number>()
  const deferred = new Map<string, Deferred>()

  const release = (connection: string): void => {
    const found = deferred.get(connection)
    if (!found) return
    deferred.delete(connection)
    found.cancel()
    for (const [streams, cause] of found.ends) cut(streams, cause)
  }

  const isSent = (connection: string): Promise<boolean> =>
    cutter.look(connection).then(
      (found) => found === 'gone' || 'refused' in found || found.queued === 0,
      () => true,
    )

  const drain = (connection: string, left = LOOKS): void => {
    const look = async (): Promise<void> => {
      if (!deferred.has(connection)) return
      if (left === 1 || (await isSent(connection))) release(connection)
      else drain(connection, left - 1)
    }
    clock.after(LOOK, () => void look())
  }

  return {
    /** A request on this connection may end sessions; the function is called once its answer is written. */
    hold(connection: string): () => void {
      requests.set(connection, (requests.get(connection) ?? 0) + 1)
      return () => {
        const left = Number(requests.get(connection)) - 1
        if (left > 0) requests.set(connection, left)
        else requests.delete(connection)
        if (deferred.has(connection)) drain(connection)
      }
    },
    /** Those that are to end at once. */
    defer(streams: readonly LiveStream[], cause: KickCause): readonly LiveStream[] {
      if (requests.size === 0) return streams
      const late = Map.groupBy(
        streams.filter(({ connection }) => requests.has(String(connection))),
        ({ connection }) => String(connection),
      )
      for (const [connection, those] of late) {
        const cancel = (): void => release(connection)
        const found = deferred.get(connection) ?? { ends: [], cancel: clock.after(MOST, cancel) }
        deferred.set(connection, found)
        found.ends.push([those, cause])
      }
      return streams.filter(({ connection }) => !requests.has(String(connection)))
    },
    /** Nobody's answer is waited for any more: what was to end is on the list. */
    close(): void {
      for (const { cancel } of deferred.values()) cancel()
      deferred.clear()
    },
  }
}
