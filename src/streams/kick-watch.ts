// Whether nginx can be asked to end a stream. While it cannot, no new one may open: nothing could end it. A check
// that asks is answered from memory, at most 2.5 s old (a look a second, and what PATIENCE allows).

import type { Time } from '../clock.ts'
import { KickSocketError, type Kicker } from './kicker.ts'

const EVERY = 1 // second between looks
const AGAIN = 0.1 // after a look in vain: when nginx is back, so are all its clients
const PATIENCE = 1.5 // seconds for an answer, or for nginx to be back: most restarts take less, and nobody is refused

const SILENT = new KickSocketError('nginx does not answer on its kick socket: see its error log')

/** Resolves after the first look, or when that has taken too long. */
export const openKickWatch = async (parts: {
  kicker: Pick<Kicker, 'countChannels'>
  clock: Pick<Time, 'after' | 'deadline'>
  /** Once per outage, and once when it is over. */
  onChange(fault: KickSocketError | undefined): void
}) => {
  const { kicker, clock, onChange } = parts
  let fault: KickSocketError | undefined = new KickSocketError('nginx has not been asked yet')
  let why = SILENT
  let channels = Number.NaN
  let said = false
  let closed = false
  let cancelNext = (): void => {}
  let cancelDoubt: (() => void) | undefined
  const first = Promise.withResolvers<void>()

  const lose = (): void => {
    fault = why
    channels = Number.NaN
    said = true
    onChange(why)
    first.resolve()
  }

  const look = async (): Promise<void> => {
    cancelDoubt ??= clock.deadline(PATIENCE, lose)
    try {
      channels = await kicker.countChannels()
      cancelDoubt()
      cancelDoubt = undefined
      fault = undefined
      why = SILENT
      if (said && !closed) onChange(undefined)
      said = false
    } catch (error) {
      why = error as KickSocketError
      fault &&= why
    }
    first.resolve()
    if (!closed) cancelNext = clock.after(cancelDoubt ? AGAIN : EVERY, () => void look())
  }
  void look()
  await first.promise

  return {
    /** What keeps streams from being ended; undefined while nginx answers. */
    obstacle: (): KickSocketError | undefined => fault,
    /** How many channels Nchan had at the last look; NaN while nginx does not answer. */
    channels: () => channels,
    close(): void {
      closed = true
      cancelNext()
      cancelDoubt?.()
    },
  }
}

export type KickWatch = Awaited<ReturnType<typeof openKickWatch>>
