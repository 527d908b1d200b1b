// The rules and the table of routes that follow from a config and a key set, built whole. A reload builds a new gate
// and swaps one reference; a request under way keeps the gate it came through.

import { createActFor } from '../auth/act-for.ts'
import { createGuard, type Guard } from '../auth/check.ts'
import type { DialectTerms } from '../auth/issue.ts'
import type { Keyring } from '../auth/keyring.ts'
import { createTrustedIssuers, type TrustedIssuer } from '../auth/issuer.ts'
import { createLogin } from '../auth/login.ts'
import { createLogout } from '../auth/logout.ts'
import type { MachineKeys } from '../auth/machine-keys.ts'
import { createRefresh } from '../auth/refresh.ts'
import type { Revocations } from '../auth/revocations.ts'
import type { Sessions } from '../auth/sessions.ts'
import type { Sights } from '../auth/sights.ts'
import type { LocalThrottle, Throttle } from '../auth/throttle.ts'
import { createTickets } from '../auth/ticket.ts'
import { createTokens } from '../auth/token.ts'
import type { Clock } from '../clock.ts'
import { createCheckHandlers } from '../http/check.ts'
import { createJwksHandler } from '../http/jwks.ts'
import type { Dialect } from '../http/dialect.ts'
import { loginLabel } from '../http/login.ts'
import { createKeyDoor } from '../http/machine-key.ts'
import { mikopbx } from '../http/mikopbx/routes.ts'
import { refreshLabel } from '../http/refresh.ts'
import { readOldResource, readResource } from '../http/resource.ts'
import { createRouter, type Route, routesBelow } from '../http/routes.ts'
import { shape } from '../http/softphone/reply.ts'
import { createSite } from '../http/site.ts'
import { softphone } from '../http/softphone/routes.ts'
import type { SessionParts } from '../http/softphone/sessions.ts'
import { createSubscriptionEndedHandler } from '../http/subscription-ended.ts'
import type { Metrics } from '../metrics.ts'
import type { Session, Store } from '../store/store.ts'
import type { Keeps } from '../streams/kept.ts'
import type { KickWatch } from '../streams/kick-watch.ts'
import type { Means } from '../streams/means.ts'
import { createKickId, type Registry } from '../streams/registry.ts'
import type { Directory } from '../users/directory.ts'
import type { Terms } from './in-force.ts'

/** What outlives every reload. */
export interface GateParts {
  store: Store
  sessions: Sessions
  sights: Sights
  revocations: Revocations
  users: Directory
  throttle: Throttle
  /** Of machine keys, on this host. */
  guesses: LocalThrottle
  machineKeys: MachineKeys
  metrics: Metrics
  registry: Registry
  kickWatch: Pick<KickWatch, 'obstacle'>
  keeps: Keeps
  means: Means
  listSessions: SessionParts['list']
  /** Why ended sessions may be unknown to us. */
  obstacle(): Error | undefined
  /** The same, of machine keys. */
  keyObstacle(): Error | undefined
  /** nginx reports the end of one stream. */
  streamEnded(kick: string): void
  /** How nginx named the resource of a check: in a header by its files of 0.1.0, else in the path. */
  resourceNamed(inHeader: boolean): void
  /** The rules in force: those of the latest gate. */
  today(): Guard
  clock: Clock
}

const DIALECTS: readonly Dialect[] = [softphone, mikopbx]

