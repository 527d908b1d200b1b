// What stands around all verbs of a store is made from their list.

import type { StoreVerb, StoreVerbs } from './store.ts'

/**
 * Every verb, and what its change survives once it resolves: `disk` a power cut, `memory` a kill -9 alone. A power cut
 * ends nginx's streams as well, and what hangs on them. What stands around all verbs is made from this list.
 */
export const STORE_VERBS: Readonly<Record<StoreVerb, 'disk' | 'memory'>> = {
  identify: 'disk',
  openSession: 'disk',
  findByRefresh: 'disk',
  renew: 'disk',
  rotate: 'disk',
  seeSuccessor: 'disk',
  endSession: 'disk',
  endSessionsOf: 'disk',
  listEnded: 'disk',
  listSessions: 'disk',
  countSessions: 'disk',
  listCredentials: 'disk',
  epoch: 'disk',
  moveEpoch: 'disk',
  useTicket: 'memory',
  countTime: 'disk',
  accessOf: 'disk',
  machineKeys: 'disk',
  replaceMachineKeys: 'disk',
  listSubscriptions: 'disk',
  closeSubscriptions: 'disk',
  prune: 'disk',
  ping: 'disk',
}

type Ask = (...args: readonly unknown[]) => Promise<unknown>

/** Verbs that all do the same with what they are asked. */
export const makeVerbs = (make: (verb: StoreVerb) => Ask): StoreVerbs => {
  const verbs = Object.keys(STORE_VERBS) as StoreVerb[]
  return Object.fromEntries(verbs.map((verb) => [verb, make(verb)])) as unknown as StoreVerbs
}
