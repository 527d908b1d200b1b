// The decision: who holds the token as of now, and whether some grant lets them do this.

import t from 'tap'
import { createGuard, createStillGranted, type Guard, type Identity } from '../../src/auth/check.ts'
import { type Reason, refuse } from '../../src/auth/decision.ts'
import { createPolicy } from '../../src/auth/grants.ts'
import { createMachineKey, parseMachineGrants } from '../../src/auth/machine-key.ts'
import { createRevocations } from '../../src/auth/revocations.ts'
import type { Lookup } from '../../src/users/source.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { secretOf } from '../fixtures/keys.ts'
import {
  claims,
  createTestTokens,
  refreshToken,
  ticket,
  token,
  tokenWith,
} from '../fixtures/tokens.ts'

const LEEWAY = 5

const setUp = async (peek: (username: string) => Lookup | undefined = () => undefined) => {
  const clock = createTestClock()
  const revocations = createRevocations()
  const policy = createPolicy(
    new Map([
      ['user', ['subscribe:users-state', 'subscribe:me/*', 'read:recordings/{username}/**']],
      ['boss', ['read:**']],
      ['nobody', []],
    ]),
  )
  const tokens = await createTestTokens()
  const owed = new Set<string>()
  const guard = createGuard({
    tokens,
    revocations,
    policy,
    peek,
    ownRole: new Map([['bosses', 'boss']]),
    owes: ({ username }) => owed.has(username),
    clock,
  })
  const stillGranted = createStillGranted({ policy, peek, isForeign: () => false })
  return { clock, revocations, owed, guard, stillGranted }
}

const ask = async (
  guard: Guard,
  text: string,
  action: string | undefined = 'read',
  resource: string | undefined = 'recordings/201/a.mp3',
): Promise<Reason | 'allowed'> => {
  const decision = await guard.check({ token: text, type: 'access', action, resource })
  return 'refused' in decision ? decision.refused : 'allowed'
}

const user = (role: string): Lookup => ({
  user: { name: '201', role, displayName: '', credential: 'c' },
})

void t.test('what a grant names is allowed, everything else is not', async (t) => {
  const { guard } = await setUp()
  const rows: readonly (readonly [string | undefined, string | undefined, Reason | 'allowed'])[] = [
    ['read', 'recordings/201/2026/a.mp3', 'allowed'],
    ['read', 'recordings/202/a.mp3', 'no_grant'],
    ['read', 'recordings/201', 'no_grant'],
    ['read', 'users-state', 'no_grant'],
    ['subscribe', 'users-state', 'allowed'],
    ['subscribe', 'me/active-calls', 'allowed'],
    ['subscribe', 'active-calls', 'no_grant'],
    ['publish', 'users-state', 'no_grant'],
    ['connect', 'sip', 'no_grant'],
    ['delete', 'users-state', 'bad_action'],
    ['READ', 'recordings/201/a.mp3', 'bad_action'],
    ['', 'recordings/201/a.mp3', 'bad_action'],
    ['read', '', 'bad_resource'],
    ['read', 'recordings/201/../202/a.mp3', 'bad_resource'],
    ['read', '/recordings/201/a.mp3', 'bad_resource'],
    ['read', 'recordings//201/a.mp3', 'bad_resource'],
    ['read', 'recordings/201/a\nb', 'bad_resource'],
  ]
  for (const [action, resource, expected] of rows) {
    t.equal(await ask(guard, token(), action, resource), expected, `${action} ${resource}`)
  }
  const nothing = await guard.check({
    token: token(),
    type: 'access',
    action: undefined,
    resource: 'users-state',
  })
  t.same(nothing, { refused: 'bad_action' })
  const nowhere = await guard.check({
    token: token(),
    type: 'access',
    action: 'read',
    resource: undefined,
  })
  t.same(nowhere, { refused: 'bad_resource' })
})

