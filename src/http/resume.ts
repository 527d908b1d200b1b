// Where a client that comes back left off, in Nchan's words. Whatever is not exactly what Nchan hands out counts
// as nothing: one GET with `0:-1`, `0:32768` or `0:[-1],-` kills a worker of nginx (Nchan 1.3.6 and 1.3.7).

import { decodePercent } from './resource.ts'

// Second, and place among its messages; where a kick channel stands beside, `-`: nothing of that one.
const ID = { one: /^\d{10}:\d{1,4}$/, two: /^\d{10}:\[\d{1,4}\],-$/ } as const
// What follows the colon, as an ETag that a proxy may have weakened.
const TAG = { one: /^(?:W\/)?"?(\d{1,4})"?$/, two: /^(?:W\/)?"?(\[\d{1,4}\],-)"?$/ } as const
const QUERY = /[?&]last_event_id=([^&]*)/i // nginx ignores case in names, and takes the first

/** An HTTP date in its one right spelling → seconds; anything else → NaN, with which no id begins. */
const secondsOf = (date: string): number => {
  const milliseconds = Date.parse(date)
  return new Date(milliseconds).toUTCString() === date ? milliseconds / 1000 : NaN
}

const write = (id: string, channels: keyof typeof ID): string => {
  const [second, place] = id.match(/\d+/g) as string[]
  return channels === 'one' ? `${second}:${place}` : `${second}:[${place}],-`
}

/**
 * The id that counts, in Nchan's order: If-Modified-Since with If-None-Match, else Last-Event-ID, else the query.
 * `said` is these three headers with bars between them (postern-http.conf). It comes in the form of a stream with so many
 * channels; of a long-poll, whose own headers Nchan reads, an id of the other form is nothing.
 */
export const readResume = (
  said: string,
  uri: string,
  channels: keyof typeof ID,
): string | undefined => {
  const [since = '', etag = '', last = '', ...more] = said.split('|')
  if (more.length > 0) return undefined
  if (since !== '' || etag !== '') {
    const polled = `${secondsOf(since)}:${TAG[channels].exec(etag)?.[1]}`
    return [etag, polled].find((id) => ID[channels].test(id))
  }
  const asked = [last, decodePercent(QUERY.exec(uri)?.[1] ?? '') ?? '']
  const id = asked.find((one) => ID.one.test(one) || ID.two.test(one))
  return id && write(id, channels)
}
