// A source of users that stands in files: looked at each second, read again when it has changed and settled. What is
// wrong with it is said once.

export interface Watched {
  /** For people: the file that is named in the config. */
  readonly file: string
  /** What a look sees of the files: another text once they have changed. */
  readMark(): Promise<string>
  /** The mark of the first reading. */
  readonly mark: string
  /** Whether what this mark stands for has still to be read. */
  isNew(mark: string): boolean
  /** Rejects where the change could not be carried out: tried again at the next look. */
  read(): Promise<void>
  onProblem(problems: readonly string[]): void
  every(seconds: number, look: () => Promise<void>): () => void
}

export interface Watch {
  /** Whether nobody wants to hear of the source any more. */
  readonly closed: boolean
  /** Said once until it changes; none: all is well again. */
  report(problems: readonly string[]): void
  /** Reads now, after what is being read; rejects as `read` does. */
  reload(): Promise<void>
  close(): void
}

const LOOK_EVERY = 1 // second

export const startWatch = (watched: Watched): Watch => {
  const { file, readMark, isNew, read, onProblem } = watched
  let lastSeen = watched.mark
  let reported = ''
  let busy = false
  let closed = false
  let tail: Promise<void> = Promise.resolve()

  const report = (problems: readonly string[]): void => {
    const text = problems.join('\n')
    if (text !== '' && text !== reported && !closed) onProblem(problems)
    reported = text
  }
  const inTurn = (): Promise<void> => {
    const turn = tail.then(read)
    tail = turn.catch(() => undefined)
    return turn
  }
  /**
   * A change is read when two looks agree: an editor writes a file in place, a PBX several, one after the other, and
   * a half-written state would log the other half of the users out.
   */
  const look = async (): Promise<void> => {
    const mark = await readMark()
    const settled = mark === lastSeen
    lastSeen = mark
    if (settled && isNew(mark)) await inTurn()
  }
  const stop = watched.every(LOOK_EVERY, async () => {
    if (busy) return // a disk that hangs: looks must not pile up behind it
    busy = true
    try {
      await look()
    } catch {
      report([`${file}: its changes could not be carried out: tried again each second`])
    } finally {
      busy = false
    }
  })
  return {
    get closed() {
      return closed
    },
    report,
    reload: inTurn,
    close() {
      closed = true
      stop()
    },
  }
}
