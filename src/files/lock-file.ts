// One process at a time may change a file. A lock is a file that contains the number of its process; it must never be
// taken from a process that still runs.
import { constants, linkSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { systemClock } from '../clock.ts'

/** Another process holds it. The message names the cure. */
export class LockError extends Error {
  override readonly name = 'LockError'
}

const tryLink = (from: string, to: string): boolean => {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    /* c8 ignore next: no test mounts a file system without hard links, which is what this is */
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    return false
  }
}

const isStale = (lock: string): boolean => {
  try {
    // O_NONBLOCK: a FIFO in its place must not hang root's command.
    const flag = constants.O_RDONLY | constants.O_NONBLOCK
    const pid = Number(readFileSync(lock, { encoding: 'utf8', flag }))
    // 0 and below mean groups of processes, and what is no lock is not ours to remove.
    if (!Number.isSafeInteger(pid) || pid <= 0) return false
    process.kill(pid, 0)
    return false
  } catch (error) {
    // ESRCH: no such process. Neither ENOENT (released meanwhile) nor EPERM (another user's) is stale.
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

/** A killed process leaves its lock behind. Removed under a lock of its own, or two could take it over. */
const takeOver = (mine: string, lock: string): void => {
  if (!isStale(lock) || !tryLink(mine, `${lock}.takeover`)) return
  try {
    if (isStale(lock)) unlinkSync(lock)
  } finally {
    unlinkSync(`${lock}.takeover`)
  }
}

/** Resolves to the release. Throws if another process holds it for longer than `patience`, in seconds. */
export const lockFile = async (lock: string, patience = 5): Promise<() => void> => {
  // Linked into place, not created there: nobody ever sees it without the number in it.
  const mine = `${lock}.${randomBytes(6).toString('hex')}`
  writeFileSync(mine, `${process.pid}\n`, { flag: 'wx', mode: 0o600 })
  try {
    const deadline = systemClock.monotonic() + patience
    while (!tryLink(mine, lock)) {
      takeOver(mine, lock)
      if (systemClock.monotonic() > deadline)
        throw new LockError(
          `another process holds ${lock}: wait for it, or remove that file if none does`,
        )
      await systemClock.wait(0.02)
    }
    return () => unlinkSync(lock)
  } finally {
    unlinkSync(mine)
  }
}
