// Whether a channel keeps a message right now. A client may go on from an id only where it does: on a channel that
// keeps none (nothing was published, all has expired, nginx was reloaded) every second resume kills a worker of
// nginx, whatever the id says (Nchan 1.3.6: 6 of 12, 0 of 12 where one is kept), and there is nothing to go on to.

import type { Time } from '../clock.ts'
import type { Kicker } from './kicker.ts'

const MARGIN = 1 // seconds: what expires between the answer and the stream
const OVERLAP = 1 // second in which workers from before a reload still answer (nginx ends them after 0.1)
const AT_ONCE = 1000 // channels asked about, 0.8 s of nginx's time (measured): it waits 5 s for a check, then refuses

/** `worker` is the pid of the one that asks, in whose memory the stream will open. */
export type Keeps = (channel: string, worker: string) => Promise<boolean>

export const createKeeps = (
  kicker: Pick<Kicker, 'keepsUntil'>,
  /** When that worker asked for the first time. */
  firstAsked: (worker: string) => number,
  time: Pick<Time, 'now' | 'monotonic' | 'wait'>,
): Keeps => {
  /** After a reload of nginx all come back at once: those who ask meanwhile share one answer. */
  const underWay = new Map<string, Promise<boolean>>()

  const ask = async (channel: string): Promise<boolean> => {
    // Where nginx does not say, the stream begins with what the channel keeps.
    const until = await kicker.keepsUntil(channel).catch(() => undefined)
    underWay.delete(channel)
    // Nchan counts what has expired until it next looks at the channel.
    return until !== undefined && time.now() + MARGIN < until
  }

  const share = async (channel: string): Promise<boolean> => {
    const shared = underWay.get(channel)
    if (!shared && underWay.size >= AT_ONCE) return false
    const asked = shared ?? ask(channel)
    underWay.set(channel, asked)
    return asked
  }

  return async (channel, worker) => {
    const settled = firstAsked(worker) + OVERLAP
    if (!(await share(channel))) return false
    const left = settled - time.monotonic()
    if (left <= 0) return true
    // A worker from before a reload may have answered, and the stream opens in a new one, which keeps nothing: without
    // this wait 18 workers died in 25 reloads, of resumes with ids that had been good; with it none.
    await time.wait(left)
    return share(channel)
  }
}
