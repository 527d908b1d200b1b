// Files that are there whole or not at all, also after a power cut: a draft beside the file, its bytes synced, its
// name moved, and the directory synced that holds the name.

import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { randomBytes } from 'node:crypto'
import { dirname } from 'node:path'

export interface Access {
  owner: { uid: number; gid: number }
  mode: number
}

// A draft that somebody has put there, or a link to elsewhere, is never written to.
const ANEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** Of a file or a directory. A name is only as durable as the directory that it stands in. */
export const syncPath = (path: string): void => {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** A file that is written already takes the name of another, or a new one. */
export const renameDurably = (from: string, to: string): void => {
  syncPath(from)
  renameSync(from, to)
  syncPath(dirname(to))
}

/** Private from the first byte, and gone again where anything fails. */
const writeDraft = (
  file: string,
  text: string,
  access: Access | undefined,
  place: (draft: string) => void,
): void => {
  const draft = `${file}.${randomBytes(6).toString('hex')}`
  const fd = openSync(draft, ANEW, 0o600)
  try {
    writeFileSync(fd, text)
    if (access) {
      const { owner, mode } = access
      const { uid, gid } = fstatSync(fd)
      if (uid !== owner.uid || gid !== owner.gid) fchownSync(fd, owner.uid, owner.gid)
      fchmodSync(fd, mode & 0o777)
    }
    fsyncSync(fd)
    place(draft)
  } finally {
    closeSync(fd)
    rmSync(draft, { force: true })
  }
  syncPath(dirname(file))
}

/** Whoever reads sees the old text or the new one. A link is replaced and not followed. */
export const replaceFile = (file: string, text: string, access: Access): void => {
  writeDraft(file, text, access, (draft) => {
    renameSync(draft, file)
  })
}

/** A new file, 0600. Of two that make it at the same moment one wins; the file is the winner's. */
export const createFile = (file: string, text: string): void => {
  writeDraft(file, text, undefined, (draft) => {
    try {
      linkSync(draft, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  })
}
