// Root's commands work in folders of the service's: whoever took the daemon over can put a link, a FIFO or another
// folder in their way there. So root becomes the owner of such a folder first, and gets no further than the owner does.

import { lstatSync, readlinkSync, type Stats, statSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'

type Owner = Pick<Stats, 'uid' | 'gid'>

const MAX_LINKS = 40 // as the kernel has it
const NOGROUP = 65_534

/**
 * Whose word it is what stands at a path: of the first link on the way that is not root's, else of the folder at its
 * end. Links of root's are followed. `isBelieved`: what the file says decides what root does next, so it is also the word
 * of the file's own owner.
 */
const findOwner = (path: string, isBelieved: boolean): Owner => {
  const left = (isAbsolute(path) ? path : `${process.cwd()}/${path}`).split('/')
  let folder = '/'
  let owner: Owner = statSync(folder)
  let links = 0
  for (let name = left.shift(); name !== undefined; name = left.shift()) {
    const here = join(folder, name)
    const found = lstatSync(here, { throwIfNoEntry: false })
    if (found?.isDirectory() === true) {
      folder = here
      owner = found
    } else if (found?.isSymbolicLink() === true) {
      if (found.uid !== 0) return found
      const to = readlinkSync(here)
      if (isAbsolute(to)) folder = '/'
      if (links++ < MAX_LINKS) left.unshift(...to.split('/'))
    } else {
      // The file, or nothing.
      return found && isBelieved && owner.uid === 0 ? found : owner
    }
  }
  return owner
}

/**
 * `work` at the path, by root as its owner; by anybody else as they are. The whole process becomes the owner meanwhile, so
 * nothing else may go on beside it: for commands, not for the daemon.
 */
export const asOwner = async <Result>(
  path: string,
  work: () => Result | Promise<Result>,
  isBelieved = false,
): Promise<Result> => {
  const { geteuid, seteuid, getegid, setegid, getgroups, setgroups } = process as Required<
    typeof process
  >
  if (geteuid() !== 0) return work()
  const owner = findOwner(path, isBelieved)
  if (owner.uid === 0) return work()
  const groups = getgroups()
  const group = getegid()
  const own = owner.gid === 0 ? NOGROUP : owner.gid
  setgroups([own])
  setegid(own)
  seteuid(owner.uid)
  try {
    return await work()
  } finally {
    seteuid(0)
    setegid(group)
    setgroups(groups)
  }
}
