// Rows of the SQLite tables as the values they stand for.

import type { SQLInputValue } from 'node:sqlite'

import type { Subscription } from '../../streams/subscription.ts'
import type { Session } from '../store.ts'

export type Row = Record<string, unknown>

export const toSession = (row: Row): Session => ({
  sid: row['sid'] as string,
  userId: row['user_id'] as number,
  username: row['username'] as string,
  role: row['role'] as string,
  dialect: row['dialect'] as Session['dialect'],
  credential: row['credential'] as string,
  language: row['language'] as string,
  persistent: row['persistent'] === 1,
  createdAt: row['created_at'] as number,
  expiresAt: row['expires_at'] as number,
  accessUntil: row['access_until'] as number,
  seenAt: row['seen_at'] as number,
  address: row['address'] as string,
  agent: row['agent'] as string,
})

export const toSubscription = (row: Row): Subscription => ({
  kick: row['kick'] as string,
  sid: row['sid'] as string,
  username: row['username'] as string,
  userId: row['user_id'] as number,
  role: row['role'] as string,
  resource: row['resource'] as string,
  startedAt: row['started_at'] as number,
  until: row['until'] as number,
  address: row['address'] as string,
  agent: row['agent'] as string,
})

/** In the order of the table's columns. */
export const subscriptionValues = (one: Subscription): SQLInputValue[] => [
  one.kick,
  one.sid,
  one.username,
  one.userId,
  one.role,
  one.resource,
  one.startedAt,
  one.until,
  one.address,
  one.agent,
]
