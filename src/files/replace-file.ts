// Files are written whole or not at all, also if the power fails: a draft beside the file is synced and renamed, and
// then the directory is synced, which holds the name.

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

// Never into a file, or through a link, that somebody else has put there.
const ANEW = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW

/** Syncs a file or a directory. A name is only as durable as the directory that holds it. */
export const syncPath = (path: string): void => {
  const fd = openSync(path, constants.O_RDONLY)
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** For a file that has been written already. It replaces the one of that name. */
export const renameDurably = (from: string, to: string): void => {
  syncPath(from)
  renameSync(from, to)
  syncPath(dirname(to))
}

/** Private from its first byte, and removed again if anything fails. */
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

/** A reader sees the old text or the new one. A link is replaced, not followed. */
export const replaceFile = (file: string, text: string, access: Access): void => {
  writeDraft(file, text, access, (draft) => {
    renameSync(draft, file)
  })
}

/** A new file with mode 0600; one that is there already is left alone, also if it appears at this moment. */
export const createFile = (file: string, text: string): void => {
  writeDraft(file, text, undefined, (draft) => {
    try {
      linkSync(draft, file)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
  })
}
