// What a role may do: `action:pattern`. A pattern is matched segment by segment against a resource as nginx has decoded
// it; nothing here ever decodes, folds, normalises or re-parses a resource: every comparable project that did had
// bypasses. A pattern is text of an operator or a client, and decoded once, when it is read.

import type { Calls } from '../calls/calls.ts'
import {
  ACROSS,
  ANY,
  CONTROL,
  findProblem,
  matchesSegments,
  MAX_RESOURCE,
  nameOf,
  OWN_CALLS,
  parsePart,
  parseParts,
  standsAt,
  type Subject,
} from './pattern.ts'

export const ACTIONS = ['read', 'write', 'subscribe', 'connect', 'publish'] as const
export type Action = (typeof ACTIONS)[number]

/** A recording, by its path below the recordings folder, and whether who asks took part in its call. */
export interface Call {
  readonly recording: string
  /** Undefined: no source knows the recording. */
  readonly isParty: boolean | undefined
}

export interface Grant {
  readonly text: string
  readonly action: Action
  matches(resource: string, subject: Subject): boolean
  /** Of a grant for own calls: what it looked at; undefined: the resource is none of its recordings. */
  callOf?(resource: string, subject: Subject): Call | undefined
}

export const isAction = (text: string): text is Action =>
  (ACTIONS as readonly string[]).includes(text)

const EMPTY_OR_DOTS = /(?:^|\/)\.{0,2}(?:\/|$)/ // a segment that is empty, `.` or `..`

/** Empty and dot segments are refused here as well, so that no grant depends on nginx having resolved them. */
export const isResource = (text: string): boolean =>
  text.length <= MAX_RESOURCE && !CONTROL.test(text) && !EMPTY_OR_DOTS.test(text)

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

export const isForOwnCalls = (text: string): boolean => text.endsWith(`/${OWN_CALLS}`)

/** Without a source nobody surely took part in a call. */
const NO_CALLS: Pick<Calls, 'isParty'> = { isParty: () => undefined }

/** `folder`: the segments that lead to the recordings. */
const parseOwnCalls = (
  text: string,
  folder: readonly string[],
  calls: Pick<Calls, 'isParty'>,
): Grant | { problem: string } => {
  if (!text.startsWith('read:')) return { problem: `has ${OWN_CALLS}, which is for read alone` }
  if (folder.length === 0 || folder.includes(ACROSS)) {
    return {
      problem: `has ${OWN_CALLS} without one folder before it: write read:recordings/${OWN_CALLS}`,
    }
  }
  const run = folder.map(parsePart)
  const recordingOf = (resource: string, subject: Subject): string | undefined => {
    let end = -1
    for (const part of run) {
      const at = end + 1
      end = resource.indexOf('/', at)
      if (end < 0 || !standsAt([resource.slice(at, end)], 0, [part], subject)) return undefined
    }
    return resource.slice(end + 1)
  }
  const isParty = (recording: string, { number }: Subject): boolean | undefined =>
    number === undefined ? false : calls.isParty(recording, number)
  return {
    text,
    action: 'read',
    matches(resource, subject) {
      const recording = recordingOf(resource, subject)
      if (recording === undefined) return false
      // Of a ticket's pattern: whose call it is, is asked again for each recording that it is shown for.
      return recording.includes(ANY)
        ? subject.number !== undefined
        : isParty(recording, subject) === true
    },
    callOf(resource, subject) {
      const recording = recordingOf(resource, subject)
      return recording === undefined
        ? undefined
        : { recording, isParty: isParty(recording, subject) }
    },
  }
}

/** One grant as an operator writes it, or what is wrong with it, in words that name the cure. */
export const parseGrant = (text: string, calls = NO_CALLS): Grant | { problem: string } => {
  const colon = text.indexOf(':')
  if (colon < 0) return { problem: 'is not of the form action:pattern, e.g. subscribe:users-state' }
  const action = text.slice(0, colon)
  const pattern = text.slice(colon + 1)
  if (!isAction(action)) return { problem: `names no action: use one of ${ACTIONS.join(', ')}` }
  if (pattern === '') return { problem: 'has no pattern after the colon: `**` means everything' }
  if (pattern.length > MAX_RESOURCE)
    return { problem: `has a pattern over ${MAX_RESOURCE} characters` }
  const segments = pattern.split('/')
  const isForOwnCalls = segments.at(-1) === OWN_CALLS
  if (isForOwnCalls) segments.pop()
  for (const segment of segments) {
    const problem = findProblem(segment)
    if (problem !== undefined) return { problem }
  }
  if (isForOwnCalls) return parseOwnCalls(text, segments, calls)
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
export const createPolicy = (
  roles: ReadonlyMap<string, readonly string[]>,
  calls?: Pick<Calls, 'isParty'>,
): Policy =>
  new Map(
    Array.from(roles, ([role, texts]) => [
      role,
      texts.map((text) => {
        const grant = parseGrant(text, calls)
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

/** Whether this is refused only because no source knows whose call the recording is of. */
export const isUnknownCall = (
  grants: readonly Grant[],
  action: Action,
  resource: string,
  subject: Subject,
): boolean =>
  grants.some((grant) => {
    const call = grant.action === action ? grant.callOf?.(resource, subject) : undefined
    return call !== undefined && call.isParty === undefined
  })
