// What was decided about a token's text, remembered in bounded memory. A remembered verdict says only that
// the token is rightly made: whether it still counts is asked at every use.

export interface VerdictCache<Value> {
  get(key: string): Value | undefined
  set(key: string, value: Value): void
}

/**
 * A Map in two halves: what is asked for again moves to the young half, the old half is dropped whole when
 * the young one is full. Bounded at twice `size`, and nothing is ever swept.
 */
export const createVerdictCache = <Value>(size: number): VerdictCache<Value> => {
  let young = new Map<string, Value>()
  let old = new Map<string, Value>()
  const set = (key: string, value: Value): void => {
    if (young.size >= size) {
      old = young
      young = new Map()
    }
    young.set(key, value)
  }
  return {
    get(key: string): Value | undefined {
      const hit = young.get(key)
      if (hit !== undefined) return hit
      const kept = old.get(key)
      if (kept !== undefined) set(key, kept)
      return kept
    },
    set,
  }
}
