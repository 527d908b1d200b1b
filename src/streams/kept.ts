// Whether a channel keeps a message right now. A client may go on from an id only where it does: on a channel that
// keeps none (nothing was published, all has expired, nginx was reloaded) every second resume kills a worker of
// nginx, whatever the id says (Nchan 1.3.6: 6 of 12, 0 of 12 where one is kept), and there is nothing to go on to.

import type { Clock } from '../clock.ts'
import type { Kicker } from './kicker.ts'

const MARGIN = 1 // seconds: what expires between the answer and the stream

export type Keeps = (channel: string) => Promise<boolean>

export const createKeeps = (
  kicker: Pick<Kicker, 'keepsUntil'>,
  clock: Pick<Clock, 'now'>,
): Keeps => {
  /** After a reload of nginx all come back at once: who asks while it is being asked gets the same answer. */
  const underWay = new Map<string, Promise<boolean>>()

  const ask = async (channel: string): Promise<boolean> => {
    try {
      const until = await kicker.keepsUntil(channel)
      // Nchan counts what has expired until it next looks at the channel.
      return until !== undefined && clock.now() + MARGIN < until
    } catch {
      return false // not known: the stream begins with what there is
    } finally {
      underWay.delete(channel)
    }
  }

  return (channel) => {
    const asked = underWay.get(channel) ?? ask(channel)
    underWay.set(channel, asked)
    return asked
  }
}
