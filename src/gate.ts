// All that a config and a key set decide, built whole: the rules and the table of routes. A reload builds a
// new gate and swaps one reference; a request under way keeps the gate it came in by.

import { createGuard } from './auth/check.ts'
import { createPolicy } from './auth/grants.ts'
import type { DialectTerms } from './auth/issue.ts'
import type { Keyring } from './auth/keyring.ts'
import { createLogin } from './auth/login.ts'
import { createLogout } from './auth/logout.ts'
import { createRefresh } from './auth/refresh.ts'
import type { Revocations } from './auth/revocations.ts'
import type { Sessions } from './auth/sessions.ts'
import type { Throttle } from './auth/throttle.ts'
import { createTokens } from './auth/token.ts'
import type { Clock } from './clock.ts'
import type { Config } from './config/config.ts'
import { createCheckHandler } from './http/check.ts'
import { createMikopbxRoutes } from './http/mikopbx/routes.ts'
import { createRouter, type Route, type Router } from './http/routes.ts'
import { shape } from './http/softphone/reply.ts'
import { createSoftphoneRoutes } from './http/softphone/routes.ts'
import type { Metrics } from './metrics.ts'
import type { Store } from './store/store.ts'
import type { Directory } from './users/directory.ts'

/** What outlives every reload. */
export interface GateParts {
  store: Store
  sessions: Sessions
  revocations: Revocations
  users: Directory
  throttle: Throttle
  metrics: Metrics
  clock: Clock
}

export interface Gate {
  router: Router
}

const softphoneTerms = ({ softphone, refresh }: Config): DialectTerms => ({
  dialect: 'softphone',
  ...softphone,
  ...refresh,
  roleName: (role) => role,
})

const mikopbxTerms = ({ mikopbx, refresh }: Config): DialectTerms => ({
  dialect: 'mikopbx',
  ...mikopbx,
  ...refresh,
  roleName: (role) => mikopbx.roleNames.get(role) ?? role,
})

export const createGate = (config: Config, keyring: Keyring, parts: GateParts): Gate => {
  const { store, sessions, revocations, users, throttle, metrics, clock } = parts
  const { leeway } = config.tokens
  const now = (): number => clock.now()
  const tokens = createTokens({ keyring, ...config.tokens, cacheSize: config.checks.verdictCache })
  const guard = createGuard({
    tokens,
    revocations,
    policy: createPolicy(config.roles),
    peek: users.peek,
    // A token says the role as its dialect's clients know it; grants are written for ours.
    ownRole: new Map(Array.from(config.mikopbx.roleNames, ([role, name]) => [name, role])),
    clock,
    leeway,
  })
  const logout = createLogout({ guard, tokens, store, sessions, now })
  const login = (terms: DialectTerms) =>
    createLogin({ users, store, sessions, tokens, throttle, clock }, terms)
  const refresh = (terms: DialectTerms) =>
    createRefresh({ users, store, sessions, tokens, clock, leeway }, terms)

  const check: Route = {
    name: 'check',
    method: 'GET',
    path: '/check',
    shape,
    handler: createCheckHandler({
      guard,
      observe({ action, decision, took }) {
        metrics.decided(action ?? 'unknown', 'refused' in decision ? decision.refused : '', took)
      },
      monotonic: () => clock.monotonic(),
    }),
  }
  const softphone = softphoneTerms(config)
  const mikopbx = mikopbxTerms(config)
  const routes: Route[] = [
    check,
    ...createSoftphoneRoutes({
      basePath: config.softphone.basePath,
      guard,
      login: login(softphone),
      refresh: refresh(softphone),
      logout,
      now,
      metrics,
    }),
    ...createMikopbxRoutes({
      basePath: config.mikopbx.basePath,
      login: login(mikopbx),
      refresh: refresh(mikopbx),
      logout,
      cookieSecurity: config.cookies.secure,
      now,
      metrics,
    }),
  ]
  return { router: createRouter(routes, shape, now) }
}