void t.test('own calls are heard by who surely took part, by today’s number', async (t) => {
  const parties: Readonly<Record<string, readonly string[]>> = { 'a.wav': ['201'], 'b.wav': [] }
  const policy = createPolicy(
    new Map([
      ['user', ['read:recordings/{own_calls}', 'read:public/**']],
      ['boss', ['read:**']],
    ]),
    { isParty: (recording, number) => parties[recording]?.includes(number) },
  )
  const known = (number: string | undefined, role = 'user'): Lookup => ({
    user: { name: '201', role, displayName: '', credential: 'c', ...(number && { number }) },
  })
  const own = ticket({ action: 'read', resource: 'recordings/**', num: '201' })
  const answerTo = async (
    text: string,
    resource: string,
    user?: Lookup,
    action = 'read',
  ): Promise<Reason | 'allowed'> => {
    const guard = createGuard({
      tokens: await createTestTokens(),
      revocations: createRevocations(),
      policy,
      peek: () => user,
      ownRole: new Map(),
      owes: () => false,
      clock: createTestClock(),
    })
    const type = text === own ? 'ticket' : 'access'
    const decision = await guard.check({ token: text, type, action, resource })
    return 'refused' in decision ? decision.refused : 'allowed'
  }
  const numbered = tokenWith({ num: '201' })
  for (const [what, text, resource, user, expected] of [
    ['by memory', token(), 'recordings/a.wav', known('201'), 'allowed'],
    ['another’s', token(), 'recordings/a.wav', known('202'), 'no_grant'],
    ['nobody’s', token(), 'recordings/b.wav', known('201'), 'no_grant'],
    ['unknown', token(), 'recordings/c.wav', known('201'), 'unknown_call'],
    ['elsewhere', token(), 'voicemail/a.wav', known('201'), 'no_grant'],
    ['another grant', token(), 'public/a.wav', known(undefined), 'allowed'],
    ['without a number', token(), 'recordings/a.wav', known(undefined), 'no_grant'],
    ['without, unknown', token(), 'recordings/c.wav', known(undefined), 'no_grant'],
    ['memory wins', numbered, 'recordings/a.wav', known('202'), 'no_grant'],
    ['memory wins, with none', numbered, 'recordings/a.wav', known(undefined), 'no_grant'],
    ['hears all', token(), 'recordings/c.wav', known(undefined, 'boss'), 'allowed'],
    ['by the token', numbered, 'recordings/a.wav', undefined, 'allowed'],
    ['no name is a number', token(), 'recordings/a.wav', undefined, 'no_grant'],
    ['a ticket opens own', own, 'recordings/a.wav', undefined, 'allowed'],
    ['a ticket opens own, by memory', own, 'recordings/a.wav', known('201'), 'allowed'],
    ['and no other', own, 'recordings/b.wav', undefined, 'no_grant'],
    ['nor unknown', own, 'recordings/c.wav', undefined, 'unknown_call'],
    ['nor what it is not for', own, 'public/a.wav', undefined, 'ticket_mismatch'],
    ['nor once the number is another', own, 'recordings/a.wav', known('202'), 'no_grant'],
  ] as const) {
    t.equal(await answerTo(text, resource, user), expected, what)
  }
  t.equal(await answerTo(token(), 'recordings/c.wav', known('201'), 'subscribe'), 'no_grant')
})

void t.test('an allowed check tells who it is', async (t) => {
  const { guard } = await setUp()
  const decision = await guard.check({
    token: token(),
    type: 'access',
    action: 'subscribe',
    resource: 'users-state',
  })
  t.match(decision, { role: 'user', claims: { username: '201', sid: 'session-1', exp: NOW + 900 } })
})

