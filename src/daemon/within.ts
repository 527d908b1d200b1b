// A bound on how long the store is waited for where nobody may be kept waiting.

import { StoreError } from '../store/store.ts'

/** Rejects with a StoreError where nothing came of it in time. */
export const within = <Value>(promise: Promise<Value>, milliseconds: number): Promise<Value> => {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    late.reject(new StoreError('unavailable', 'the store does not answer'))
  }, milliseconds)
  return Promise.race([promise, late.promise]).finally(() => {
    clearTimeout(timer)
  })
}
