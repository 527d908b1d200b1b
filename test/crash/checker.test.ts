// The judge before hand-made journals: one for each way to break a promise, and beside it the nearest one that
// keeps it. A judge that finds nothing is worth nothing.

import t from 'tap'

import { explain, judge, type Rule, RULES, type Violation } from './checker.ts'
import type { Answer, Check, Login, Logout, Operation, Refresh, Terms } from './journal.ts'

const TERMS: Terms = { grace: 4, bound: 2, late: 1 }
const STATUS: Readonly<Record<Answer, number>> = {
  yes: 200,
  no: 401,
  away: 503,
  broken: 0,
  late: 0,
  odd: 418,
}

type Span = readonly [start: number, end?: number]
type More<One> = Partial<One> & { host?: string }

const asked = (answer: Answer, [start, end = start + 0.1]: Span) => ({
  id: 0,
  host: 'a',
  start,
  end,
  answer,
  status: STATUS[answer],
})
const login = (span: Span, answer: Answer = 'yes', more: More<Login> = {}): Login => ({
  ...asked(answer, span),
  verb: 'login',
  user: 'u',
  right: true,
  ...(answer === 'yes' && { given: { sid: 's', refresh: 'r0', access: 'a0' } }),
  ...more,
})
/** `next`: the successor that was given, or the answer where none was. */
const refresh = (span: Span, token: string, next: string, more: More<Refresh> = {}) => {
  const answer = Object.hasOwn(STATUS, next) ? (next as Answer) : 'yes'
  return {
    ...asked(answer, span),
    verb: 'refresh',
    sid: 's',
    token,
    ...(answer === 'yes' && { given: { sid: 's', refresh: next, access: `access of ${next}` } }),
    ...more,
  } satisfies Refresh
}
const logout = (span: Span, answer: Answer = 'yes', more: More<Logout> = {}): Logout => ({
  ...asked(answer, span),
  verb: 'logout',
  sid: 's',
  user: 'u',
  everywhere: false,
  ...more,
})
const check = (span: Span, answer: Answer = 'yes', more: More<Check> = {}): Check => ({
  ...asked(answer, span),
  verb: 'check',
  sid: 's',
  token: 'a0',
  ...(answer === 'yes' && { status: 204, allowed: { sid: 's', user: 'u' } }),
  ...(answer === 'no' && { reason: 'session_ended' }),
  ...more,
})

const find = (operations: readonly Operation[], terms = TERMS): Rule[] =>
  judge(
    operations.map((one, id) => ({ ...one, id })),
    terms,
  ).violations.map(({ rule }) => rule)

const seen = new Set<Rule>()
const table = (
  title: string,
  cases: readonly (readonly [Rule | 'fine', string, ...(readonly Operation[])])[],
): void =>
  void t.test(title, (t) => {
    for (const [wanted, what, ...operations] of cases) {
      const found = find(operations)
      t.same(found, wanted === 'fine' ? [] : [wanted], `${wanted}: ${what}`)
      for (const rule of found) seen.add(rule)
    }
    t.end()
  })

const IN = login([0])
const other = { sid: 't', given: { sid: 't', refresh: 'q0', access: 'b0' } }

table('logins', [
  ['fine', 'a login', IN],
  ['fine', 'a wrong password is refused', login([0], 'no', { right: false })],
  ['wrong_password_let_in', 'a wrong password', login([0], 'yes', { right: false })],
  ['login_refused', 'a right one is refused', login([0], 'no')],
  ['fine', 'it cannot be decided', login([0], 'away')],
  ['fine', 'its connection breaks', login([0], 'broken')],
  ['odd_answer', 'a fault', login([0], 'odd', { status: 500 })],
  ['odd_answer', 'a yes that is none', { ...IN, status: 302 }],
  ['two_predecessors', 'one refresh token for two logins', IN, login([1])],
  [
    'two_predecessors',
    'one refresh token for two sessions',
    IN,
    login([1], 'yes', { given: { sid: 't', refresh: 'r0', access: 'b0' } }),
  ],
])

