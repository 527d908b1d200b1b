// All that a config and a key set decide, built whole: the rules and the table of routes. A reload builds a
// new gate and swaps one reference; a request under way keeps the gate it came in by.

import { createGuard, type Guard } from '../auth/check.ts'
import type { DialectTerms } from '../auth/issue.ts'
import type { Keyring } from '../auth/keyring.ts'
import { createTrustedIssuers, type TrustedIssuer } from '../auth/issuer.ts'
import { createLogin } from '../auth/login.ts'
import { createLogout } from '../auth/logout.ts'
import { createRefresh } from '../auth/refresh.ts'
import type { Revocations } from '../auth/revocations.ts'
import type { Sessions } from '../auth/sessions.ts'
import type { Throttle } from '../auth/throttle.ts'
import { createTickets } from '../auth/ticket.ts'
import { createTokens } from '../auth/token.ts'
import type { Clock } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { createCheckHandlers } from '../http/check.ts'
import { createJwksHandler } from '../http/jwks.ts'
import { createMikopbxRoutes } from '../http/mikopbx/routes.ts'
import { createRouter, type Route, type Router } from '../http/routes.ts'
import { shape } from '../http/softphone/reply.ts'
import { createSoftphoneRoutes } from '../http/softphone/routes.ts'
import type { SessionParts } from '../http/softphone/sessions.ts'
import { createSubscriptionEndedHandler } from '../http/subscription-ended.ts'
import type { Metrics } from '../metrics.ts'
import type { Session, Store } from '../store/store.ts'
import type { KickWatch } from '../streams/kick-watch.ts'
import type { Registry } from '../streams/registry.ts'
import type { Directory } from '../users/directory.ts'
import type { Terms } from './in-force.ts'

/** What outlives every reload. */
export interface GateParts {
  store: Store
  sessions: Sessions
  revocations: Revocations
  users: Directory
  throttle: Throttle
  metrics: Metrics
  registry: Registry
  kickWatch: Pick<KickWatch, 'obstacle'>
  listSessions: SessionParts['list']
  /** What keeps us from knowing of every end of a session. */
  obstacle(): Error | undefined
  /** nginx tells of the end of one stream. */
  streamEnded(kick: string): void
  /** The rules in force: those of the latest gate. */
  today(): Guard
  clock: Clock
}

export interface Gate {
  router: Router
  guard: Guard
}

const softphoneTerms = ({ softphone, refresh, sessions }: Config): DialectTerms => ({
  dialect: 'softphone',
  ...softphone,
  ...refresh,
  ...sessions,
  roleName: (role) => role,
})

const mikopbxTerms = ({ mikopbx, refresh, sessions }: Config): DialectTerms => ({
  dialect: 'mikopbx',
  ...mikopbx,
  ...refresh,
  ...sessions,
  roleName: (role) => mikopbx.roleNames.get(role) ?? role,
})

export const createGate = (
  { config, policy, isForeign }: Terms,
  keyring: Keyring,
  issuers: readonly TrustedIssuer[],
  parts: GateParts,
): Gate => {
  const { store, sessions, revocations, users, throttle, metrics, registry, clock } = parts
  const cookieSecurity = config.cookies.secure
  const { leeway } = config.tokens
  const now = (): number => clock.now()
  const cacheSize = config.checks.verdictCache
  const trusted = createTrustedIssuers(issuers, { cacheSize, identify: store.identify })
  const tokens = createTokens({ keyring, ...config.tokens, cacheSize, trusted })
  const guard = createGuard({
    tokens,
    revocations,
    policy,
    peek: users.peek,
    // A token says the role as its dialect's clients know it; grants are written for ours.
    ownRole: new Map(Array.from(config.mikopbx.roleNames, ([role, name]) => [name, role])),
    clock,
    leeway,
    obstacle: parts.obstacle,
  })
  const logout = createLogout({ guard, tokens, store, sessions, now })
  const ownUsers = {
    peek: users.peek,
    // A name of a trusted issuer's is asked for as one that nobody has, at the same price.
    authenticate: (username: string, password: string) =>
      users.authenticate(isForeign(username) ? '' : username, password),
  }
  const login = (terms: DialectTerms) =>
    createLogin({ users: ownUsers, store, sessions, tokens, throttle, clock }, terms)
  const refresh = (terms: DialectTerms) =>
    createRefresh({ users, store, sessions, tokens, clock, leeway, onRenewed }, terms)
  const onRenewed = ({ sid, role, accessUntil }: Session): void => {
    registry.extend({ sid, role, until: accessUntil })
  }
  const tickets = createTickets({ tokens, store, policy, clock, terms: config.tickets })

  const check: Route = {
    name: 'check',
    method: 'GET',
    path: '/check',
    shape,
    ...createCheckHandlers({
      guard,
      today: parts.today,
      tickets,
      admissions: { ...registry, obstacle: parts.kickWatch.obstacle },
      cookieSecurity,
      observe({ action, decision, took }) {
        metrics.decided(action ?? 'unknown', 'refused' in decision ? decision.refused : '', took)
      },
      monotonic: () => clock.monotonic(),
    }),
  }
  const subscriptionEnded: Route = {
    name: 'subscription_ended',
    method: 'GET',
    path: '/subscription-ended',
    shape,
    handler: createSubscriptionEndedHandler(parts.streamEnded),
  }
  const jwks: Route = {
    name: 'jwks',
    method: 'GET',
    path: '/.well-known/jwks.json',
    shape,
    handler: createJwksHandler(keyring),
  }
  const softphone = softphoneTerms(config)
  const mikopbx = mikopbxTerms(config)
  const routes: Route[] = [
    check,
    subscriptionEnded,
    jwks,
    ...createSoftphoneRoutes({
      basePath: config.softphone.basePath,
      guard,
      tokens,
      tickets,
      sessions,
      list: parts.listSessions,
      cookieSecurity,
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
      cookieSecurity,
      now,
      metrics,
    }),
  ]
  return { router: createRouter(routes, shape, now), guard }
}
