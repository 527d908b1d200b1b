// The request's header lines, read once and knowing which came twice. Node keeps only the first of two
// Authorization lines and joins other pairs with a comma: here a repeated line is seen and refused.

export interface Headers {
  /** The value of a line that came exactly once; names in lower case. */
  get(name: string): string | undefined
  isRepeated(name: string): boolean
}

const NONE: ReadonlySet<string> = new Set()

/** `rawHeaders` as Node gives them: name, value, name, value … */
export const readHeaders = (rawHeaders: readonly string[]): Headers => {
  const lines = new Map<string, string>()
  let repeated: Set<string> | undefined
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase()
    const value = rawHeaders[at + 1] as string
    const before = lines.get(name)
    if (before === undefined) lines.set(name, value)
    else if (name === 'cookie') lines.set(name, `${before}; ${value}`) // RFC 6265bis §4.2.1: may come in pieces
    else (repeated ??= new Set()).add(name)
  }
  const twice = repeated ?? NONE
  return {
    get: (name) => (twice.has(name) ? undefined : lines.get(name)),
    isRepeated: (name) => twice.has(name),
  }
}
