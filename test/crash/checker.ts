// The judge: a journal in, every broken promise out. It knows nothing but what clients asked and were told,
// looks at it when all is over, and must never excuse an answer without an operation that explains it.
//
// Promised, whatever is killed and whenever:
//  1. What was acknowledged is there. The tokens of an acknowledged login or refresh work, until something in
//     the journal may have ended their session: a logout, or a refresh token shown after its grace (by time, or
//     because its successor was used). Without such a cause a 401 is a violation.
//  2. One line of succession. Whoever presents one refresh token is given one and the same successor; none
//     after the grace, none once the successor was used, and none twice for different tokens or sessions.
//  3. Over is over. After an acknowledged logout, a refused refresh or a check that said `session_ended` no
//     refresh of that session that begins later succeeds on any host; no check that begins later on the host
//     that knew of it; no check on any other host that begins later than the bound. A refusal after a logout that
//     was answered 503 counts for nothing: its host holds it in memory alone, and may be killed before it is written.
//  4. Nothing else is answered. 2xx and 401 as above; 503 always ("cannot decide"); anything else never. A wrong
//     password never succeeds, a right one is never refused, and a logout of one's own session neither.
//
// An operation without an answer (the connection broke, or 503) may have happened or not: at any instant from
// its beginning until its end, and `late` seconds longer where a stopped server may still have held it. So it
// may explain a later 401: a logout always, a refresh only where its token's grace was over or its successor
// was used. It never explains a success that should not be, nor a second successor. A client that gets no
// answer for longer than the grace may thus lose its session: that is the one loss that is allowed.
//
// Not looked at: the ends of lives (the run's tokens outlive it), limits of sessions a user, and power cuts:
// a killed process leaves its pages to the kernel.

import type { Answer, Check, Login, Logout, Operation, Refresh, Terms } from './journal.ts'
import { type Story, tellStory } from './story.ts'

export const RULES = [
  'odd_answer', // a status that no rule allows
  'wrong_password_let_in',
  'login_refused', // with the right password
  'logout_refused',
  'good_refresh_refused',
  'good_access_refused',
  'refused_for_another_reason', // a check of a token of ours: `session_ended` is the only one it may meet
  'two_successors',
  'two_predecessors', // one token was given for two, or to two sessions
  'not_rotated', // the successor is the token itself
  'another_session', // the answer is about somebody else
  'refresh_after_end',
  'access_after_end',
  'refresh_after_grace',
  'refresh_after_use', // of its successor
] as const
export type Rule = (typeof RULES)[number]

export interface Violation {
  readonly rule: Rule
  readonly text: string
  readonly operation: Operation
  /** Empty: of no session. */
  readonly sid: string
}

export interface Verdict {
  readonly violations: readonly Violation[]
  /** That the journal tested something at all: how many operations had which answer, and what they met. */
  readonly counts: Readonly<Record<string, number>>
}

const ALLOWED_STATUS: Readonly<Record<Answer, (status: number) => boolean>> = {
  yes: (status) => status === 200 || status === 204,
  no: (status) => status === 401,
  away: (status) => status === 503,
  broken: () => true,
  late: () => true,
  odd: () => false,
}

const seconds = (instant: number): string => `${instant.toFixed(3)} s`

export const describe = (operation: Operation): string => {
  const { id, host, start, end, answer, status, verb } = operation
  const said = [answer, status === 0 ? '' : String(status)]
  if (verb === 'login') said.push(operation.user, operation.given?.sid ?? '')
  if (verb === 'refresh')
    said.push(operation.token, '→', operation.given?.refresh ?? '', operation.given?.access ?? '')
  if (verb === 'logout') said.push(operation.everywhere ? `everywhere, ${operation.user}` : '')
  if (verb === 'check') said.push(operation.token, operation.reason ?? '')
  const what = said.filter((part) => part !== '').join(' ')
  return `#${id} ${seconds(start)} to ${seconds(end)} ${host} ${verb}: ${what}`
}