table('what was acknowledged is there', [
  ['good_refresh_refused', 'a login that was lost', IN, refresh([1], 'r0', 'no')],
  [
    'good_refresh_refused',
    'a rotation that was lost',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r1', 'no'),
  ],
  ['good_access_refused', 'a session that is not over', IN, check([1], 'no')],
  ['good_access_refused', 'a session that is over later', IN, check([1], 'no'), logout([2], 'yes')],
  [
    'refused_for_another_reason',
    'a key that was lost',
    IN,
    check([1], 'no', { reason: 'unknown_key' }),
  ],
  ['fine', 'cannot decide', IN, refresh([1], 'r0', 'away'), check([1], 'away')],
  ['fine', 'a logout explains it', IN, logout([1], 'yes'), refresh([2], 'r0', 'no')],
  ['fine', 'one that is under way', IN, logout([1, 9], 'yes'), refresh([2], 'r0', 'no')],
  ['fine', 'and one without an answer', IN, logout([1], 'broken'), refresh([9], 'r0', 'no')],
  ['fine', 'as does one that could not be decided', IN, logout([1], 'away'), check([9], 'no')],
  ['logout_refused', 'a logout that was refused', IN, logout([1], 'no')],
  [
    'good_refresh_refused',
    'another session’s logout',
    IN,
    login([0], 'yes', other),
    logout([1], 'yes', { sid: 't' }),
    refresh([2], 'r0', 'no'),
  ],
  [
    'fine',
    'one of all sessions',
    IN,
    login([0], 'yes', other),
    logout([1], 'yes', { sid: 't', everywhere: true }),
    refresh([2], 'r0', 'no'),
  ],
  [
    'good_refresh_refused',
    'one of all sessions before this one',
    login([0], 'yes', other),
    logout([1], 'yes', { sid: 't', everywhere: true }),
    login([2]),
    refresh([3], 'r0', 'no'),
  ],
  [
    'good_refresh_refused',
    'of another user’s',
    IN,
    login([0], 'yes', { ...other, user: 'v' }),
    logout([1], 'yes', { sid: 't', user: 'v', everywhere: true }),
    refresh([2], 'r0', 'no'),
  ],
  [
    'fine',
    'everywhere is refused to who is out',
    IN,
    logout([1]),
    logout([2], 'no', { everywhere: true }),
  ],
  ['logout_refused', 'and to nobody else', IN, logout([2], 'no', { everywhere: true })],
])

table('a token that is shown again', [
  ['fine', 'within its grace', IN, refresh([1], 'r0', 'r1'), refresh([4], 'r0', 'r1')],
  [
    'good_refresh_refused',
    'is good within its grace',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([4], 'r0', 'no'),
  ],
  ['fine', 'and ends the session after it', IN, refresh([1], 'r0', 'r1'), refresh([6], 'r0', 'no')],
  [
    'fine',
    'or does not yet: hosts count whole seconds',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([5.9], 'r0', 'r1'),
  ],
  [
    'refresh_after_grace',
    'is no good later',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([7], 'r0', 'r1'),
  ],
  [
    'refresh_after_use',
    'is no good once its successor was used',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r1', 'r2'),
    refresh([3], 'r0', 'r1'),
  ],
  [
    'fine',
    'which ends the session',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r1', 'r2'),
    refresh([3], 'r0', 'no'),
    refresh([4], 'r2', 'no'),
    check([4], 'no'),
  ],
  [
    'fine',
    'also where nobody knows whether it was used',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r1', 'broken'),
    refresh([3], 'r0', 'no'),
  ],
  [
    'fine',
    'and where nobody knows whether it was shown',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r1', 'r2'),
    refresh([3], 'r0', 'broken'),
    refresh([4], 'r2', 'no'),
  ],
  [
    'fine',
    'after a try without an answer',
    IN,
    refresh([1], 'r0', 'broken'),
    refresh([2], 'r0', 'r1'),
  ],
  [
    'good_refresh_refused',
    'which costs nothing within the grace',
    IN,
    refresh([1], 'r0', 'broken'),
    refresh([4], 'r0', 'no'),
  ],
  [
    'fine',
    'and may cost the session after it',
    IN,
    refresh([1], 'r0', 'broken'),
    refresh([6], 'r0', 'no'),
  ],
  [
    'fine',
    'a stopped server may do it late, after the successor was used',
    IN,
    refresh([1], 'r0', 'away'),
    refresh([1.2], 'r0', 'r1'),
    refresh([1.5], 'r1', 'r2'),
    refresh([3], 'r2', 'no'),
  ],
  [
    'good_refresh_refused',
    'though not so late',
    IN,
    refresh([1], 'r0', 'away'),
    refresh([2.2], 'r0', 'r1'),
    refresh([2.4], 'r1', 'r2'),
    refresh([3], 'r2', 'no'),
  ],
  [
    'fine',
    'a request that nobody waited for may be done whenever',
    IN,
    refresh([1], 'r0', 'late'),
    refresh([2.2], 'r0', 'r1'),
    refresh([2.4], 'r1', 'r2'),
    refresh([3], 'r2', 'no'),
  ],
])

