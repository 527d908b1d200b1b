// Stores to copy from and into, and the copy itself, for the tests of transfers. It must leave no store open
// behind a copy, which would be refused then.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

import { openEngine } from '../../src/store/sqlite-engine.ts'
import { openSqliteSource, openSqliteTarget } from '../../src/store/sqlite-transfer.ts'
import { openRedisStore, type RedisSettings, type RedisStore } from '../../src/store/redis.ts'
import { openRedisSource, openRedisTarget, type RedisSide } from '../../src/store/redis-transfer.ts'
import type { Store } from '../../src/store/store.ts'
import {
  type Copied,
  copyStore,
  type Reader,
  type Refusal,
  type Writer,
} from '../../src/store/transfer.ts'
import { NOW } from '../fixtures/clock.ts'
import { type RedisServer, until } from '../fixtures/redis.ts'

export const NGINX = 'gate'

/** A folder that goes with the test. */
export const makeFolder = (t: Test): string => {
  const folder = mkdtempSync(join(tmpdir(), 'copy-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The embedded store in this thread: its verbs, and what they throw. */
export const openFile = (file: string): Pick<Store, 'close'> & Store => {
  const engine = openEngine(file)
  const ask =
    (verb: Exclude<keyof Store, 'close'>) =>
    async (...args: unknown[]): Promise<unknown> => {
      const [outcome] = engine.apply([{ verb, args }])
      if (!outcome || 'error' in outcome) throw new Error(outcome?.error.message)
      return outcome.value
    }
  const close = async (): Promise<void> => engine.close()
  return new Proxy({ close } as Store, {
    get: (target, name) => (name === 'close' ? target.close : ask(name as 'identify')),
  })
}

export const openShared = async (
  server: RedisServer,
  given: Partial<RedisSettings> = {},
): Promise<RedisStore> =>
  openRedisStore({ url: server.socketUrl, nginx: NGINX, timeout: 5, now: () => NOW, ...given })

/** Closes it, and waits until the server knows. */
export const closeShared = async (
  server: RedisServer,
  store: Store,
  prefix = 'postern:',
): Promise<void> => {
  await store.close()
  await until(() => server.cli('PUBSUB', 'NUMSUB', `${prefix}{0}`).endsWith('\n0'), 20)
}

export const sideOf = (server: RedisServer, given: Partial<RedisSide> = {}): RedisSide => ({
  url: server.socketUrl,
  prefix: 'postern:',
  nginx: NGINX,
  now: NOW,
  ...given,
})

/** What was opened; throws where it was refused. */
export const opened = async <Side extends Reader | Writer>(
  opening: Promise<Side | Refusal> | Side | Refusal,
): Promise<Side> => {
  const side = await opening
  if ('refused' in side) throw new Error(`refused: ${side.refused}`)
  return side
}

/** What it says when it refuses; anything else is closed again. */
export const refusalOf = async (
  opening: Promise<Reader | Writer | Refusal> | Reader | Writer | Refusal,
): Promise<string> => {
  const side = await opening
  if ('refused' in side) return side.refused
  side.close()
  return 'not refused'
}

export const copy = async (
  from: Promise<Reader | Refusal> | Reader | Refusal,
  into: () => Promise<Writer | Refusal> | Writer | Refusal,
  now = NOW,
): Promise<Copied> => {
  const source = await opened(from)
  try {
    const target = await opened(into())
    try {
      const copied = await copyStore(source, target, now)
      if ('refused' in copied) throw new Error(`refused: ${copied.refused}`)
      return copied
    } finally {
      target.close()
    }
  } finally {
    source.close()
  }
}

export const toRedis = (
  file: string,
  server: RedisServer,
  given: Partial<RedisSide> = {},
): Promise<Copied> =>
  copy(openSqliteSource(file), () => openRedisTarget(sideOf(server, given)), given.now)

export const toFile = (
  server: RedisServer,
  file: string,
  given: Partial<RedisSide> = {},
): Promise<Copied> =>
  copy(openRedisSource(sideOf(server, given)), () => openSqliteTarget(file), given.now)
