// One at a time over a file that several commands change. A lock is a file that names its process; it
// must never be taken from one that still runs.
import { linkSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs'
import { randomBytes } from 'node:crypto'
import { systemClock } from '../clock.ts'

/** Somebody else holds it. The message names the cure. */
export class LockError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'LockError'
  }
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
    const pid = Number(readFileSync(lock, 'utf8'))
    // 0 and below are groups of processes, and a file that is not ours is not ours to remove.
    if (!Number.isSafeInteger(pid) || pid <= 0) return false
    process.kill(pid, 0)
    return false
  } catch (error) {
    // ESRCH: no such process. ENOENT (released meanwhile) and EPERM (somebody else's) are none of ours.
    return (error as NodeJS.ErrnoException).code === 'ESRCH'
  }
}

/** A process that was killed leaves its lock. Under a lock of its own, or two could take it over. */
const takeOver = (mine: string, lock: string): void => {
  if (!isStale(lock) || !tryLink(mine, `${lock}.takeover`)) return
  try {
    if (isStale(lock)) unlinkSync(lock)
  } finally {
    unlinkSync(`${lock}.takeover`)
  }
}

/** Resolves to the release. `patience` in seconds; it throws when another process holds on for longer. */
export const lockFile = async (lock: string, patience = 5): Promise<() => void> => {
  // Linked into place, not created there: it is never seen without the number in it.
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