table('one line of succession', [
  ['two_successors', 'a race', IN, refresh([1], 'r0', 'r1'), refresh([1], 'r0', 'x1')],
  [
    'two_successors',
    'after a crash',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r0', 'broken'),
    refresh([3], 'r0', 'x1'),
  ],
  ['fine', 'a race that both win alike', IN, refresh([1], 'r0', 'r1'), refresh([1], 'r0', 'r1')],
  ['not_rotated', 'the same again', IN, refresh([1], 'r0', 'r0')],
  [
    'two_predecessors',
    'the same for another',
    IN,
    refresh([1], 'r0', 'r1'),
    refresh([2], 'r1', 'r2'),
    refresh([2], 'r2', 'r1'),
  ],
  [
    'another_session',
    'somebody else’s',
    IN,
    refresh([1], 'r0', 'r1', { given: { sid: 't', refresh: 'r1', access: 'a1' } }),
  ],
  [
    'another_session',
    'allowed as a session it is not',
    IN,
    check([1], 'yes', { allowed: { sid: 't', user: 'u' } }),
  ],
  [
    'another_session',
    'allowed as somebody it is not',
    IN,
    check([1], 'yes', { allowed: { sid: 's', user: 'v' } }),
  ],
])

table('over is over', [
  ['refresh_after_end', 'a refresh after a logout', IN, logout([1]), refresh([2], 'r0', 'r1')],
  [
    'refresh_after_end',
    'on another host, at once',
    IN,
    logout([1, 2]),
    refresh([2.01], 'r0', 'r1', { host: 'b' }),
  ],
  ['fine', 'a refresh beside a logout', IN, logout([1, 3]), refresh([2], 'r0', 'r1')],
  [
    'refresh_after_end',
    'a refresh after one was refused',
    IN,
    logout([1], 'broken'),
    refresh([2], 'r0', 'no'),
    refresh([3], 'r0', 'r1'),
  ],
  [
    'refresh_after_end',
    'a refresh after a check was refused',
    IN,
    logout([1], 'broken'),
    check([2], 'no'),
    refresh([3], 'r0', 'r1'),
  ],
  [
    'refresh_after_end',
    'a refresh after a logout of all sessions',
    IN,
    login([0], 'yes', other),
    logout([1], 'yes', { sid: 't', everywhere: true }),
    refresh([2], 'r0', 'r1'),
  ],
  [
    'fine',
    'but not of a session that was opened beside it',
    login([0], 'yes', other),
    logout([1, 3], 'yes', { sid: 't', everywhere: true }),
    login([2]),
    refresh([4], 'r0', 'r1'),
  ],
  ['access_after_end', 'a check on the host that knew', IN, logout([1, 2]), check([2.01])],
  ['fine', 'a check beside the logout', IN, logout([1, 2]), check([1.9])],
  [
    'fine',
    'another host may take its time',
    IN,
    logout([1, 2]),
    check([3.9], 'yes', { host: 'b' }),
  ],
  [
    'access_after_end',
    'but not more than the bound',
    IN,
    logout([1, 2]),
    check([4.1], 'yes', { host: 'b' }),
  ],
  [
    'access_after_end',
    'and no time at all once it has said so',
    IN,
    logout([1, 2]),
    check([2.1], 'no', { host: 'b' }),
    check([2.5], 'yes', { host: 'b' }),
  ],
  [
    'access_after_end',
    'a check long after a refresh was refused',
    IN,
    logout([1], 'broken'),
    refresh([2], 'r0', 'no'),
    check([4.2]),
  ],
  [
    'fine',
    'what was refused for a logout that could not be written',
    IN,
    logout([1], 'away'),
    check([2], 'no'),
    refresh([2], 'r0', 'no'),
    check([9]),
    refresh([9], 'r0', 'r1'),
  ],
  [
    'refresh_after_end',
    'but not once it was',
    IN,
    logout([1], 'away'),
    logout([2]),
    refresh([3], 'r0', 'r1'),
  ],
  [
    'fine',
    'after a logout that nobody answered',
    IN,
    logout([1], 'broken'),
    check([9]),
    refresh([9], 'r0', 'r1'),
  ],
])