void t.test('a token seen before is decided without waiting', async (t) => {
  const { guard } = await setUp()
  const request = {
    token: token(),
    type: 'access',
    action: 'subscribe',
    resource: 'users-state',
  } as const
  t.equal(guard.checkRemembered(request), undefined)
  const decision = await guard.check(request)
  t.match(decision, { role: 'user' })
  t.same(guard.checkRemembered(request), decision)
  t.same(guard.checkRemembered({ ...request, action: 'read' }), { refused: 'no_grant' })
  await guard.check({ ...request, token: 'garbage' })
  t.same(guard.checkRemembered({ ...request, token: 'garbage' }), { refused: 'malformed_token' })
})

void t.test('a remembered token dies at its end, not a second later', async (t) => {
  const { guard, clock } = await setUp()
  t.equal(await ask(guard, token()), 'allowed')
  clock.advance(899)
  t.equal(await ask(guard, token()), 'allowed')
  clock.advance(1)
  t.equal(await ask(guard, token()), 'expired')
})

void t.test('the leeway excuses clocks that run ahead, never an end', async (t) => {
  const { guard } = await setUp()
  t.equal(await ask(guard, tokenWith({ nbf: NOW + LEEWAY, iat: NOW + LEEWAY })), 'allowed')
  t.equal(await ask(guard, tokenWith({ nbf: NOW + LEEWAY + 1 })), 'not_yet_valid')
  t.equal(await ask(guard, tokenWith({ iat: NOW + 300 })), 'not_yet_valid', 'F20: another host')
  t.equal(await ask(guard, tokenWith({ exp: NOW })), 'expired')
})

void t.test('F19: a clock set back revives no ended session', async (t) => {
  const { guard, clock, revocations } = await setUp()
  clock.jump(86_400)
  revocations.add('session-1', NOW + 900)
  clock.jump(-86_400)
  t.equal(await ask(guard, token()), 'session_ended')
  revocations.forget(NOW + 899)
  t.equal(await ask(guard, token()), 'session_ended')
  revocations.forget(NOW + 900)
  t.equal(await ask(guard, token()), 'expired', 'what was forgotten stays dead')
  t.equal(await ask(guard, tokenWith({ exp: NOW + 901, sid: 'session-2' })), 'allowed')
})

void t.test('a refresh token opens nothing, an access token is none', async (t) => {
  const { guard } = await setUp()
  t.equal(await ask(guard, refreshToken()), 'wrong_type')
  t.match(await guard.identify(refreshToken(), 'refresh'), { role: 'user' })
  t.match(await guard.identify(token(), 'refresh'), { refused: 'wrong_type' })
  t.match(await guard.identify(token()), { role: 'user' })
})

void t.test('who is gone or disabled is refused at once, whatever their token says', async (t) => {
  for (const [lookup, expected] of [
    [{ refused: 'unknown_user' }, 'user_removed'],
    [{ refused: 'disabled' }, 'user_disabled'],
    [{ unavailable: 'source_away' }, 'allowed'], // the token stands: it was issued to somebody
    [undefined, 'allowed'],
    [user('user'), 'allowed'],
  ] as const) {
    const { guard } = await setUp(() => lookup)
    t.equal(await ask(guard, token()), expected)
  }
})

void t.test('today’s role counts where the users are in memory, else the token’s', async (t) => {
  const { guard: promoted } = await setUp(() => user('boss'))
  t.equal(await ask(promoted, token(), 'read', 'anything/at/all'), 'allowed')
  t.match(await promoted.identify(tokenWith({ role: 'bosses' })), { role: 'boss' })
  t.match(await promoted.identify(token()), { role: 'boss', claims: { role: 'user' } })
  const { guard: demoted } = await setUp(() => user('nobody'))
  t.equal(await ask(demoted, token()), 'no_grant', 'an empty list of grants denies')
  const { guard } = await setUp()
  t.equal(await ask(guard, tokenWith({ role: 'boss' }), 'read', 'anything'), 'allowed')
  t.equal(
    await ask(guard, tokenWith({ role: 'bosses' }), 'read', 'a'),
    'allowed',
    'a dialect’s name',
  )
  t.match(await guard.identify(tokenWith({ role: 'bosses' })), { role: 'boss' })
  t.equal(await ask(guard, tokenWith({ role: 'x,admin' })), 'unknown_role', 'no list of roles')
  t.equal(await ask(guard, tokenWith({ role: 'user,boss' })), 'unknown_role', 'nor of known ones')
  t.equal(await ask(guard, tokenWith({ role: 'constructor' })), 'unknown_role')
  t.equal(await ask(guard, tokenWith({ role: 'User' })), 'unknown_role')
})

