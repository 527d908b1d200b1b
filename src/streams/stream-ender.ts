// The port by which live streams are ended. An adapter knows one way to do it (kicker.ts, cutter.ts) and tries it once
// for each; which are to end, and when, the registry decides, and kicks.ts how often it is tried again.

import type { Subscription } from './subscription.ts'

/**
 * `ended`: somebody was there, and is gone; `nobody`: nobody has come by this id (yet), or the connection is gone;
 * `refused`: this one may not be ended, or not now.
 */
export type Ending = 'ended' | 'nobody' | 'refused'

export interface StreamEnder {
  /**
   * What became of each, in their order: a promise of its own, so that none waits for another. It rejects where
   * nothing can be ended for now; it is asked again.
   */
  end(streams: readonly Subscription[]): Promise<Ending>[]
}
