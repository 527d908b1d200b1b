// Where things lie in Redis: what a key is called, and in which shard a user's sessions are. It must never
// change: a key that is looked for elsewhere is a session that never ended.

import { createHash } from 'node:crypto'

/** Of the data: raised by a version whose records an older one would misread, and only then. */
export const FORMAT = 1

export const SHARDS = 16 // each script then works on a sixteenth; few enough to ask them all each second

const digest = (text: string): Buffer => createHash('sha256').update(text).digest()

export interface RedisLayout {
  /** One for each shard; a message of an end is published under the same name. */
  readonly roots: readonly string[]
  readonly usersRoot: string
  rootAt(shard: number): string
  shardOf(text: string): number
  tokenKey(hash: Uint8Array): string
  sidKey(sid: string): string
  /** Of the streams of that nginx. */
  subscriptionsRoot(nginx: string): string
  userHash(username: string): string
  /** Of a credential mark. */
  pair(username: string, credential: string): string
}

export const isKeyPrefix = (text: string): boolean => /^[\w:.-]{0,64}$/.test(text)

export const createLayout = (prefix: string): RedisLayout => {
  const rootAt = (shard: number): string => `${prefix}{${shard}}`
  return {
    roots: Array.from({ length: SHARDS }, (_, shard) => rootAt(shard)),
    usersRoot: `${prefix}{users}`,
    rootAt,
    shardOf: (text) => digest(text).readUInt32BE() % SHARDS,
    tokenKey: (hash) => `${prefix}token:${Buffer.from(hash).toString('base64url')}`,
    sidKey: (sid) => `${prefix}sid:${sid}`,
    subscriptionsRoot: (nginx) => `${prefix}{subscriptions:${digest(nginx).toString('hex', 0, 8)}}`,
    userHash: (username) => digest(username).toString('base64url', 0, 16),
    pair: (username, credential) => JSON.stringify([username, credential]),
  }
}

/** Where a token or a sid leads: shard, the instant it may go, sid. */
export interface Pointer {
  shard: number
  keepUntil: number
  sid: string
}

export const writePointer = ({ shard, keepUntil, sid }: Pointer): string =>
  `${shard} ${keepUntil} ${sid}`

export const readPointer = (text: string): Pointer => {
  const [shard = '', keepUntil = '', ...sid] = text.split(' ')
  return { shard: Number(shard), keepUntil: Number(keepUntil), sid: sid.join(' ') }
}
