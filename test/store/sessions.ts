// Sessions, tokens and renewals for the store's tests, by what they give. Hashes are made as the product
// makes them, so that a store which keeps something else is found out.

import { createHash } from 'node:crypto'
import type { DatabaseSync } from 'node:sqlite'

import type { MachineKey } from '../../src/store/machine-key.ts'
import type { LeftSubscription, Renewal, Session } from '../../src/store/store.ts'
import { NOW } from '../fixtures/clock.ts'

export const hashOf = (token: string): Uint8Array =>
  new Uint8Array(createHash('sha256').update(token).digest())

/** What a rotation stores: the successor's hash, something opaque that names it, and their family's. */
export const successor = (token: string, family?: string) => ({
  hash: hashOf(token),
  sealed: hashOf(`sealed ${token}`),
  ...(family !== undefined && { family: hashOf(family) }),
})

export const sessionOf = (sid: string, given: Partial<Session> = {}): Session => ({
  sid,
  userId: 7,
  username: '201',
  role: 'user',
  dialect: 'mikopbx',
  credential: 'mark',
  language: 'en',
  persistent: true,
  createdAt: NOW,
  expiresAt: NOW + 30 * 86_400,
  accessUntil: NOW + 900,
  seenAt: NOW,
  address: '192.0.2.1',
  agent: 'test',
  ...given,
})

export const machineKeyOf = (id: string, given: Partial<MachineKey> = {}): MachineKey => ({
  id,
  name: 'board',
  hash: `hash of ${id}`,
  grants: ['subscribe:users-state', 'read:a,b "c"'],
  from: ['192.0.2.0/24'],
  createdAt: NOW,
  until: NOW + 400 * 86_400,
  removedAt: 0,
  usedAt: 0,
  usedFrom: '',
  ...given,
})

/** A refresh `after` seconds from the login. */
export const renewalAt = (after: number, given: Partial<Renewal> = {}): Renewal => ({
  now: NOW + after,
  role: 'user',
  accessUntil: NOW + after + 900,
  idleTtl: 0,
  ...given,
})

export const subscriptionOf = (
  kick: string,
  given: Partial<LeftSubscription> = {},
): LeftSubscription => ({
  kick,
  sid: 'sid',
  username: '201',
  userId: 7,
  role: 'user',
  resource: 'users-state',
  startedAt: NOW,
  until: NOW + 900,
  address: '192.0.2.1',
  agent: 'test',
  ...given,
})

/** In a file of the embedded store, as the version before did. */
export const leaveStreams = (db: DatabaseSync, streams: readonly LeftSubscription[]): void => {
  const insert = db.prepare(
    `INSERT INTO subscriptions VALUES (:kick, :sid, :username, :userId, :role, :resource, :startedAt, :until, :address, :agent)`,
  )
  for (const stream of streams) insert.run({ ...stream })
}
