// Finds the line on which a setting stands: the first at which the text so far, with what is open there closed, holds
// it. So the parser itself says what belongs where, and no second reading of TOML can disagree with it.

type Path = readonly (string | number)[]

/** What may be open at the end of a line. */
const CLOSERS = ['', '\n]', '\n"""', "\n'''", '\n]}']

const holds = (document: unknown, path: Path): boolean => {
  let found = document
  for (const part of path) {
    if (typeof found !== 'object' || found === null || !Object.hasOwn(found, part)) return false
    found = (found as Record<string | number, unknown>)[part]
  }
  return true
}

export const createLocator = (toml: string, parse: (text: string) => unknown) => {
  const parseUpTo = (end: number): unknown => {
    for (const closer of CLOSERS) {
      try {
        return parse(toml.slice(0, end) + closer)
      } catch {
        // something else is open
      }
    }
    return undefined
  }
  let upTo: readonly unknown[] | undefined
  /** The line of the setting, else of the nearest table around it that the file has, else 1. */
  return (path: Path): number => {
    upTo ??= Array.from(`${toml}\n`.matchAll(/\n/g), ({ index }) => parseUpTo(index))
    for (let length = path.length; length > 0; length--) {
      const at = upTo.findIndex((document) => holds(document, path.slice(0, length)))
      if (at !== -1) return at + 1
    }
    return 1
  }
}
