// A store that tells how long each verb took and how it failed. It changes nothing and catches nothing.

import { type Store, StoreError, type StoreErrorCode } from './store.ts'

export type StoreVerb = Exclude<keyof Store, 'close'>

export const STORE_VERBS = [
  'identify',
  'openSession',
  'findByRefresh',
  'renew',
  'rotate',
  'endSession',
  'endSessionsOf',
  'listEnded',
  'listSessions',
  'countSessions',
  'listCredentials',
  'epoch',
  'moveEpoch',
  'useTicket',
  'openSubscription',
  'closeSubscriptions',
  'listSubscriptions',
  'prune',
  'ping',
] as const satisfies readonly StoreVerb[]

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
): Store => {
  const observed: Record<string, unknown> = { close: () => store.close() }
  for (const verb of STORE_VERBS) {
    const ask = store[verb] as (...args: readonly unknown[]) => Promise<unknown>
    observed[verb] = async (...args: readonly unknown[]): Promise<unknown> => {
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
  }
  return observed as unknown as Store
}
