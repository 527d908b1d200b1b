// What must be there before the daemon can stand: its folder, its store, its security log. What cannot be
// opened stops the start, with the cure; nothing is ever made afresh where something was lost.

import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'

import { keysFile } from './config/keys-file.ts'
import type { Log } from './log.ts'
import { openSecurityLog, type SecurityLog } from './security-log.ts'
import { openSqliteStore } from './store/sqlite.ts'
import { type Store, StoreError } from './store/store.ts'

/** Why the daemon does not start, in words that name the cure. */
export class StartError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StartError'
  }
}

export const openStore = async (directory: string): Promise<Store> => {
  const file = join(directory, 'store.db')
  // The store is made before the keys: keys without a store mean that it was lost, and with it every
  // revocation. Starting afresh would let ended sessions back in.
  if (existsSync(keysFile(directory)) && !existsSync(file)) {
    throw new StoreError(
      'missing',
      `${file} is gone while ${keysFile(directory)} is there: restore it, or remove the keys as well, which ends every session`,
    )
  }
  return openSqliteStore(file)
}

export const makeStateDirectory = (directory: string): void => {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  } catch (cause) {
    throw new StartError(
      `${directory} cannot be made: create it, owned by the user of the service, or set state.directory`,
      { cause },
    )
  }
}

export const openSecurity = (path: string, log: Log): SecurityLog => {
  try {
    return openSecurityLog(path, (error) => {
      log.error({ err: error }, 'a line of the security log was lost')
    })
  } catch (cause) {
    throw new StartError(
      `${path} cannot be written: give its directory to the user of the service, or set log.security`,
      { cause },
    )
  }
}
