// The key file in the state directory. Created once, whole and 0600 from the first byte; read only where
// nobody else could have written or read it. Where that fails the daemon does not start: a key that lives
// only in memory would log everybody out at the next restart.

import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  statSync,
} from 'node:fs'
import { join } from 'node:path'

import { generateKeySet, type Keyring, parseKeyring } from '../auth/keyring.ts'
import { systemClock } from '../clock.ts'
import { createFile, replaceFile } from '../files/replace-file.ts'
import { ConfigError } from './config-error.ts'

const MAX_BYTES = 64 * 1024
const OTHERS = 0o077
const GONE =
  'is gone: restore it; at the next start without it a new key would be made, which ends every access token'

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code

const readPrivate = (file: string): string => {
  // O_NOFOLLOW: a link could point where somebody else writes. O_NONBLOCK: a FIFO must not hang the start.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { mode, uid, gid, size } = fstatSync(fd)
    const problems: string[] = []
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) problems.push('is not a regular file')
    else if (size > MAX_BYTES) problems.push(`is larger than ${MAX_BYTES} bytes`)
    // Debian 13's systemd hands over a credential as root:root 0440: the group's bit is then the mask of an ACL that
    // names the service's user, and the group itself is root's.
    const isCredential = uid === 0 && gid === 0 && (mode & 0o777) === 0o440
    if ((mode & OTHERS) !== 0 && !isCredential) {
      problems.push(
        `has mode ${(mode & 0o777).toString(8)}: others may have read the key; chmod 0600 it, and make a new key if they did`,
      )
    }
    if (uid !== process.geteuid?.() && uid !== 0) {
      problems.push(`belongs to user ${uid}: chown it to the user of the service`)
    }
    if (problems.length > 0) throw new ConfigError(problems.map((what) => `${file}: ${what}`))
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

const checkDirectory = (directory: string): { uid: number } => {
  const { mode, uid } = statSync(directory)
  if ((mode & 0o022) !== 0) {
    throw new ConfigError([
      `${directory}: others may write here, so they could put a key of theirs: chmod 0700 it`,
    ])
  }
  return { uid }
}

export const keysFile = (directory: string): string => join(directory, 'keys.json')

/** The keys of the state directory, made at the first start. Throws a ConfigError with every problem. */
export const loadKeys = async (
  directory: string,
  options: { mustExist?: boolean } = {},
): Promise<Keyring> => {
  const text = readKeySet(directory, options)
  const keyring = await parseKeyring(text)
  if ('problems' in keyring) {
    throw new ConfigError(keyring.problems.map((what) => `${keysFile(directory)}: ${what}`))
  }
  return keyring
}

/** What a start would find there, and nothing is made. */
export const judgeKeys = async (directory: string): Promise<void> => {
  const file = keysFile(directory)
  const isThere = sayCure(file, () => {
    const owner = checkDirectory(directory)
    accessSync(directory, constants.W_OK | constants.X_OK)
    const found = lstatSync(file, { throwIfNoEntry: false })
    // Root looks from outside at what systemd lays a credential over: an empty file of root's, in the service's folder.
    const isPlace = found?.size === 0 && found.uid === 0 && owner.uid !== 0
    return found !== undefined && !isPlace
  })
  if (isThere) await loadKeys(directory, { mustExist: true })
}

/** The text of the key file, where nobody else could have written or read it. */
const readKeySet = (directory: string, { mustExist = false }: { mustExist?: boolean }): string => {
  const file = keysFile(directory)
  return sayCure(file, () => {
    checkDirectory(directory)
    if (statSync(file, { throwIfNoEntry: false }) === undefined) {
      // At a reload: a new key would log everybody out, and say nothing.
      if (mustExist) throw new ConfigError([`${file}: ${GONE}`])
      createFile(file, generateKeySet(systemClock.now()))
    }
    return readPrivate(file)
  })
}

const sayCure = <Found>(file: string, look: () => Found): Found => {
  try {
    return look()
  } catch (error) {
    if (error instanceof ConfigError) throw error
    const code = codeOf(error)
    if (code === undefined) throw error // no answer of the kernel's: a bug, not an operator's slip
    const what =
      code === 'ELOOP'
        ? 'is a symbolic link: put the file itself there'
        : `cannot be used (${code}): run a command as root (sudo); the service needs a directory of its own, writable and 0700`
    throw new ConfigError([`${file}: ${what}`])
  }
}

/**
 * The key file changed, whole and durable: a daemon that reads it sees the old set or the new one. The caller
 * holds the lock. `edit` gets the text and returns the new one, or anything else to leave the file alone.
 */
export const editKeys = async <Result extends object>(
  directory: string,
  edit: (text: string) => Result,
): Promise<Result> => {
  await loadKeys(directory, { mustExist: true }) // a set with a problem is mended by hand first
  const result = edit(readKeySet(directory, { mustExist: true }))
  if (!('text' in result)) return result
  const text = String(result.text)
  const keyring = await parseKeyring(text)
  /* c8 ignore next: what an edit makes of a good set is good; were it not, nothing may be written */
  if ('problems' in keyring) throw new Error('the edited key set would not load')
  const file = keysFile(directory)
  replaceFile(file, text, { owner: statSync(file), mode: 0o600 })
  return result
}
