// Where things lie in Redis: what a key is called, and under which root a user's sessions are. It must never change:
// a key that is looked for elsewhere is a session that never ended.

import { createHash } from 'node:crypto'

/** Of the data: raised by a version whose records an older one would misread, and only then. */
export const FORMAT = 1

export const SHARDS = 16 // each script then works on a sixteenth; few enough to ask them all each second

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

export interface RedisLayout {
  readonly prefix: string
  /** One for each shard; a message of an end is published under the same name. */
  readonly roots: readonly string[]
  readonly usersRoot: string
  /** The one of them where an operator's epoch lies. */
  readonly epochRoot: string
  /** Of the sessions of a user, or of a ticket. */
  rootOf(text: string): string
  tokenKey(hash: Uint8Array): string
  sidKey(sid: string): string
  /** What lies under a token's or a sid's key. */
  pointer(username: string, keepUntil: number, sid: string): string
  /** Of the streams of that nginx. */
  subscriptionsRoot(nginx: string): string
  userHash(username: string): string
  /** Of a credential mark. */
  pair(username: string, credential: string): string
}

export const createLayout = (prefix: string): RedisLayout => {
  const shardOf = (text: string): number => digest(text).readUInt32BE() % SHARDS
  return {
    prefix,
    roots: Array.from({ length: SHARDS }, (_, shard) => `${prefix}{${shard}}`),
    usersRoot: `${prefix}{users}`,
    epochRoot: `${prefix}{0}`,
    rootOf: (text) => `${prefix}{${shardOf(text)}}`,
    tokenKey: (hash) => `${prefix}token:${Buffer.from(hash).toString('base64url')}`,
    sidKey: (sid) => `${prefix}sid:${sid}`,
    pointer: (username, keepUntil, sid) => `${shardOf(username)} ${keepUntil} ${sid}`,
    subscriptionsRoot: (nginx) => `${prefix}{subscriptions:${digest(nginx).toString('hex', 0, 8)}}`,
    userHash: (username) => digest(username).toString('base64url', 0, 16),
    pair: (username, credential) => JSON.stringify([username, credential]),
  }
}
