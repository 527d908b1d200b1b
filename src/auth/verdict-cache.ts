// Verdicts on tokens, in bounded memory. A remembered verdict says only that the token was properly signed: whether
// it is still valid is judged at every use, by whatever the clock then says. One that is not here is verified anew.

interface Remembered<Value> {
  text: string
  value: Value
}

// Hashing a whole token costs 0.9 µs of every check; its end is part of the signature, and is as unique.
const END = 43 // characters: 32 bytes in base64url

/**
 * A Map in two halves: what is used again moves to the young half, and when that is full the old half is dropped
 * whole. Bounded at twice `size`, with no sweeping. The whole text is compared: a token that borrows the end of
 * another finds nothing.
 */
export const createVerdictCache = <Value>(size: number) => {
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
    get(text: string): Value | undefined {
      const end = text.slice(-END)
      const hit = young.get(end)
      if (hit?.text === text) return hit.value
      const kept = old.get(end)
      if (kept?.text !== text) return undefined
      keep(end, kept)
      return kept.value
    },
    set(text: string, value: Value): void {
      keep(text.slice(-END), { text, value })
    },
  }
}
