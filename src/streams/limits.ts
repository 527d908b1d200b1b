// How much one session may have open at once. What is old gives way: a phone that changes networks leaves streams
// half-open behind. What is young stays, and the new one is refused: else a page in hundreds of tabs, or a client that
// reconnects in a loop, would have its own streams ended for ever, each end bringing the next.

import type { LiveStream } from './live-list.ts'

export interface Limits {
  /** Resources, however many streams each has. */
  perSession: number
  /** Streams of all of them. */
  streamsPerSession: number
}

const YOUNG = 60 // seconds

/** Whoever allows more resources means a stream of each. */
const mostStreams = ({ perSession, streamsPerSession }: Limits): number =>
  Math.max(perSession, streamsPerSession)

/**
 * The WebSockets that nginx has not shown yet, where these are half of what the session may have: it has no more until
 * they are seen, or over. One user who drops 800 handshakes a second held up other people's checks for 5.4 s, by what
 * was kept of each and asked about it (measured).
 */
export const findUnseen = (
  streams: readonly LiveStream[],
  limits: Limits,
): readonly LiveStream[] => {
  const unseen = streams.filter(({ exclusive, sighting }) => exclusive && sighting !== 'seen')
  return unseen.length * 2 < mostStreams(limits) ? [] : unseen
}

/** The oldest so many; undefined where one of them is too young to give way. */
const takeOldest = <Key>(
  openedAt: Iterable<readonly [Key, number]>,
  count: number,
  now: number,
): readonly Key[] | undefined => {
  if (count <= 0) return []
  const oldest = [...openedAt].sort(([, one], [, other]) => one - other).slice(0, count)
  return oldest.every(([, at]) => at <= now - YOUNG) ? oldest.map(([key]) => key) : undefined
}

/** Which of a session's streams give way to one more of this resource; undefined: it is refused. */
export const findSurplus = (
  streams: readonly LiveStream[],
  resource: string,
  limits: Limits,
  now: number,
): readonly LiveStream[] | undefined => {
  if (streams.length < limits.perSession) return []
  /** When each was last opened: a resource that is used stays, whatever else hangs on it. */
  const resources = new Map<string, number>()
  for (const { resource: name, openedAt } of streams) {
    resources.set(name, Math.max(resources.get(name) ?? openedAt, openedAt))
  }
  resources.delete(resource)
  const unused = takeOldest(resources, resources.size + 1 - limits.perSession, now)
  if (!unused) return undefined
  const names = new Set(unused)
  const left = streams.filter((stream) => !names.has(stream.resource))
  const oldest = takeOldest(
    left.map((stream) => [stream, stream.openedAt] as const),
    left.length + 1 - mostStreams(limits),
    now,
  )
  return oldest && [...streams.filter((stream) => names.has(stream.resource)), ...oldest]
}

/** The same, with a look at nginx for those that it has not shown: it may refuse for their sake. */
export const findRoom = (
  streams: readonly LiveStream[],
  resource: string,
  limits: Limits,
  now: number,
  look: (stream: LiveStream) => void,
): readonly LiveStream[] | undefined => {
  const unseen = findUnseen(streams, limits)
  for (const stream of unseen) {
    if (stream.sighting === 'none') look(stream)
    stream.sighting = 'asked'
  }
  return unseen.length > 0 ? undefined : findSurplus(streams, resource, limits, now)
}
