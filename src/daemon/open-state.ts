// What must be there before the daemon can stand: its folder, its store, its security log. What cannot be
// opened stops the start, with the cure; nothing is ever made afresh where something was lost.

import { existsSync, mkdirSync, statSync } from 'node:fs'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'

import type { Keyring } from '../auth/keyring.ts'
import type { Config } from '../config/config.ts'
import { keysFile, loadKeys } from '../config/keys-file.ts'
import { readSecretFile } from '../config/secret-file.ts'
import type { LogLimit } from '../log-limit.ts'
import type { Log } from '../log.ts'
import { openSecurityLog, type SecurityLog } from '../security-log.ts'
import { loadPackage } from '../store/redis/dial.ts'
import { inspectRedisAt } from '../store/redis/inspect.ts'
import { loadTrust } from '../store/redis/link.ts'
import { openRedisStore } from '../store/redis/redis.ts'
import type { SharedStore } from '../store/shared-store.ts'
import { openSqliteStore } from '../store/sqlite/sqlite.ts'
import { type Store, StoreError } from '../store/store.ts'

const INSPECT_WITHIN = 1 // second

/** Why the daemon does not start, in words that name the cure. */
export class StartError extends Error {
  override readonly name = 'StartError'
}

const storeFile = (directory: string): string => join(directory, 'store.db')

/**
 * The store is made before the keys: keys without a store mean that it was lost, and with it every revocation.
 * Starting afresh would let ended sessions back in.
 */
export const refuseLostStore = (directory: string): void => {
  const file = storeFile(directory)
  if (!existsSync(keysFile(directory)) || existsSync(file)) return
  throw new StoreError(
    'missing',
    `${file} is gone while ${keysFile(directory)} is there: restore it, or remove the keys as well, which ends every session`,
  )
}

const openOwnStore = (
  directory: string,
  onDeath: ((error: StoreError) => void) | undefined,
): Promise<Store> => {
  refuseLostStore(directory)
  return openSqliteStore(storeFile(directory), onDeath)
}

const serverOf = ({ url, passwordFile, caFile }: Config['store']) => ({
  url,
  password: readSecretFile(passwordFile, 'store.password_file'),
  ca: caFile === '' ? undefined : caFile,
})

/** Throws where no Redis could be opened, whatever it answers: an unusable ca_file, or its package is missing. */
export const judgeRedis = async (caFile: string): Promise<void> => {
  loadTrust(caFile || undefined, false)
  await loadPackage()
}

/** The shared store that the config names; undefined where it names none. Resolves also while it is away. */
export const openSharedStore = async (
  { store, streams }: Pick<Config, 'store' | 'streams'>,
  now: () => number,
): Promise<SharedStore | undefined> => {
  if (store.url === '') return undefined
  return openRedisStore({
    ...serverOf(store),
    prefix: store.prefix,
    timeout: store.timeout,
    nginx: streams.nginx || hostname(), // as the version before named it
    now,
  })
}

/** Which settings of the shared store's server could un-revoke a token, each with its cure. It only looks. */
export const inspectSharedStore = async ({ store }: Pick<Config, 'store'>): Promise<string[]> => {
  if (store.url === '') return []
  return inspectRedisAt({ ...serverOf(store), timeout: INSPECT_WITHIN })
}

/**
 * Instances that share a store need the same keys: only one of them may make them, and only where nobody is
 * logged in yet. Throws where it may not, or where the store is away and nobody can tell.
 */
const claimKeys = async (shared: SharedStore, file: string, now: number): Promise<void> => {
  const isUsed = (await shared.countSessions(now)) > 0 || (await shared.listEnded()).length > 0
  const me = `${hostname()}:${file}`
  const maker = isUsed ? 'another instance' : await shared.claimKeys(me)
  if (maker === me) return
  throw new StartError(
    `${file} is not there: copy keys.json from ${maker}, since instances that share ${shared.label} need the same keys; if it is lost everywhere, set a new store.prefix, which ends every session`,
  )
}

/** Store and keys, as the config wants them. `opened` closes them again, also where this throws. */
export const openState = async (
  config: Config,
  now: () => number,
  opened: AsyncDisposableStack,
  onStoreDeath?: (error: StoreError) => void,
): Promise<{ store: Store; shared: SharedStore | undefined; keyring: Keyring }> => {
  const { directory } = config.state
  const shared = await openSharedStore(config, now)
  const store = shared ?? (await openOwnStore(directory, onStoreDeath))
  opened.defer(() => store.close())
  if (shared && !existsSync(keysFile(directory))) {
    await claimKeys(shared, keysFile(directory), now())
  }
  return { store, shared, keyring: await loadKeys(directory) }
}

export const notMade = (directory: string, cause: unknown): StartError =>
  new StartError(
    `${directory} cannot be made: create it, owned by the user of the service, or set state.directory`,
    { cause },
  )

/** Not `recursive`: below /proc, where a folder is there and takes no other, Node tries for ever. */
const makeFolder = (folder: string): void => {
  if (!existsSync(dirname(folder))) makeFolder(dirname(folder))
  try {
    mkdirSync(folder, { mode: 0o700 })
  } catch (cause) {
    if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) throw cause
  }
}

export const makeStateDirectory = (directory: string): void => {
  try {
    makeFolder(directory)
  } catch (cause) {
    throw notMade(directory, cause)
  }
}

export const notWritten = (path: string, cause: unknown): StartError =>
  new StartError(
    `${path} cannot be written: give its directory to the user of the service, or set log.security`,
    { cause },
  )

export const openSecurity = (
  path: string,
  { log, lost, limit }: { log: Log; lost: { lines: number }; limit: Pick<LogLimit, 'allows'> },
): SecurityLog => {
  try {
    return openSecurityLog(path, (error) => {
      lost.lines++
      const line = 'a line of the security log was lost'
      if (limit.allows(line)) log.error({ err: error }, line)
    })
  } catch (cause) {
    throw notWritten(path, cause)
  }
}
