// Who else could have written what is about to be believed. A file is no safer than the folder it stands in.

import { constants, statSync } from 'node:fs'
import { dirname } from 'node:path'

const { S_IFMT, S_IFREG, S_IWOTH } = constants
const STICKY = 0o1000 // nobody replaces another's file there, as in /tmp

/**
 * What lets every user of this host write the file, with the cure; undefined: nothing does. `mode`: of the file as it
 * was opened. A pipe or a device is what whoever names it has chosen.
 */
export const findWriters = (file: string, mode: number): string | undefined => {
  if ((mode & S_IFMT) !== S_IFREG) return undefined
  if ((mode & S_IWOTH) !== 0) {
    return `${file}: has mode ${(mode & 0o777).toString(8)}: every user of this host can write it; look at what stands there, then chmod o-w ${file}`
  }
  const folder = dirname(file)
  return (statSync(folder).mode & (S_IWOTH | STICKY)) === S_IWOTH
    ? `${file}: every user of this host can put another file in its place; look at what stands there, then chmod o-w ${folder}`
    : undefined
}
