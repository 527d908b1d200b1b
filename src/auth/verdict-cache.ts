// What was decided about a token's text, remembered in bounded memory. A remembered verdict says only that
// the token is rightly made: whether it still counts is asked at every use.

export interface VerdictCache<Value> {
  get(text: string): Value | undefined
  set(text: string, value: Value): void
}

interface Remembered<Value> {
  text: string
  value: Value
}

// To hash a whole token costs 0.9 µs of every check; its end is the signature's, and tells as much.
const END = 43 // characters: 32 bytes in base64url

/**
 * A Map in two halves: what is asked for again moves to the young half, the old half is dropped whole when
 * the young one is full. Bounded at twice `size`, and nothing is ever swept. Of texts with one end the later
 * one is remembered: somebody else's end under another token finds nothing.
 */
export const createVerdictCache = <Value>(size: number): VerdictCache<Value> => {
  let young = new Map<string, Remembered<Value>>()
  let old = new Map<string, Remembered<Value>>()
  const keep = (end: string, one: Remembered<Value>): void => {
    if (young.size >= size) {
      old = young
      young = new Map()
    }
    young.set(end, one)
  }
  return {
    get(text) {
      const end = text.slice(-END)
      const hit = young.get(end)
      if (hit?.text === text) return hit.value
      const kept = old.get(end)
      if (kept?.text !== text) return undefined
      keep(end, kept)
      return kept.value
    },
    set(text, value) {
      keep(text.slice(-END), { text, value })
    },
  }
}
