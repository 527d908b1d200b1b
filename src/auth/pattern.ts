// A pattern of a grant or a ticket: what it spells, segment by segment, and what is wrong with one.

/** Who asks: the values that a pattern may refer to. */
export interface Subject {
  username: string
  id: string
  role: string
  /** Under which their calls are found; undefined: none surely is theirs. */
  number?: string | undefined
}

export const MAX_RESOURCE = 1024 // longer than any recording path seen; bounds the work of a match
export const CONTROL = /\p{Cc}/u
const PLACEHOLDERS = ['username', 'id', 'role'] as const
/** Stands for the rest of a recording's path, where who asks took part in its call. */
export const OWN_CALLS = '{own_calls}'
const PATTERN_TEXT = /^(?:[^{}]|\{(?:username|id|role)\})+$/

/** Stands for a wildcard where a pattern is compared with a grant: no resource and no name of a user has it. */
export const ANY = '\0'

type Piece = { text: string } | { star: true } | { value: (typeof PLACEHOLDERS)[number] }

// A value with a slash would reach into other folders, `.` and `..` would climb: they match nothing.
const usable = (value: string): boolean =>
  value !== '' && value !== '.' && value !== '..' && !/[/\0]/.test(value)

/** Of text that was found good when it was parsed. */
const parsePieces = (segment: string): Piece[] =>
  Array.from(segment.matchAll(/\*|\{[a-z]+\}|[^*{]+/g), ([part]) => {
    if (part === '*') return { star: true }
    return part.startsWith('{')
      ? { value: part.slice(1, -1) as (typeof PLACEHOLDERS)[number] }
      : { text: decodeURIComponent(part) }
  })

/** The pieces with the subject filled in: literals, with a star between each two. Undefined: matches nothing. */
const literals = (pieces: readonly Piece[], subject: Subject): string[] | undefined => {
  const found = ['']
  for (const piece of pieces) {
    if ('star' in piece) {
      found.push('')
      continue
    }
    const text = 'text' in piece ? piece.text : subject[piece.value]
    if (!usable(text) && 'value' in piece) return undefined
    found[found.length - 1] += text
  }
  return found
}

/** `*` within one segment: the leftmost match of each literal is enough, so the work is linear. */
const matchesSegment = (segment: string, parts: readonly string[]): boolean => {
  const { 0: first = '', [parts.length - 1]: last = '' } = parts
  if (parts.length === 1) return segment === first
  if (segment.length < first.length + last.length) return false
  if (!segment.startsWith(first) || !segment.endsWith(last)) return false
  const end = segment.length - last.length
  let at = first.length
  for (const part of parts.slice(1, -1)) {
    const found = segment.indexOf(part, at)
    if (found < 0 || found + part.length > end) return false
    at = found + part.length
  }
  return true
}

export const ACROSS = '**'
const ANY_ACROSS = ANY + ANY

/** One segment of a pattern for somebody; undefined: it matches nothing. */
type Part = (subject: Subject) => readonly string[] | undefined

/** Whom no placeholder means. */
export const NOBODY: Subject = { username: '', id: '', role: '' }

export const parsePart = (segment: string): Part => {
  const pieces = parsePieces(segment)
  if (pieces.some((piece) => 'value' in piece)) return (subject) => literals(pieces, subject)
  const found = literals(pieces, NOBODY)
  return () => found
}

/** What stands before, between and behind the `**` of a pattern. */
export const parseParts = (segments: readonly string[]): Part[][] => {
  const runs: Part[][] = [[]]
  for (const segment of segments) {
    if (segment === ACROSS) runs.push([])
    else runs.at(-1)?.push(parsePart(segment))
  }
  return runs
}

/** Whether the run stands in `names` from there on. */
export const standsAt = (
  names: readonly string[],
  at: number,
  run: readonly Part[],
  subject: Subject,
): boolean =>
  run.every((part, offset) => {
    const { [at + offset]: name = ANY_ACROSS } = names
    const parts = name === ANY_ACROSS ? undefined : part(subject)
    return parts !== undefined && matchesSegment(name, parts)
  })

/**
 * `**` stands for one or more whole segments. The first run stands at the beginning and the last at the end, so with
 * one `**` each segment is looked at once; a run between two of them takes its leftmost fit.
 */
export const matchesSegments = (
  names: readonly string[],
  runs: readonly (readonly Part[])[],
  subject: Subject,
): boolean => {
  const { 0: first = [], [runs.length - 1]: last = [] } = runs
  if (runs.length === 1) return names.length === first.length && standsAt(names, 0, first, subject)
  const end = names.length - last.length
  if (first.length >= end) return false
  if (!standsAt(names, 0, first, subject) || !standsAt(names, end, last, subject)) return false
  let at = first.length + 1
  for (const run of runs.slice(1, -1)) {
    while (at + run.length < end && !standsAt(names, at, run, subject)) at++
    at += run.length + 1
    if (at > end) return false
  }
  return true
}

/** What is wrong with one segment of a pattern. */
export const findProblem = (segment: string): string | undefined => {
  if (segment === '') return 'has an empty segment: no leading, trailing or double slash'
  if (segment === ACROSS) return undefined
  if (segment.includes(ACROSS)) return 'has `**` beside other text: it stands alone between slashes'
  if (segment.includes(OWN_CALLS)) {
    return `has ${OWN_CALLS} elsewhere than at its end: it stands alone behind the last slash, as in read:recordings/${OWN_CALLS}`
  }
  if (!PATTERN_TEXT.test(segment)) {
    return `has a brace: ${PLACEHOLDERS.map((name) => `{${name}}`).join(' ')} ${OWN_CALLS} are allowed, and %7B %7D for braces of a name`
  }
  let text
  try {
    text = decodeURIComponent(segment)
  } catch {
    return 'has a % that begins no character: write %25, and %2A for a star that is no wildcard'
  }
  if (text === '.' || text === '..') return 'has a `.` or `..` segment'
  return CONTROL.test(text) || text.includes('/') || !text.isWellFormed()
    ? 'has characters that no resource has'
    : undefined
}

/** A pattern without placeholders as a name, its wildcards as what only a wildcard of a grant matches. */
export const nameOf = (pattern: string): string =>
  pattern
    .split('/')
    .flatMap((segment) => [
      '/',
      ...parsePieces(segment).map((piece) => ('text' in piece ? piece.text : ANY)),
    ])
    .slice(1)
    .join('')
