// What a role may do: `action:pattern`. A pattern is matched segment by segment against a resource as nginx has decoded
// it; nothing here ever decodes, folds, normalises or re-parses a resource: every comparable project that did had
// bypasses. A pattern is text of an operator or a client, and decoded once, when it is read.

export const ACTIONS = ['read', 'write', 'subscribe', 'connect', 'publish'] as const
export type Action = (typeof ACTIONS)[number]

/** Who asks: the values that a pattern may refer to. */
export interface Subject {
  username: string
  id: string
  role: string
}

export interface Grant {
  readonly text: string
  readonly action: Action
  matches(resource: string, subject: Subject): boolean
}

export const isAction = (text: string): text is Action =>
  (ACTIONS as readonly string[]).includes(text)

const MAX_RESOURCE = 1024 // longer than any recording path seen; bounds the work of a match
const CONTROL = /\p{Cc}/u
const EMPTY_OR_DOTS = /(?:^|\/)\.{0,2}(?:\/|$)/ // a segment that is empty, `.` or `..`
const PLACEHOLDERS = ['username', 'id', 'role'] as const
const PATTERN_TEXT = /^(?:[^{}]|\{(?:username|id|role)\})+$/

/** Empty and dot segments are refused here as well, so that no grant depends on nginx having resolved them. */
export const isResource = (text: string): boolean =>
  text.length <= MAX_RESOURCE && !CONTROL.test(text) && !EMPTY_OR_DOTS.test(text)

/** Stands for a wildcard where a pattern is compared with a grant: no resource and no name of a user has it. */
const ANY = '\0'

type Piece = { text: string } | { star: true } | { value: keyof Subject }

// A value with a slash would reach into other folders, `.` and `..` would climb: they match nothing.
const usable = (value: string): boolean =>
  value !== '' && value !== '.' && value !== '..' && !/[/\0]/.test(value)

/** Of text that was found good when it was parsed. */
const parsePieces = (segment: string): Piece[] =>
  Array.from(segment.matchAll(/\*|\{[a-z]+\}|[^*{]+/g), ([part]) => {
    if (part === '*') return { star: true }
    return part.startsWith('{')
      ? { value: part.slice(1, -1) as keyof Subject }
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

const ACROSS = '**'
const ANY_ACROSS = ANY + ANY

/** One segment of a pattern for somebody; undefined: it matches nothing. */
type Part = (subject: Subject) => readonly string[] | undefined

const NOBODY: Subject = { username: '', id: '', role: '' }

const parsePart = (segment: string): Part => {
  const pieces = parsePieces(segment)
  if (pieces.some((piece) => 'value' in piece)) return (subject) => literals(pieces, subject)
  const found = literals(pieces, NOBODY)
  return () => found
}

/** What stands before, between and behind the `**` of a pattern. */
const parseParts = (segments: readonly string[]): Part[][] => {
  const runs: Part[][] = [[]]
  for (const segment of segments) {
    if (segment === ACROSS) runs.push([])
    else runs.at(-1)?.push(parsePart(segment))
  }
  return runs
}

/** Whether the run stands in `names` from there on. */
const standsAt = (
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
const matchesSegments = (
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

const OF_CHANNELS: ReadonlySet<Action> = new Set(['subscribe', 'publish'])
const PRIVATE = /^[^/]*-user-\d+$/ // a channel that the daemon made of me/…, for one user

/** Private channels have names like public ones: a wildcard covers public ones, unless it spells `-user-` itself. */
const sparePrivate = (grant: Grant): Grant =>
  OF_CHANNELS.has(grant.action) && !grant.text.includes('-user-')
    ? {
        ...grant,
        matches: (resource, subject) => !PRIVATE.test(resource) && grant.matches(resource, subject),
      }
    : grant

/** What is wrong with one segment of a pattern. */
const findProblem = (segment: string): string | undefined => {
  if (segment === '') return 'has an empty segment: no leading, trailing or double slash'
  if (segment === ACROSS) return undefined
  if (segment.includes(ACROSS)) return 'has `**` beside other text: it stands alone between slashes'
  if (!PATTERN_TEXT.test(segment)) {
    return `has a brace: ${PLACEHOLDERS.map((name) => `{${name}}`).join(' ')} are allowed, and %7B %7D for braces of a name`
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

/** One grant as an operator writes it, or what is wrong with it, in words that name the cure. */
export const parseGrant = (text: string): Grant | { problem: string } => {
  const colon = text.indexOf(':')
  if (colon < 0) return { problem: 'is not of the form action:pattern, e.g. subscribe:users-state' }
  const action = text.slice(0, colon)
  const pattern = text.slice(colon + 1)
  if (!isAction(action)) return { problem: `names no action: use one of ${ACTIONS.join(', ')}` }
  if (pattern === '') return { problem: 'has no pattern after the colon: `**` means everything' }
  if (pattern.length > MAX_RESOURCE)
    return { problem: `has a pattern over ${MAX_RESOURCE} characters` }
  const segments = pattern.split('/')
  for (const segment of segments) {
    const problem = findProblem(segment)
    if (problem !== undefined) return { problem }
  }
  if (!/[*{]/.test(pattern)) {
    const name = decodeURIComponent(pattern)
    return { text, action, matches: (resource) => resource === name }
  }
  if (pattern === ACROSS) return sparePrivate({ text, action, matches: () => true })
  const runs = parseParts(segments)
  return sparePrivate({
    text,
    action,
    matches: (resource, subject) => matchesSegments(resource.split('/'), runs, subject),
  })
}

/** A pattern without placeholders as a name, its wildcards as what only a wildcard of a grant matches. */
const nameOf = (pattern: string): string =>
  pattern
    .split('/')
    .flatMap((segment) => [
      '/',
      ...parsePieces(segment).map((piece) => ('text' in piece ? piece.text : ANY)),
    ])
    .slice(1)
    .join('')

/**
 * Whether everything that a good pattern (one without placeholders) could match is granted. A `*` in it is covered by
 * a `*` or `**` of a grant alone, and `**` by `**` alone. It may miss a yes that more effort would prove; it never
 * says yes wrongly.
 */
export const coversPattern = (
  grants: readonly Grant[],
  action: Action,
  pattern: string,
  subject: Subject,
): boolean => {
  const name = nameOf(pattern)
  return grants.some((grant) => grant.action === action && grant.matches(name, subject))
}

/** What every role of the config may do. Unknown roles have no entry: they may do nothing. */
export type Policy = ReadonlyMap<string, readonly Grant[]>

/** Grants were checked when the config was loaded: a bad one here is a bug, not an operator's mistake. */
export const createPolicy = (roles: ReadonlyMap<string, readonly string[]>): Policy =>
  new Map(
    Array.from(roles, ([role, texts]) => [
      role,
      texts.map((text) => {
        const grant = parseGrant(text)
        if ('problem' in grant) throw new Error(`grant of role ${role} ${grant.problem}`)
        return grant
      }),
    ]),
  )

/** The first grant of the role that allows this, or undefined. */
export const findGrant = (
  grants: readonly Grant[],
  action: Action,
  resource: string,
  subject: Subject,
): Grant | undefined =>
  grants.find((grant) => grant.action === action && grant.matches(resource, subject))
