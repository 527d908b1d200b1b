// Medians and their spread. Interleaved: every variant once a round, so that a slow minute of the machine hits all of
// them; a ratio is taken within a round and never across two.

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((one, two) => one - two)
  const middle = sorted.length >> 1
  const [low = Number.NaN, high = Number.NaN] = [sorted[middle - 1], sorted[middle]]
  return sorted.length % 2 === 1 ? high : (low + high) / 2
}

/** Half of the whole range, as a part of the median: `± 3 %`. */
export const spread = (values: readonly number[]): number => {
  const middle = median(values)
  return middle === 0 ? 0 : (Math.max(...values) - Math.min(...values)) / 2 / middle
}

/** `measure` of every variant in every round, beginning with another one each time. */
export const interleave = async <Variant, Value>(
  variants: readonly Variant[],
  rounds: number,
  measure: (variant: Variant) => Promise<Value>,
): Promise<Map<Variant, Value[]>> => {
  const found = new Map<Variant, Value[]>(variants.map((variant) => [variant, []]))
  for (let round = 0; round < rounds; round++) {
    const from = round % variants.length
    for (const variant of [...variants.slice(from), ...variants.slice(0, from)]) {
      found.get(variant)?.push(await measure(variant))
    }
  }
  return found
}