void t.test('a name is looked up byte for byte', async (t) => {
  const asked: string[] = []
  const { guard } = await setUp((username) => {
    asked.push(username)
    return undefined
  })
  const names = ['Jürgen', 'пользователь', '２０１', 'a\u0301', 'á', 'ADMIN', '0']
  for (const username of names) await guard.identify(tokenWith({ username }))
  t.same(asked, names)
})

void t.test('a ticket opens what it is for, while its holder may still go there', async (t) => {
  const { guard, revocations, clock } = await setUp()
  const ask = async (text: string, action: string, resource: string) => {
    const decision = await guard.check({ token: text, type: 'ticket', action, resource })
    return 'refused' in decision ? decision.refused : 'allowed'
  }
  const folder = ticket({ resource: 'recordings/**' })
  const rows = [
    [ticket(), 'read', 'recordings/201/a.mp3', 'allowed'],
    [ticket(), 'read', 'recordings/201/b.mp3', 'ticket_mismatch'],
    [ticket(), 'subscribe', 'recordings/201/a.mp3', 'ticket_mismatch'],
    [folder, 'read', 'recordings/201/2026/b.mp3', 'allowed'],
    [folder, 'read', 'recordings/202/a.mp3', 'no_grant'],
    [token(), 'read', 'recordings/201/a.mp3', 'wrong_type'],
    [refreshToken(), 'read', 'recordings/201/a.mp3', 'wrong_type'],
  ] as const
  for (const [text, action, resource, expected] of rows) {
    t.equal(await ask(text, action, resource), expected, `${action} ${resource}: ${expected}`)
  }
  t.match(await guard.identify(ticket()), { refused: 'wrong_type' }, 'it is no access token')
  const asHeader = { token: ticket(), type: 'access', action: 'read', resource: 'x' } as const
  t.match(await guard.check(asHeader), { refused: 'wrong_type' })
  revocations.add('session-1', NOW + 900)
  t.equal(await ask(ticket(), 'read', 'recordings/201/a.mp3'), 'session_ended')
  clock.advance(60)
  t.equal(await ask(ticket({ sid: 's2' }), 'read', 'recordings/201/a.mp3'), 'expired')
})

void t.test('what was allowed once is judged anew by today’s role', async (t) => {
  const subject = { username: '201', id: '7' }
  const { stillGranted } = await setUp()
  t.ok(stillGranted('user', 'subscribe', 'users-state', subject))
  t.notOk(stillGranted('user', 'subscribe', 'contacts', subject))
  t.notOk(stillGranted('user', 'delete', 'users-state', subject))
  t.notOk(stillGranted('no such role', 'subscribe', 'users-state', subject))
  const { stillGranted: ofTheBoss } = await setUp(() => user('boss'))
  t.ok(ofTheBoss('user', 'read', 'anything', subject))
  t.notOk(ofTheBoss('user', 'subscribe', 'users-state', subject))
})