export const createGate = (
  { config, policy, isForeign, stillGranted }: Terms,
  keyring: Keyring,
  issuers: readonly TrustedIssuer[],
  parts: GateParts,
) => {
  const { store, sessions, sights, revocations, users, throttle, metrics, registry, clock } = parts
  const { machineKeys } = parts
  const site = createSite(config.site.origins, config.cookies.secure)
  const now = (): number => clock.now()
  const cacheSize = config.checks.verdictCache
  const trusted = createTrustedIssuers(issuers, { cacheSize, identify: store.identify })
  const dialects = DIALECTS.map(({ routes, ...form }) => {
    const { basePath, ...settings } = config[form.dialect]
    const terms: DialectTerms = { ...form, ...settings, ...config.refresh, ...config.sessions }
    return { routes, basePath, terms }
  })
  const onShown = sights.saw
  const tokens = createTokens({ keyring, ...config.tokens, cacheSize, trusted, onShown })
  const guard = createGuard({
    tokens,
    revocations,
    policy,
    peek: users.peek,
    // A token holds its dialect's name for the role; grants are written for ours.
    ownRole: new Map(
      dialects.flatMap(({ terms }) =>
        Array.from(terms.roleNames ?? [], ([role, name]) => [name, role] as const),
      ),
    ),
    clock,
    owes: sessions.owes,
    obstacle: parts.obstacle,
    keys: machineKeys,
    keyObstacle: parts.keyObstacle,
  })
  const logout = createLogout({ guard, tokens, store, sessions, now })
  // A name with a trusted issuer's prefix is nobody's: looked up as such, at the same cost.
  const ownName = (username: string): string => (isForeign(username) ? '' : username)
  const ownUsers = {
    peek: users.peek,
    lookup: (username: string) => users.lookup(ownName(username)),
    authenticate: (username: string, password: string) =>
      users.authenticate(ownName(username), password),
  }
  const onRenewed = ({ sid, role, accessUntil }: Session): void => {
    registry.extend({ sid, role, until: accessUntil })
  }
  const { idleTtl } = config.refresh
  const limits = { ...config.tickets, idleTtl }
  const tickets = createTickets({ tokens, store, policy, stillGranted, clock, ...limits })

  const routesOf = ({ routes, basePath, terms }: (typeof dialects)[number]): Route[] =>
    routes({
      basePath,
      guard,
      tokens,
      tickets,
      actFor: createActFor({ users: ownUsers, store, sessions, accessTtl: terms.accessTtl, clock }),
      sessions,
      list: parts.listSessions,
      site,
      login: createLogin({ users: ownUsers, store, sessions, tokens, throttle, clock }, terms),
      refresh: createRefresh({ ...parts, tokens, onRenewed }, terms),
      logout,
      hold: registry.hold,
      now,
      observe: {
        login: (result) => metrics.loggedIn(terms.dialect, loginLabel(result)),
        refresh: (result) => metrics.refreshed(terms.dialect, refreshLabel(result)),
        ticket: metrics.ticketed,
      },
    })

  const checkAt = (name: string, path: string, read: typeof readOldResource): Route => ({
    name,
    method: 'GET',
    path,
    shape,
    ...createCheckHandlers({
      guard,
      today: parts.today,
      tickets,
      admissions: {
        ...registry,
        ...parts.means,
        obstacle: parts.kickWatch.obstacle,
        keeps: parts.keeps,
        createKickId,
      },
      site,
      resourceOf(request) {
        parts.resourceNamed(read === readOldResource)
        return read(request)
      },
      observe({ action, decision, took }) {
        const passed = 'exempt' in decision ? 'exempt' : ''
        metrics.decided(
          action ?? 'unknown',
          'refused' in decision ? decision.refused : passed,
          took,
        )
      },
      monotonic: () => clock.monotonic(),
    }),
  })
  const ended = createSubscriptionEndedHandler(parts.streamEnded)
  const routes = [
    checkAt('check', '/check/*', readResource),
    checkAt('check_by_header', '/check', readOldResource),
    ...routesBelow('', shape, [
      ['subscription_ended', 'GET', '/subscription-ended', ended],
      ['jwks', 'GET', '/.well-known/jwks.json', createJwksHandler(keyring)],
    ]),
    ...dialects.flatMap(routesOf),
  ]
  const door = createKeyDoor({ throttle: parts.guesses, nameOf: machineKeys.nameOf })
  return { router: createRouter(routes.map(door)), guard }
}

export type Gate = ReturnType<typeof createGate>
