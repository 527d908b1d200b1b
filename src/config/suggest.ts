// "Did you mean": the nearest of the names that exist. It only ever answers with one of these.

/** The pairs of neighbouring letters, ends included: a slip of the finger leaves most of them alone. */
const pairsOf = (word: string): Set<string> => {
  const padded = `^${word.toLowerCase()}$`
  const starts = Array.from({ length: padded.length - 1 }, (_, at) => at)
  return new Set(starts.map((at) => padded.slice(at, at + 2)))
}

const NEAR = 0.5 // half of all pairs in common (Dice): lets `levle` be `level`, and `colour` nothing
const MAX_WORD = 64 // a longer word is no slip

/** Undefined where nothing is near enough to help. */
export const suggest = (word: string, names: readonly string[]): string | undefined => {
  if (word.length > MAX_WORD) return undefined
  const pairs = pairsOf(word)
  let best: string | undefined
  let most = NEAR
  for (const name of names) {
    const others = pairsOf(name)
    const shared = [...pairs].filter((pair) => others.has(pair)).length
    const likeness = (2 * shared) / (pairs.size + others.size)
    if (likeness <= most) continue
    best = name
    most = likeness
  }
  return best
}
