// Where a client that comes back left off, in Nchan's words. Whatever is not exactly what Nchan hands out counts
// as nothing: one GET with `0:-1`, `0:32768` or `0:[-1],-` kills a worker of nginx (Nchan 1.3.6 and 1.3.7).

const ID = /^\d{10}:\[\d{1,4}\],-$/ // second, place among its messages, and `-`: nothing of the kick channel
const TAG = /^(?:W\/)?"?(\[\d{1,4}\],-)"?$/ // what follows the colon, as an ETag that a proxy may have weakened
const QUERY = /[?&]last_event_id=([^&]*)/i // nginx ignores case in names, and takes the first

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return ''
  }
}

/** An HTTP date in its one right spelling → seconds; anything else → NaN, with which no id begins. */
const secondsOf = (date: string): number => {
  const milliseconds = Date.parse(date)
  return new Date(milliseconds).toUTCString() === date ? milliseconds / 1000 : NaN
}

/**
 * The id that counts, in Nchan's order: If-Modified-Since with If-None-Match, else Last-Event-ID, else the query.
 * `said` is these three headers with bars between them (postern-http.conf).
 */
export const readResume = (said: string, uri: string): string | undefined => {
  const [since = '', etag = '', last = '', ...more] = said.split('|')
  if (more.length > 0) return undefined
  const polls = since !== '' || etag !== ''
  const asked = polls
    ? [etag, `${secondsOf(since)}:${TAG.exec(etag)?.[1]}`]
    : [last, decode(QUERY.exec(uri)?.[1] ?? '')]
  return asked.find((id) => ID.test(id))
}
