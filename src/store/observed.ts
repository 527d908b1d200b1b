// A store that tells how long each verb took and how it failed. It changes nothing and catches nothing.

import { type Store, StoreError, type StoreErrorCode, type StoreVerb } from './store.ts'
import { makeVerbs } from './verbs.ts'

export interface StoreObservation {
  verb: StoreVerb
  /** Seconds. */
  took: number
  /** `fault` for anything that is no StoreError. */
  error?: StoreErrorCode | 'fault'
}

export const observeStore = (
  store: Store,
  monotonic: () => number,
  observe: (seen: StoreObservation) => void,
): Store => ({
  ...makeVerbs((verb) => {
    const ask = store[verb] as (...args: readonly unknown[]) => Promise<unknown>
    return async (...args) => {
      const began = monotonic()
      try {
        const answer = await ask(...args)
        observe({ verb, took: monotonic() - began })
        return answer
      } catch (error) {
        const code = error instanceof StoreError ? error.code : 'fault'
        observe({ verb, took: monotonic() - began, error: code })
        throw error
      }
    }
  }),
  close: () => store.close(),
})
