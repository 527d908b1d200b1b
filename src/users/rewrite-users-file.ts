// The users file rewritten whole, under a lock: a reader sees the old file or the new one, and two
// commands at once lose nothing. It must never widen who may read the hashes.
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { lockFile } from '../files/lock-file.ts'

const NEW_MODE = 0o640 // the service's group reads it, others do not see a hash

/**
 * `edit` gets the content (undefined: no such file) and returns the new text, or anything else to leave
 * the file alone. What it returned is returned.
 */
export async function rewriteUsersFile<Result extends object>(
  file: string,
  edit: (content: Buffer | undefined) => Result,
): Promise<Result> {
  const target = followLinks(file)
  const release = await lockFile(`${target}.lock`)
  try {
    const old = statSync(target, { throwIfNoEntry: false })
    const result = edit(old && readFileSync(target))
    if ('text' in result) replace(target, String(result.text), old)
    return result
  } finally {
    release()
  }
}

/** A link stays one: what it points to is rewritten. */
function followLinks(file: string): string {
  const folder = realpathSync(dirname(file))
  const path = join(folder, basename(file))
  return statSync(path, { throwIfNoEntry: false }) === undefined ? path : realpathSync(path)
}

function replace(target: string, text: string, old: Stats | undefined): void {
  const folder = dirname(target)
  const owner = old ?? statSync(folder)
  const fresh = `${target}.${randomBytes(6).toString('hex')}`
  const handle = openSync(fresh, 'wx', 0o600)
  try {
    try {
      writeFileSync(handle, text)
      const { uid, gid } = fstatSync(handle)
      if (uid !== owner.uid || gid !== owner.gid) fchownSync(handle, owner.uid, owner.gid)
      fchmodSync(handle, old === undefined ? NEW_MODE : old.mode & 0o777)
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
    renameSync(fresh, target)
  } catch (error) {
    rmSync(fresh, { force: true })
    throw error
  }
  // The rename itself: without it a power cut may bring the old users back.
  const folderHandle = openSync(folder, 'r')
  try {
    fsyncSync(folderHandle)
  } finally {
    closeSync(folderHandle)
  }
}
