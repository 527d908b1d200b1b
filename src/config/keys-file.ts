// The key file in the state directory. Created once, whole and 0600 from the first byte; read only where
// nobody else could have written or read it. Where that fails the daemon does not start: a key that lives
// only in memory would log everybody out at the next restart.

import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

import { generateKeySet, type Keyring, parseKeyring } from '../auth/keyring.ts'
import { ConfigError } from './config-error.ts'

const MAX_BYTES = 64 * 1024
const OTHERS = 0o077

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException).code

const syncDirectory = (directory: string): void => {
  const fd = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** A second process that starts at the same moment makes its own text; link() lets only one of them be the file. */
const createOnce = (directory: string, file: string): void => {
  const draft = `${file}.${randomBytes(6).toString('hex')}`
  const fd = openSync(draft, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    writeSync(fd, generateKeySet())
    fsyncSync(fd)
    linkSync(draft, file)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
  } finally {
    closeSync(fd)
    unlinkSync(draft)
  }
  syncDirectory(directory)
}

const readPrivate = (file: string): string => {
  // O_NOFOLLOW: a link could point where somebody else writes. O_NONBLOCK: a FIFO must not hang the start.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    const { mode, uid, size } = fstatSync(fd)
    const problems: string[] = []
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) problems.push('is not a regular file')
    else if (size > MAX_BYTES) problems.push(`is larger than ${MAX_BYTES} bytes`)
    if ((mode & OTHERS) !== 0) {
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

const checkDirectory = (directory: string): void => {
  if ((statSync(directory).mode & 0o022) !== 0) {
    throw new ConfigError([
      `${directory}: others may write here, so they could put a key of theirs: chmod 0700 it`,
    ])
  }
}

export const keysFile = (directory: string): string => join(directory, 'keys.json')

/** The keys of the state directory, made at the first start. Throws a ConfigError with every problem. */
export const loadKeys = async (directory: string): Promise<Keyring> => {
  const file = keysFile(directory)
  let text: string
  try {
    checkDirectory(directory)
    if (statSync(file, { throwIfNoEntry: false }) === undefined) createOnce(directory, file)
    text = readPrivate(file)
  } catch (error) {
    if (error instanceof ConfigError) throw error
    const code = codeOf(error)
    if (code === undefined) throw error // no answer of the kernel's: a bug, not an operator's slip
    const what =
      code === 'ELOOP'
        ? 'is a symbolic link: put the file itself there'
        : `cannot be used (${code}): the service needs a directory of its own, writable and 0700`
    throw new ConfigError([`${file}: ${what}`])
  }
  const keyring = await parseKeyring(text)
  if ('problems' in keyring) {
    throw new ConfigError(keyring.problems.map((what) => `${file}: ${what}`))
  }
  return keyring
}
