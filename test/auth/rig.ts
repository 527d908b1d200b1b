// The rules of sessions on a real store, one user source and a clock: what login, refresh and logout need.

import { join } from 'node:path'
import type { Test } from 'tap'
import { createGuard } from '../../src/auth/check.ts'
import { createPolicy } from '../../src/auth/grants.ts'
import type { DialectTerms } from '../../src/auth/issue.ts'
import { createLogin, type Login, type LoginRequest } from '../../src/auth/login.ts'
import { createLogout } from '../../src/auth/logout.ts'
import { createRefresh, type Refresh } from '../../src/auth/refresh.ts'
import { createRevocations } from '../../src/auth/revocations.ts'
import { createSessions } from '../../src/auth/sessions.ts'
import { createSights, type Sights } from '../../src/auth/sights.ts'
import { createThrottle } from '../../src/auth/throttle.ts'
import { mikopbx } from '../../src/http/mikopbx/routes.ts'
import { openSqliteStore } from '../../src/store/sqlite/sqlite.ts'
import type { EndedSession, Store } from '../../src/store/store.ts'
import type { Authentication, Lookup, User } from '../../src/users/source.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { createTestTokens } from '../fixtures/tokens.ts'

export const SOFTPHONE: DialectTerms = {
  dialect: 'softphone',
  accessTtl: 3600,
  refreshTtl: 30 * 86_400,
  rotate: false,
  grace: 30,
  unseenGrace: 86_400,
  idleTtl: 0,
  perUser: 0,
  opaqueRefresh: false,
}

export const MIKOPBX: DialectTerms = {
  ...SOFTPHONE,
  ...mikopbx,
  accessTtl: 900,
  rotate: true,
}

/** Users by name, who may be changed while a test runs. The password of each is `right`. */
const createUsers = () => {
  const users = new Map<string, User | 'disabled'>()
  let away = false
  const lookup = (name: string): Lookup => {
    if (away) return { unavailable: 'source_away' }
    const user = users.get(name)
    if (user === undefined) return { refused: 'unknown_user' }
    return user === 'disabled' ? { refused: 'disabled' } : { user }
  }
  return {
    set(name: string, user: Partial<User> | 'disabled' | undefined) {
      if (user === undefined) users.delete(name)
      else if (user === 'disabled') users.set(name, user)
      else users.set(name, { name, role: 'user', displayName: '', credential: 'mark 1', ...user })
    },
    leave() {
      away = true
    },
    come() {
      away = false
    },
    async authenticate(name: string, password: string): Promise<Authentication> {
      const found = lookup(name)
      if ('unavailable' in found) return { ...found, retryAfter: 5 }
      return 'user' in found && password !== 'right' ? { refused: 'wrong_password' } : found
    },
    lookup: async (name: string): Promise<Lookup> => lookup(name),
    peek: (name: string): Lookup | undefined => lookup(name),
  }
}

export const REQUEST: LoginRequest = {
  username: '201',
  password: 'right',
  address: '192.0.2.1',
  agent: 'a softphone',
  language: 'en',
  persistent: false,
}

/** On a store of its own where none is given. */
export const openRig = async (t: Test, given?: Store) => {
  const store = given ?? (await openSqliteStore(join(t.testdir(), 'store.sqlite')))
  t.teardown(() => store.close())
  const clock = createTestClock()
  const users = createUsers()
  users.set('201', {})
  users.set('202', {})
  const revocations = createRevocations()
  const told: EndedSession[] = []
  const renewed: string[] = []
  const sessions = createSessions({
    store,
    revocations,
    clock,
    onEnd(session) {
      told.push(session)
    },
    onOwed: () => undefined,
  })
  t.teardown(() => sessions.close())
  const sights = createSights({ store, clock })
  t.teardown(() => sights.close())
  const tokens = await createTestTokens({ onShown: sights.saw })
  const policy = createPolicy(new Map([['user', ['subscribe:users-state']]]))
  const { peek } = users
  const guard = createGuard({
    tokens,
    revocations,
    policy,
    peek,
    ownRole: new Map(),
    owes: sessions.owes,
    clock,
  })
  const throttle = createThrottle(
    () => ({ window: 900, pairFailures: 5, addressFailures: 100, accountFailures: 50 }),
    clock,
  )
  const logout = createLogout({ guard, tokens, store, sessions, now: clock.now })

  return {
    store,
    clock,
    users,
    revocations,
    told,
    renewed,
    sessions,
    sights,
    tokens,
    guard,
    logout,
    login: (terms = SOFTPHONE, parts: { store?: Partial<Store>; users?: object } = {}): Login =>
      createLogin(
        {
          users: { ...users, ...parts.users },
          store: { ...store, ...parts.store },
          sessions,
          tokens,
          throttle,
          clock,
        },
        terms,
      ),
    refresh: (
      terms = SOFTPHONE,
      parts: { store?: Partial<Store>; sights?: Pick<Sights, 'saw' | 'settle'> } = {},
    ): Refresh =>
      createRefresh(
        {
          users,
          store: { ...store, ...parts.store },
          sessions,
          sights: parts.sights ?? sights,
          tokens,
          clock,
          onRenewed: ({ sid }) => renewed.push(sid),
        },
        terms,
      ),
    /** Whether an access token opens anything. */
    async opens(accessToken: string): Promise<string> {
      const decision = await guard.check({
        token: accessToken,
        type: 'access',
        action: 'subscribe',
        resource: 'users-state',
      })
      return 'refused' in decision ? decision.refused : 'opens'
    },
  }
}

/** The tokens of a login that must succeed. */
export const enter = async (login: Login, request: Partial<LoginRequest> = {}) => {
  const result = await login({ ...REQUEST, ...request })
  if (!('issued' in result)) throw new Error(`no login: ${JSON.stringify(result)}`)
  return result.issued
}