void t.test('where one host is alone, it is over at once', (t) => {
  const alone = { grace: 4, bound: 0, late: 0 }
  t.same(find([IN, logout([1], 'broken'), refresh([2], 'r0', 'no'), check([2.2])], alone), [
    'access_after_end',
  ])
  t.end()
})

void t.test('every rule was broken', (t) => {
  t.same([...seen].sort(), [...RULES].sort())
  t.end()
})

void t.test('a journal that names what it never gave is no journal', (t) => {
  t.throws(() => find([check([1])]), { message: /session s, which no login gave/ })
  t.end()
})

void t.test('it counts what it has seen', (t) => {
  const { counts } = judge(
    [
      IN,
      refresh([1], 'r0', 'broken'),
      refresh([2], 'r0', 'r1'),
      refresh([3], 'r0', 'r1'),
      logout([4], 'broken'),
      check([5], 'no'),
      logout([6]),
      check([7], 'no'),
      refresh([8], 'r1', 'no'),
    ],
    TERMS,
  )
  t.match(counts, {
    sessions: 1,
    'tokens traded in more than once': 1,
    'tokens traded in after no answer': 1,
    'refusals, by what had no answer': 1,
    'refusals, certain': 2,
    'checks refused after the end': 1,
    'refreshes refused after the end': 1,
  })
  t.end()
})

void t.test('it tells the whole story, and not too many', (t) => {
  const operations = [IN, logout([1]), check([2], 'away'), refresh([3], 'r0', 'r1'), check([3.1])]
  const { violations } = judge(
    operations.map((one, id) => ({ ...one, id })),
    TERMS,
  )
  t.equal(violations.length, 2)
  t.same(explain({ violations: violations.slice(0, 1) }, operations), [
    'refresh_after_end #3 3.000 s to 3.100 s a refresh: yes 200 r0 → r1 access of r1: over since 1.100 s',
    '    #0 0.000 s to 0.100 s a login: yes 200 u s',
    '    #0 1.000 s to 1.100 s a logout: yes 200',
    '    #0 3.000 s to 3.100 s a refresh: yes 200 r0 → r1 access of r1',
    '    #0 3.100 s to 3.200 s a check: yes 204 a0',
  ])
  const many = Array<Violation>(7).fill(violations[0] as Violation)
  t.equal(explain({ violations: many }, [], 3).at(-1), 'and 4 more')
  t.end()
})
