// The users file is rewritten whole, under a lock: a reader sees the old file or the new one, and two commands at once
// lose nothing. It must never let anybody read the hashes who could not before.
import { constants, readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { lockFile } from '../files/lock-file.ts'
import { replaceFile } from '../files/replace-file.ts'

const NEW_MODE = 0o640 // the service's group reads it, others do not see a hash

/** A link stays a link: what it points to is rewritten. */
const followLinks = (file: string): string => {
  const folder = realpathSync(dirname(file))
  const path = join(folder, basename(file))
  return statSync(path, { throwIfNoEntry: false }) === undefined ? path : realpathSync(path)
}

/**
 * `edit` gets the content (undefined: no such file) and returns the new text, or anything else to leave the file alone.
 * Resolves to what it returned.
 */
export const rewriteUsersFile = async <Result extends object>(
  file: string,
  edit: (content: Buffer | undefined) => Result | Promise<Result>,
): Promise<Result> => {
  const target = followLinks(file)
  const release = await lockFile(`${target}.lock`)
  try {
    const old = statSync(target, { throwIfNoEntry: false })
    const flag = constants.O_RDONLY | constants.O_NONBLOCK // a FIFO in its place must not hang root's command
    const result = await edit(old && readFileSync(target, { flag }))
    if ('text' in result) {
      const of = old ?? statSync(dirname(target))
      // Only root gives a file away. Whoever else may write here could as well put their own in its place.
      const owner = process.geteuid?.() === 0 ? of : { uid: -1, gid: of.gid }
      replaceFile(target, String(result.text), { owner, mode: old?.mode ?? NEW_MODE })
    }
    return result
  } finally {
    release()
  }
}