export const judge = (operations: readonly Operation[], terms: Terms): Verdict => {
  const violations: Violation[] = []
  const counts: Record<string, number> = {}
  const count = (what: string): void => void (counts[what] = (counts[what] ?? 0) + 1)
  const blame = (rule: Rule, operation: Operation, text: string): void => {
    const sid = 'sid' in operation ? operation.sid : (operation.given?.sid ?? '')
    violations.push({ rule, operation, text: `${describe(operation)}: ${text}`, sid })
  }

  const logins: Login[] = []
  const refreshes: Refresh[] = []
  const logouts: Logout[] = []
  const checks: Check[] = []
  for (const operation of operations) {
    count(`${operation.verb} ${operation.answer}`)
    if (!ALLOWED_STATUS[operation.answer](operation.status)) {
      blame('odd_answer', operation, 'no rule allows this status')
    }
    if (operation.verb === 'login') logins.push(operation)
    else if (operation.verb === 'refresh') refreshes.push(operation)
    else if (operation.verb === 'logout') logouts.push(operation)
    else checks.push(operation)
  }

  // ---- where each refresh token came from
  const origin = new Map<string, { sid: string; predecessor: string }>()
  const give = (operation: Login | Refresh, sid: string, predecessor: string): void => {
    const token = operation.given?.refresh ?? ''
    const known = origin.get(token)
    if (!known) origin.set(token, { sid, predecessor })
    else if (known.sid !== sid || known.predecessor !== predecessor || predecessor === '') {
      blame('two_predecessors', operation, 'this token was given before, for something else')
    }
  }

  const judgeLogin = (login: Login): void => {
    if (login.answer === 'yes' && !login.right) {
      blame('wrong_password_let_in', login, 'the password was wrong')
    }
    if (login.answer === 'no' && login.right)
      blame('login_refused', login, 'the password was right')
    if (login.given) give(login, login.given.sid, '')
  }

  /** Whether what this refusal met may have been over by then. */
  const isExplained = (story: Story, { end }: Operation): boolean => {
    if (story.mayBeOverFrom >= end) return false
    count(story.overByAnswersFrom < end ? 'refusals, certain' : 'refusals, by what had no answer')
    return true
  }

  const judgeSuccess = (story: Story, refresh: Refresh): void => {
    const { token, start, given, sid } = refresh
    if (given?.sid !== sid) blame('another_session', refresh, `its token is of session ${sid}`)
    if (given?.refresh === token) blame('not_rotated', refresh, 'its successor is itself')
    else give(refresh, sid, token)
    if (start > story.overSince) {
      blame('refresh_after_end', refresh, `over since ${seconds(story.overSince)}`)
    }
    const same = story.byToken.get(token) ?? []
    const traded = same.filter(({ answer }) => answer === 'yes')
    const firstEnd = traded.reduce((least, { end }) => Math.min(least, end), Infinity)
    // Hosts count whole seconds: within one more it may be either.
    if (start > firstEnd + terms.grace + 1) {
      blame('refresh_after_grace', refresh, `traded in by ${seconds(firstEnd)}`)
    }
    const used = (story.byToken.get(given?.refresh ?? '') ?? []).find(
      ({ answer, end }) => answer === 'yes' && end < start,
    )
    if (used) blame('refresh_after_use', refresh, `its successor was used by ${seconds(used.end)}`)
  }

  const judgeSuccessors = (story: Story): void => {
    for (const same of story.byToken.values()) {
      const successes = same.filter(({ answer }) => answer === 'yes')
      const [first] = successes
      if (!first) continue
      const other = successes.find(({ given }) => given?.refresh !== first.given?.refresh)
      if (other) blame('two_successors', other, `another one than that of #${first.id}`)
      if (successes.length > 1) count('tokens traded in more than once')
      if (same.some(({ answer }) => answer === 'broken' || answer === 'away')) {
        count('tokens traded in after no answer')
      }
    }
  }

  const judgeRefreshes = (story: Story): void => {
    for (const refresh of story.refreshes) {
      if (refresh.answer === 'yes') judgeSuccess(story, refresh)
      else if (refresh.answer === 'no') {
        if (!isExplained(story, refresh)) {
          blame('good_refresh_refused', refresh, 'nothing has ended its session')
        } else if (refresh.start > story.overSince) count('refreshes refused after the end')
      }
    }
    judgeSuccessors(story)
  }

  const judgeChecks = (story: Story): void => {
    const { sid, login } = story
    for (const check of story.checks) {
      const { answer, start, host, reason, allowed } = check
      if (answer === 'no') {
        if (reason !== 'session_ended') {
          blame('refused_for_another_reason', check, 'its token is one of ours, and in its time')
        } else if (!isExplained(story, check)) {
          blame('good_access_refused', check, 'nothing has ended its session')
        } else if (start > story.acceptedUntil(host)) count('checks refused after the end')
      }
      if (answer !== 'yes') continue
      if (start > story.acceptedUntil(host)) {
        const by = `over since ${seconds(story.overSince)}`
        blame(
          'access_after_end',
          check,
          `${by}, known here by ${seconds(story.acceptedUntil(host))}`,
        )
      }
      if (allowed?.sid !== sid || allowed.user !== login.user) {
        blame('another_session', check, `its token is of session ${sid} of ${login.user}`)
      }
    }
  }

  const judgeLogouts = (story: Story): void => {
    for (const logout of story.logouts) {
      if (logout.answer !== 'no' || logout.sid !== story.sid) continue
      // "Everywhere" needs a session that still counts; one's own may be left twice.
      if (logout.everywhere && isExplained(story, logout)) continue
      blame('logout_refused', logout, 'its token is one of ours')
    }
  }

  for (const login of logins) judgeLogin(login)
  const refreshesOf = Map.groupBy(refreshes, ({ sid }) => sid)
  const checksOf = Map.groupBy(checks, ({ sid }) => sid)
  const logoutsOf = Map.groupBy(logouts, ({ user }) => user)
  const known = new Set(logins.map(({ given }) => given?.sid))
  for (const sid of [...refreshesOf.keys(), ...checksOf.keys(), ...logouts.map((one) => one.sid)]) {
    if (!known.has(sid)) throw new Error(`a journal names session ${sid}, which no login gave`)
  }
  for (const login of logins) {
    const { given, user } = login
    if (!given) continue
    count('sessions')
    const story = tellStory(
      login,
      {
        refreshes: refreshesOf.get(given.sid) ?? [],
        checks: checksOf.get(given.sid) ?? [],
        logouts: logoutsOf.get(user) ?? [],
      },
      terms,
    )
    judgeRefreshes(story)
    judgeChecks(story)
    judgeLogouts(story)
  }
  return { violations, counts }
}

/** For a person: each violation with all that happened to its session. */
export const explain = (
  { violations }: Pick<Verdict, 'violations'>,
  operations: readonly Operation[],
  most = 5,
): string[] => {
  const lines: string[] = []
  for (const { rule, text, sid, operation } of violations.slice(0, most)) {
    lines.push(`${rule} ${text}`)
    const own = operations.filter(
      (one) =>
        one !== operation &&
        ('sid' in one ? one.sid === sid : sid !== '' && one.given?.sid === sid),
    )
    // Of the many checks only those around it.
    const near = own.filter(
      ({ verb, start }) => verb !== 'check' || Math.abs(start - operation.start) < 0.5,
    )
    for (const one of near.slice(-40)) lines.push(`    ${describe(one)}`)
  }
  if (violations.length > most) lines.push(`and ${violations.length - most} more`)
  return lines
}
