// A request's header lines. Node keeps only the first of two Authorization lines and joins other pairs with a comma:
// here a repeated line is noticed, so that it can be refused.

export interface Headers {
  /** The value of a line that came exactly once; `name` in lower case. */
  get(name: string): string | undefined
  isRepeated(name: string): boolean
}

export const isBlank = (char: string | undefined): boolean => char === ' ' || char === '\t'

/**
 * Without the spaces and tabs around it (OWS, RFC 9110 §5.6.3). `trim` would take a no-break space away too, which
 * browsers keep: a cookie of that name is another, and any neighbour may set it.
 */
export const trimBlanks = (text: string): string => {
  let start = 0
  let end = text.length
  while (isBlank(text[start])) start++
  while (end > start && isBlank(text[end - 1])) end--
  return text.slice(start, end)
}

const NONE: ReadonlySet<string> = new Set()

/** What Node makes of the lines; it has done so for every request before anybody sees it. */
type Joined = Readonly<Record<string, string | readonly string[] | undefined>>

const once = (joined: Joined): Headers => ({
  get(name) {
    const value = joined[name]
    return typeof value === 'string' ? value : undefined // an inherited name, such as `constructor`, is no text
  },
  isRepeated: () => false,
})

/**
 * `rawHeaders` as Node gives them: name, value, name, value … With as many names as lines nothing came twice, and
 * what Node has `joined` is right: a second table of the same lines would cost 1.4 µs of a check.
 */
export const readHeaders = (rawHeaders: readonly string[], joined?: Joined): Headers => {
  if (joined && Object.keys(joined).length * 2 === rawHeaders.length) return once(joined)
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
