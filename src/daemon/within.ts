// A bound on how long the store is waited for where nobody may be kept waiting.

import type { Time } from '../clock.ts'
import { StoreError } from '../store/store.ts'

/** Rejects with a StoreError where there is no answer in time. */
export const within = <Value>(
  clock: Pick<Time, 'after'>,
  seconds: number,
  promise: Promise<Value>,
): Promise<Value> => {
  const late = Promise.withResolvers<never>()
  const cancel = clock.after(seconds, () => {
    late.reject(new StoreError('unavailable', 'the store does not answer'))
  })
  return Promise.race([promise, late.promise]).finally(cancel)
}