void t.test('a call of one’s own stays so while nothing changes', async (t) => {
  const calls = { isParty: (_: string, number: string) => number === '201' }
  const policy = createPolicy(new Map([['user', ['read:recordings/{own_calls}']]]), calls)
  const isStillGranted = (number: string | undefined, known = true, then?: string) =>
    createStillGranted({
      policy,
      peek: () =>
        known
          ? {
              user: {
                name: 'anna',
                role: 'user',
                displayName: '',
                credential: 'c',
                ...(number !== undefined && { number }),
              },
            }
          : undefined,
      isForeign: () => false,
    })('user', 'read', 'recordings/a.wav', { username: 'anna', id: '7', number: then })
  t.ok(isStillGranted('201'))
  t.notOk(isStillGranted('202'), 'their number of today counts')
  t.notOk(isStillGranted(undefined))
  t.notOk(isStillGranted('202', true, '201'))
  t.notOk(isStillGranted('201', false), 'only their service knows it')
  t.ok(isStillGranted(undefined, false, '201'), 'and what it said then stands')
})

void t.test('what hangs on a machine key waits for what is known of machine keys', async (t) => {
  const parts = {
    tokens: await createTestTokens(),
    revocations: createRevocations(),
    policy: createPolicy(new Map([['user', ['read:**']]])),
    peek: () => user('user'),
    ownRole: new Map<string, string>(),
    clock: createTestClock(),
    owes: () => false,
    keys: { identify: () => ({ refused: 'unknown_machine_key' as const }), stands: () => true },
  }
  const text = token({ payload: claims({ sid: 'key_0123456789abcdef-1' }) })
  t.equal(await ask(createGuard(parts), text), 'allowed')
  const late = createGuard({ ...parts, keyObstacle: () => new Error('too old') })
  await t.rejects(ask(late, text), { message: 'too old' })
  t.equal(await ask(late, token()), 'allowed', 'nobody else does')
})

void t.test('an ended session ends every token of it, in every spelling', async (t) => {
  const { guard, revocations } = await setUp()
  const other = tokenWith({ jti: 'token-2' })
  const sameId = tokenWith({ exp: NOW + 800 })
  for (const text of [token(), other, sameId]) t.equal(await ask(guard, text), 'allowed')
  revocations.add('session-1', NOW + 900)
  for (const text of [token(), other, sameId]) t.equal(await ask(guard, text), 'session_ended')
  t.match(await guard.identify(refreshToken(), 'refresh'), { refused: 'session_ended' })
  const good = token()
  for (const text of [`${good} `, `${good}=`, `${good}.`, ` ${good}`, `${good}\t`, `${good}.x`]) {
    t.equal(await ask(guard, text), 'malformed_token')
  }
  t.equal(await ask(guard, tokenWith({ sid: 'session-2' })), 'allowed')
  t.equal(
    await ask(guard, tokenWith({ sid: 'Session-1' })),
    'allowed',
    'another id, another session',
  )
})

void t.test('an expired token of ours is told from a forged one', async (t) => {
  const { guard } = await setUp()
  for (let i = 0; i < 200; i++) {
    const verdict = await ask(guard, tokenWith({ exp: NOW - 1, jti: `token-${i}` }))
    if (verdict !== 'expired') t.fail(`${verdict} for an expired token`)
  }
  const forged = token({ payload: claims({ exp: NOW - 1 }), key: secretOf('somebody else') })
  t.equal(await ask(guard, forged), 'bad_signature')
})

void t.test('what is wrong is told in one order', async (t) => {
  const { guard, revocations } = await setUp()
  revocations.add('session-1', NOW + 900)
  const forged = token({ payload: claims({ exp: 1 }), key: secretOf('somebody else') })
  t.equal(await ask(guard, forged, 'nonsense', ''), 'bad_signature')
  t.equal(await ask(guard, tokenWith({ exp: NOW - 1 }), 'nonsense', ''), 'expired')
  t.equal(await ask(guard, token(), 'nonsense', ''), 'session_ended')
  t.equal(await ask(guard, tokenWith({ sid: 's2' }), 'nonsense', ''), 'bad_action')
  t.equal(await ask(guard, tokenWith({ sid: 's2' }), 'read', ''), 'bad_resource')
})

