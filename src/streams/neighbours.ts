// The lists of the instances beside us, in the same run folder. One that gives no sign of life any more leaves streams
// that only we could end: a sign of life is that its file was touched, by the kernel's time, whatever any clock says.

import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'

import { readLines } from './stream-lines.ts'
import type { Subscription } from './subscription.ts'

export const SUFFIX = '.streams'
const SILENT = 5 // looks, of one a second each

export interface Silent {
  readonly file: string
  readonly streams: readonly Subscription[]
  /** They are ours by now. */
  taken(): void
}

/** Undefined where it is not there; empty where it cannot be read. */
export const readList = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT' ? undefined : ''
  }
}

/** `of`: whose streams they are; those of others are left alone. */
export const createNeighbours = (file: string, of: string) => {
  /** When each was touched last, and for how many looks that has been so. */
  const looks = new Map<string, { at: number | undefined; same: number; isTaken: boolean }>()

  const others = (): string[] => {
    try {
      return readdirSync(dirname(file))
        .filter((name) => name.endsWith(SUFFIX) && name !== basename(file))
        .map((name) => join(dirname(file), name))
    } catch {
      return []
    }
  }
  const read = (path: string) => readLines(readList(path) ?? '')

  return {
    /** Whether one of ours is there. */
    isThere: () => others().some((path) => read(path).of === of),
    /** Whose streams are nobody's by now. To be asked each second. */
    silent(): Silent[] {
      const gone: Silent[] = []
      for (const path of others()) {
        const at = statSync(path, { throwIfNoEntry: false })?.ctimeMs
        const seen = looks.get(path)
        if (!seen || seen.at !== at) {
          looks.set(path, { at, same: 0, isTaken: false })
          continue
        }
        if (++seen.same < SILENT || seen.isTaken) continue
        const theirs = read(path)
        const taken = (): void => void (seen.isTaken = true)
        if (theirs.of === of) {
          gone.push({ file: path, streams: [...theirs.streams.values()], taken })
        } else taken()
      }
      return gone
    },
  }
}

export type Neighbours = ReturnType<typeof createNeighbours>
