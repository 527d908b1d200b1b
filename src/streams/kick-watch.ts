// Whether nginx can be asked to end a stream. While it cannot, no new one may open: nothing could end it. A check
// that asks is answered from memory, at most 2.5 s old (a look a second, and what PATIENCE allows).

import { KickSocketError, type Kicker } from './kicker.ts'

export interface KickWatch {
  /** What keeps streams from being ended; undefined while nginx answers. */
  obstacle(): KickSocketError | undefined
  /** What Nchan counted of itself at the last look; nothing while nginx does not answer. */
  counts(): ReadonlyMap<string, number>
  close(): void
}

const EVERY = 1000 // milliseconds between looks
const AGAIN = 100 // after one in vain: nginx's clients all come back with it
const PATIENCE = 1500 // for an answer, or for nginx to be back: most of its restarts take less, and refuse nobody

const NOTHING: ReadonlyMap<string, number> = new Map()
const SILENT = new KickSocketError('nginx does not answer on its kick socket: see its error log')

/** Resolves after the first look, or when that has taken too long. */
export const openKickWatch = async (parts: {
  kicker: Pick<Kicker, 'status'>
  /** Once an outage, and once when it is over. */
  onChange(fault: KickSocketError | undefined): void
}): Promise<KickWatch> => {
  const { kicker, onChange } = parts
  let fault: KickSocketError | undefined = new KickSocketError('nginx was not asked yet')
  let why = SILENT
  let counts = NOTHING
  let said = false
  let closed = false
  let next: NodeJS.Timeout | undefined
  let doubt: NodeJS.Timeout | undefined
  const first = Promise.withResolvers<void>()

  const lose = (): void => {
    fault = why
    counts = NOTHING
    said = true
    onChange(why)
    first.resolve()
  }

  const look = async (): Promise<void> => {
    // The answer may be there, unread: a pause of our own is not nginx's silence.
    doubt ??= setTimeout(() => setImmediate(() => doubt && lose()), PATIENCE)
    try {
      counts = await kicker.status()
      clearTimeout(doubt)
      doubt = undefined
      fault = undefined
      why = SILENT
      if (said && !closed) onChange(undefined)
      said = false
    } catch (error) {
      why = error as KickSocketError
      fault &&= why
    }
    first.resolve()
    if (!closed) next = setTimeout(() => void look(), doubt ? AGAIN : EVERY).unref()
  }
  void look()
  await first.promise

  return {
    obstacle: () => fault,
    counts: () => counts,
    close() {
      closed = true
      clearTimeout(next)
      clearTimeout(doubt)
      doubt = undefined
    },
  }
}