void t.test('decisions on one user never serve another', async (t) => {
  const { guard } = await setUp()
  const one = tokenWith({ username: 'foo_bar', sid: 's1' })
  const two = tokenWith({ username: 'foo', sid: 's2' })
  for (let round = 0; round < 2; round++) {
    t.equal(await ask(guard, one, 'read', 'recordings/foo_bar/baz'), 'allowed')
    t.equal(await ask(guard, two, 'read', 'recordings/foo_bar/baz'), 'no_grant')
    t.equal(await ask(guard, two, 'read', 'recordings/foo/bar_baz'), 'allowed')
    t.equal(await ask(guard, one, 'read', 'recordings/foo/bar_baz'), 'no_grant')
  }
})

void t.test('a session whose end is not written yet opens nothing', async (t) => {
  const { guard, owed } = await setUp()
  const text = token()
  t.equal(await ask(guard, text), 'allowed')
  owed.add('201')
  t.equal(await ask(guard, text), 'session_ended')
  t.same(guard.checkRemembered({ token: text, action: 'read', resource: 'recordings/201/a' }), {
    refused: 'session_ended',
  })
})

void t.test(
  'a machine key is judged by what is known of keys, and in its place alone',
  async (t) => {
    const clock = createTestClock()
    const id = 'key_0123456789abcdef'
    const revocations = createRevocations()
    const machine = parseMachineGrants(['read:recordings/**', 'subscribe:**'])
    if ('problem' in machine) throw new Error(machine.problem)
    const { key: text, ...identity } = {
      key: createMachineKey(),
      claims: { ...claims(), sub: '', username: 'key:k', sid: id, exp: NOW + 60, machine },
      role: 'machine-key',
    } as unknown as Identity & { key: string }
    let obstacle: Error | undefined
    let stands = true
    const guard = createGuard({
      tokens: await createTestTokens(),
      revocations,
      policy: createPolicy(new Map([['user', ['read:**']]])),
      peek: () => undefined,
      ownRole: new Map(),
      owes: () => false,
      clock,
      keys: {
        identify: (shown) => (shown === text ? identity : refuse('unknown_machine_key')),
        stands: () => stands,
      },
      keyObstacle: () => obstacle,
    })
    const asked = async (given: object) => {
      const request = {
        token: text,
        keyFrom: '192.0.2.1',
        action: 'read',
        resource: 'recordings/a',
      }
      const decision = await guard.check({ ...request, ...given })
      return 'refused' in decision ? decision.refused : decision.claims.username
    }
    t.equal(await asked({}), 'key:k')
    t.equal(await asked({ keyFrom: undefined }), 'malformed_token', 'not where none is taken')
    t.equal(await asked({ action: 'write' }), 'no_grant')
    t.equal(await asked({ action: 'subscribe', resource: 'x' }), 'key:k')
    t.equal(await asked({ action: 'subscribe', resource: 'me/x' }), 'no_grant')
    t.equal(await asked({ token: createMachineKey() }), 'unknown_machine_key')
    t.equal(await asked({ token: token() }), '201', 'a token is a token')
    const byKey = tokenWith({ sid: `${id}-1` })
    t.equal(await asked({ token: byKey }), '201')
    stands = false
    t.equal(await asked({ token: byKey }), 'session_ended')
    obstacle = new Error('away')
    await t.rejects(asked({}), { message: 'away' }, 'it may have been removed')
    await t.rejects(asked({ token: createMachineKey() }), { message: 'away' }, 'or added')
    t.equal(await asked({ token: token() }), '201')
    obstacle = undefined
    revocations.forget(NOW + 60)
    t.equal(await asked({}), 'expired', 'whatever the clock says now')
  },
)

void t.test('where no machine keys are known, none stands behind a ticket', async (t) => {
  const { guard } = await setUp()
  t.equal(await ask(guard, tokenWith({ sid: 'key_0123456789abcdef-1' })), 'session_ended')
  t.equal(await ask(guard, tokenWith({ sid: 'key_0123456789abcdef0' })), 'allowed', 'no id of one')
})
