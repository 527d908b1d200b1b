// Where a client that comes back left off, in Nchan's words. Whatever is not exactly what Nchan hands out counts
// as nothing: one GET with `0:-1`, `0:32768` or `0:[-1],-` kills a worker of nginx (Nchan 1.3.6 and 1.3.7).

const ID = /^\d{10}:\[\d{1,4}\],-$/ // seconds, place among the messages of that second, none on the kick channel
const TAG = /^(?:W\/)?"?(\[\d{1,4}\],-)"?$/ // the latter two alone, as an ETag that a proxy may have weakened
const QUERY = /[?&]last_event_id=([^&]*)/i // nginx knows no case in names, and takes the first

const decode = (text: string): string => {
  try {
    return decodeURIComponent(text)
  } catch {
    return ''
  }
}

/** An HTTP date in its one right spelling → seconds; anything else gives no number that an id could begin with. */
const secondsOf = (date: string): number => {
  const milliseconds = Date.parse(date)
  return new Date(milliseconds).toUTCString() === date ? milliseconds / 1000 : NaN
}

/**
 * The id that counts, as Nchan chooses it: If-Modified-Since and If-None-Match before Last-Event-ID, that before the
 * query. `said` is the three headers with bars between them (postern-http.conf).
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
