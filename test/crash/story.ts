// One session as its clients saw it: what may have ended it, and since when it is known to be over. Both are
// read from the journal alone, and where an answer is missing both of its outcomes count as possible.

import type { Check, Login, Logout, Operation, Refresh, Terms } from './journal.ts'

/** The session was over by then, and this host knew it (none: hosts had yet to learn of it). */
interface Ending {
  readonly at: number
  readonly host?: string
}

export interface Story {
  readonly sid: string
  readonly login: Login
  readonly refreshes: readonly Refresh[]
  readonly checks: readonly Check[]
  readonly logouts: readonly Logout[]
  /** Refreshes by the token that was presented. */
  readonly byToken: ReadonlyMap<string, readonly Refresh[]>
  /** Nothing that began before this instant can have found the session ended. */
  readonly mayBeOverFrom: number
  /** The same, if no operation without an answer ever happened. */
  readonly overByAnswersFrom: number
  /** No refresh that begins later may succeed, on any host. */
  readonly overSince: number
  /** No check that begins later may succeed on this host. */
  acceptedUntil(host: string): number
}

/** Whether it may have changed something. */
const mayHaveHappened = ({ answer }: Operation): boolean => answer !== 'no' && answer !== 'odd'

const isUnanswered = ({ answer }: Operation): boolean =>
  answer === 'away' || answer === 'broken' || answer === 'late'

/** The last instant at which it can have happened. */
const settledAt = (operation: Operation, terms: Terms): number => {
  if (operation.answer === 'late') return Infinity
  return isUnanswered(operation) ? operation.end + terms.late : operation.end
}

/** The host reads its clock before it answers; where it never did, nobody knows when. */
const readClockBy = (operation: Operation): number =>
  operation.answer === 'late' ? Infinity : operation.end

const earliest = (instants: readonly number[]): number =>
  instants.reduce((least, one) => Math.min(least, one), Infinity)

/**
 * Whether this refresh may have met a token that was traded in already, and whose grace is over: by time, or
 * because the successor was used. The store then ends the session.
 */
const mayBeReuse = (
  refresh: Refresh,
  byToken: ReadonlyMap<string, readonly Refresh[]>,
  terms: Terms,
): boolean => {
  const settled = settledAt(refresh, terms)
  const same = byToken.get(refresh.token) ?? []
  const before = same.filter(
    (one) => one !== refresh && mayHaveHappened(one) && one.start < settled,
  )
  if (before.some((one) => readClockBy(refresh) - one.start > terms.grace)) return true
  // A successor that nobody was given cannot have been used.
  return before.some(({ given }) =>
    (byToken.get(given?.refresh ?? '') ?? []).some(
      (used) => mayHaveHappened(used) && used.start < settled,
    ),
  )
}

const isOf =
  (sid: string) =>
  (one: { sid: string }): boolean =>
    one.sid === sid

export const tellStory = (
  login: Login,
  operations: {
    readonly refreshes: readonly Refresh[]
    readonly checks: readonly Check[]
    /** Of the user: those of other sessions count where they were of all. */
    readonly logouts: readonly Logout[]
  },
  terms: Terms,
): Story => {
  const sid = login.given?.sid ?? ''
  const { refreshes, checks } = operations
  const byToken = Map.groupBy(refreshes, ({ token }) => token)
  const own = operations.logouts.filter(isOf(sid))
  const elsewhere = operations.logouts.filter(
    (logout) => logout.sid !== sid && logout.everywhere && login.start < settledAt(logout, terms),
  )
  const logouts = [...own, ...elsewhere]

  const reuses = refreshes.filter(
    (one) => one.answer !== 'yes' && one.answer !== 'odd' && mayBeReuse(one, byToken, terms),
  )
  const enders = [...logouts.filter(mayHaveHappened), ...reuses]

  const overByAnswersFrom = earliest(
    enders.filter((one) => !isUnanswered(one)).map(({ start }) => start),
  )
  // A host that could not write a logout refuses the session itself until it can, and forgets that when it is killed.
  const heldFrom = earliest(
    logouts.filter(({ answer }) => answer === 'away').map(({ start }) => start),
  )
  const isLasting = ({ start, end }: Operation): boolean =>
    end < heldFrom || overByAnswersFrom < start

  const endings: Ending[] = [
    ...logouts
      .filter(({ answer }) => answer === 'yes')
      .filter((logout) => logout.sid === sid || login.end < logout.start)
      .map(({ end, host }) => ({ at: end, host })),
    ...checks
      .filter(({ reason }) => reason === 'session_ended')
      .filter(isLasting)
      .map(({ end, host }) => ({ at: end, host })),
    // It looked into the store; its own memory may not have heard of it yet.
    ...refreshes
      .filter(({ answer }) => answer === 'no')
      .filter(isLasting)
      .map(({ end }) => ({ at: end })),
  ]
  const overSince = earliest(endings.map(({ at }) => at))
  const knownTo = new Map<string, number>()
  for (const { host, at } of endings) {
    if (host !== undefined) knownTo.set(host, Math.min(knownTo.get(host) ?? Infinity, at))
  }
  return {
    sid,
    login,
    refreshes,
    checks,
    logouts,
    byToken,
    mayBeOverFrom: earliest(enders.map(({ start }) => start)),
    overByAnswersFrom,
    overSince,
    acceptedUntil: (host) => Math.min(overSince + terms.bound, knownTo.get(host) ?? Infinity),
  }
}
