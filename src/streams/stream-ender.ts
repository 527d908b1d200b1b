// The port by which live streams are ended. An adapter knows one way to do it and tries it once for each; which are
// to end, when, and how often it is tried again is the registry's to say.

import type { Subscription } from './subscription.ts'

/** `ended`: somebody was there, and is gone; `nobody`: nobody has come by this id (yet). */
export type Ending = 'ended' | 'nobody'

export interface StreamEnder {
  /**
   * What became of each, in their order: a promise of its own, so that none waits for another. It rejects where
   * nothing can be ended for now; the registry asks again.
   */
  end(streams: readonly Subscription[]): Promise<Ending>[]
  /** How many hang on this id, as far as can be told; `unknown`: nobody does, and nobody is remembered. */
  count(stream: Subscription): Promise<number | 'unknown'>
}
