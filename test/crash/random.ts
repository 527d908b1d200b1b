// Numbers that a seed decides: the same seed, the same choices. It must never be used for a secret.

export interface Random {
  /** 0 ≤ x < 1. */
  next(): number
  between(least: number, most: number): number
  chance(share: number): boolean
  pick<T>(from: readonly T[]): T
}

/** mulberry32. `stream` keeps the choices of one client apart from those of all others. */
export const createRandom = (seed: number, stream = 0): Random => {
  let state = (seed + Math.imul(stream, 0x9e3779b9)) | 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    next,
    between: (least, most) => least + next() * (most - least),
    chance: (share) => next() < share,
    pick: (from) => {
      const one = from[Math.floor(next() * from.length)]
      if (one === undefined) throw new Error('nothing to pick from')
      return one
    },
  }
}
