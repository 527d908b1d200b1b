// What waits for its turn, the most pressing first and in the order it came. Taking from it costs what is taken, also
// with 300,000 in it: an array's `shift` would move them all each time.

export const createRankedQueue = <Item>(ranks: number) => {
  const lines = Array.from({ length: ranks }, () => ({ items: [] as Item[], taken: 0 }))
  return {
    add(item: Item, rank: number): void {
      lines[rank]?.items.push(item)
    },
    isEmpty: () => lines.every(({ items }) => items.length === 0),
    take(most: number): Item[] {
      const found: Item[] = []
      for (const line of lines) {
        const next = line.items.slice(line.taken, line.taken + most - found.length)
        found.push(...next)
        line.taken += next.length
        if (line.taken * 2 < line.items.length) continue // what is left moves no more often than it is taken
        line.items = line.items.slice(line.taken)
        line.taken = 0
      }
      return found
    },
  }
}
