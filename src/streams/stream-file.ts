// The list of live streams, where it lives as long as they do: in the run folder, which a reboot empties as it ends
// nginx's connections, and which no restore, new store or lost Redis touches. It is written before a stream is let in,
// by write(2) alone: what the kernel has survives a kill -9 of ours, and nothing of it need outlive the machine.

import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

import type { Time } from '../clock.ts'
import { createNeighbours, readList, SUFFIX } from './neighbours.ts'
import {
  closedLine,
  headLine,
  type Lines,
  nginxLine,
  openedLine,
  readLines,
} from './stream-lines.ts'
import type { Subscription } from './subscription.ts'

const FLUSH_EVERY = 0.2 // seconds: an end that is not written yet is only asked about once more
const LOOK_EVERY = 1 // second
const SLICE = 500 // streams that a rewriting copies at a time, 1 ms of the loop's
const SPARE = 1000 // lines, beside two for each stream, from which on it is rewritten
const ANEW =
  constants.O_WRONLY |
  constants.O_CREAT |
  constants.O_EXCL |
  constants.O_NOFOLLOW |
  constants.O_APPEND

/** Beside the control socket, which no other daemon of this machine has. */
export const streamFileOf = (control: string): string =>
  `${control.replace(/\.sock$/, '')}${SUFFIX}`

/** The list cannot be written: why, and the cure. */
export class StreamFileError extends Error {}

const lossOf = (text: string | undefined, { isDamaged }: Lines): Loss | undefined => {
  if (text === undefined) return 'missing'
  return isDamaged ? 'damaged' : undefined
}

interface Written {
  readonly fd: number
  size: number
  lines: number
}

const append = (to: Written, text: string): void => {
  const bytes = Buffer.from(text)
  const written = writeSync(to.fd, bytes)
  if (written < bytes.length) {
    ftruncateSync(to.fd, to.size) // half a line would spoil the next one
    throw Object.assign(new Error('only a part was written'), { code: 'ENOSPC' })
  }
  to.size += written
  to.lines++
}

/** Why streams may be live that do not stand in the list. */
export type Loss = 'missing' | 'damaged'

export const openStreamFile = (parts: {
  file: string
  /** Whose streams: those who have it in common take over from each other. */
  of: string
  clock: Pick<Time, 'every'>
  /** Once per outage, and once when it is over. */
  onFault(fault: StreamFileError | undefined): void
}) => {
  const { file, of, clock, onFault } = parts
  const anew = `${file}.new`
  /** What stands in it and is not over. */
  const kept = new Map<string, Subscription>()
  let nginx: object = {}
  let isNginxDue = false
  let closes: string[] = []
  let list: Written | undefined
  /** Being rewritten: whatever is said goes to both. */
  let draft: (Written & { left: Iterator<Subscription> }) | undefined
  let fault: StreamFileError | undefined
  let closed = false

  const fail = (error: unknown): StreamFileError => {
    const { code } = error as NodeJS.ErrnoException
    const cure =
      code === 'ENOSPC' || code === 'EDQUOT'
        ? `make room on its file system (df ${dirname(file)})`
        : 'its folder must be there and the service’s (`systemd-tmpfiles --create postern.conf`)'
    const before = fault
    fault = new StreamFileError(`${file} cannot be written (${code}): ${cure}`, { cause: error })
    if (!before) onFault(fault)
    return fault
  }

  const dropDraft = (): void => {
    if (!draft) return
    closeSync(draft.fd)
    draft = undefined
    rmSync(anew, { force: true })
  }

  const recovered = (): void => {
    if (fault) onFault(undefined)
    fault = undefined
  }

  const say = (text: string): void => {
    if (!list) throw fault as StreamFileError
    try {
      append(list, text)
      if (draft) append(draft, text)
    } catch (error) {
      dropDraft()
      throw fail(error)
    }
    recovered()
  }

  /** Copies so many; what is opened or over meanwhile is said to both. */
  const goOn = (most: number): void => {
    if (!draft) return
    try {
      let text = ''
      for (let count = 0; count < most; count++) {
        const { value, done = false } = draft.left.next()
        if (done) {
          if (text !== '') append(draft, text)
          renameSync(anew, file)
          if (list) closeSync(list.fd)
          list = { fd: draft.fd, size: draft.size, lines: kept.size }
          draft = undefined
          recovered()
          return
        }
        text += openedLine(value)
      }
      append(draft, text)
    } catch (error) {
      dropDraft()
      if (!list) fail(error) // else it goes on as it is
    }
  }

  const rewrite = (): void => {
    if (draft) return
    try {
      rmSync(anew, { force: true })
      draft = { fd: openSync(anew, ANEW, 0o600), size: 0, lines: 0, left: kept.values() }
      append(draft, headLine(of) + nginxLine(nginx))
    } catch (error) {
      dropDraft()
      if (!list) fail(error) // else it goes on as it is
    }
  }

  const flush = (): void => {
    const text =
      (closes.length > 0 ? closedLine(closes) : '') + (isNginxDue ? nginxLine(nginx) : '')
    if (text === '') return
    try {
      say(text)
      closes = []
      isNginxDue = false
    } catch {
      // said by whoever failed first; tried again
    }
  }

  /** Whether the file of that name is the one that we write. */
  const isOurs = ({ fd }: Written): boolean => {
    try {
      const [found, written] = [statSync(file), fstatSync(fd)]
      return found.ino === written.ino && found.dev === written.dev
    } catch {
      return false
    }
  }

  const look = (): void => {
    if (list) fchmodSync(list.fd, 0o600) // a sign of life for the instances beside us
    if (list && !isOurs(list)) {
      dropDraft()
      closeSync(list.fd)
      list = undefined
    }
    if (!list) {
      rewrite()
      goOn(Infinity) // until it is there, a crash would leave nothing
    } else if (list.lines > 2 * kept.size + SPARE) rewrite()
  }

  const text = readList(file)
  const before = readLines(text ?? '')
  for (const [kick, stream] of before.streams) kept.set(kick, stream)
  nginx = Object(before.nginx) as object
  const loss = lossOf(text, before)
  rewrite()
  goOn(Infinity)
  const stops = [
    clock.every(FLUSH_EVERY, () => {
      flush()
      goOn(SLICE)
    }),
    clock.every(LOOK_EVERY, look),
  ]

  return {
    /** Whether something was lost of what stood there at the start. */
    loss,
    /** What is remembered of nginx's processes. */
    nginx: (): object => nginx,
    list: (): Subscription[] => [...kept.values()],
    /** Throws where it cannot be written: then it is not in it. Also for a stream that has changed. */
    open(stream: Subscription): void {
      say(openedLine(stream))
      kept.set(stream.kick, stream)
    },
    close(kick: string): void {
      if (kept.delete(kick)) closes.push(kick)
    },
    /** What is to be known of nginx's processes at the next start. */
    remember(processes: object): void {
      nginx = processes
      isNginxDue = true
      flush()
    },
    neighbours: createNeighbours(file, of),
    shut(): void {
      if (closed) return
      closed = true
      for (const stop of stops) stop()
      flush()
      dropDraft()
      if (list) closeSync(list.fd)
      list = undefined
      fault = new StreamFileError(`${file} is closed`)
    },
  }
}

export type StreamFile = ReturnType<typeof openStreamFile>
