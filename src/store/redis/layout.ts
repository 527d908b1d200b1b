// Where things lie in Redis: what a key is called, and under which root a user's sessions are. It must never change:
// a key that is looked for elsewhere is a session that never ended.

import { createHash } from 'node:crypto'

/** Of the data: raised by a version whose records an older one would misread, and only then. */
export const FORMAT = 1

export const SHARDS = 16 // each script then works on a sixteenth; few enough to ask them all each second

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

export const createLayout = (prefix: string) => {
  const shardOf = (text: string): number => digest(text).readUInt32BE() % SHARDS
  return {
    prefix,
    /** One for each shard; a message of an end is published under the same name. */
    roots: Array.from({ length: SHARDS }, (_, shard) => `${prefix}{${shard}}`),
    usersRoot: `${prefix}{users}`,
    /** The one of the roots where an operator's epoch lies. */
    epochRoot: `${prefix}{0}`,
    /** Of the sessions of a user, or of a ticket. */
    rootOf: (text: string): string => `${prefix}{${shardOf(text)}}`,
    tokenKey: (hash: Uint8Array): string =>
      `${prefix}token:${Buffer.from(hash).toString('base64url')}`,
    sidKey: (sid: string): string => `${prefix}sid:${sid}`,
    /** What lies under a token's or a sid's key. */
    pointer: (username: string, keepUntil: number, sid: string): string =>
      `${shardOf(username)} ${keepUntil} ${sid}`,
    /** Of the streams of that nginx. */
    subscriptionsRoot: (nginx: string): string =>
      `${prefix}{subscriptions:${digest(nginx).toString('hex', 0, 8)}}`,
    userHash: (username: string): string => digest(username).toString('base64url', 0, 16),
    /** Of a credential mark. */
    pair: (username: string, credential: string): string => JSON.stringify([username, credential]),
  }
}

export type RedisLayout = ReturnType<typeof createLayout>
