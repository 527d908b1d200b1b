// The wiring: every part built from a Config, by hand and in order. The only file that knows which adapter
// is used; nothing here decides anything.

import type { Server } from 'node:http'

import { REASONS } from '../auth/decision.ts'
import { ACTIONS } from '../auth/grants.ts'
import { IssuerAwayError } from '../auth/issuer.ts'
import { createRevocations } from '../auth/revocations.ts'
import { createSessions } from '../auth/sessions.ts'
import { createSharedThrottle } from '../auth/shared-throttle.ts'
import { createThrottle } from '../auth/throttle.ts'
import type { Clock } from '../clock.ts'
import { findRestartOnly } from '../config/changes.ts'
import { ConfigError } from '../config/config-error.ts'
import type { Config } from '../config/config.ts'
import { loadKeys } from '../config/keys-file.ts'
import { createGate } from './gate.ts'
import { drain } from '../http/drain.ts'
import { listen, type ListenAddress, ListenError } from '../http/listen.ts'
import {
  createControlRoutes,
  createOperatorRoutes,
  shape as operatorShape,
} from '../http/operator.ts'
import type { SecurityEvent } from '../http/reply.ts'
import type { Request } from '../http/request.ts'
import { createRouter, type Route, type Router } from '../http/routes.ts'
import { createHttpServer, type ServerParts } from '../http/server.ts'
import { shape as softphoneShape } from '../http/softphone/reply.ts'
import { createLogLimit } from '../log-limit.ts'
import { type IssuerEvents, openIssuers } from '../issuers/open-issuers.ts'
import type { Log } from '../log.ts'
import { createMetrics } from '../metrics.ts'
import { makeStateDirectory, openSecurity, openState, StartError } from './open-state.ts'
import { openUsers } from './open-users.ts'
import { createOperations, kickLive } from './operations.ts'
import { alone, createPeers, type Peers } from './peers.ts'
import { createPasswordPool } from '../passwords/pool.ts'
import { observeStore } from '../store/observed.ts'
import type { RedisStore } from '../store/redis.ts'
import { type EndCause, StoreError } from '../store/store.ts'
import type { UserChange } from '../users/diff-users.ts'
import { viewSessions } from './session-view.ts'
import { createKicker } from '../subscriptions/kicker.ts'
import { createRegistry } from '../subscriptions/registry.ts'
import type { Subscription } from '../subscriptions/subscription.ts'
import { version } from '../version.ts'

export interface Daemon {
  /** Brings a new config, keys and users into force, or throws and changes nothing. Reopens the log files. */
  reload(config?: Config): Promise<Reloaded>
  /** Stops accepting, finishes what is under way, flushes and closes everything. */
  stop(): Promise<void>
}

export interface DaemonParts {
  log: Log
  clock: Clock
  /** Listening sockets that systemd has opened, by name. */
  sockets?: ReadonlyMap<string, number>
  /** Lines of the log that nobody took. */
  lost?: { lines: number }
  /** One line for `systemctl status`, whenever it changes. */
  onStanding?: (line: string) => void
  /** The config as it stands now, for a reload; without, the running one is taken anew. */
  readConfig?: () => Config
}

export interface Reloaded {
  /** Settings that changed and wait for a restart. */
  ignored: readonly string[]
}

export const NOT_RELOADED = 'not reloaded: the running configuration stays in force'
const PRUNE_EVERY = 30_000
const READY_WITHIN = 1000
const RENEW_WITHIN = 500 // milliseconds that an expired stream may wait for word of a refresh elsewhere
const LOG_LIMIT = { most: 20, window: 10 } // lines that say the same thing in so many seconds
const SOCKETS: ReadonlySet<string> = new Set(['http', 'operator', 'notify']) // what systemd may open for us

/** What a change in the users file means for the user's sessions. */
const CAUSES: Readonly<Partial<Record<UserChange['change'], EndCause>>> = {
  removed: 'user_removed',
  disabled: 'user_disabled',
  password: 'password_changed',
}

const within = <Value>(promise: Promise<Value>, milliseconds: number): Promise<Value> => {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => {
    late.reject(new StoreError('unavailable', 'the store does not answer'))
  }, milliseconds)
  return Promise.race([promise, late.promise]).finally(() => {
    clearTimeout(timer)
  })
}

/** Of a fault, for the metric. */
const kindOf = (error: unknown): string => {
  if (error instanceof IssuerAwayError) return 'issuer_away'
  return error instanceof StoreError ? `store_${error.code}` : 'internal'
}

/** Resolves when every listener accepts. Throws a ConfigError or a StartError; nothing is left open then. */
export const startDaemon = async (config: Config, parts: DaemonParts): Promise<Daemon> => {
  const opened: (() => Promise<void> | void)[] = []
  const closeAll = async (): Promise<void> => {
    for (const close of opened.toReversed()) await close()
  }
  try {
    return await build(config, parts, opened, closeAll)
  } catch (error) {
    await closeAll()
    if (error instanceof StoreError || error instanceof ListenError) {
      throw new StartError(error.message, { cause: error })
    }
    throw error
  }
}

const build = async (
  config: Config,
  {
    log,
    clock,
    sockets = new Map(),
    lost = { lines: 0 },
    onStanding = () => {},
    readConfig,
  }: DaemonParts,
  opened: (() => Promise<void> | void)[],
  closeAll: () => Promise<void>,
): Promise<Daemon> => {
  let current = config
  let peers: Peers
  let ready = true
  const now = (): number => clock.now()
  const metrics = createMetrics({
    version,
    actions: ACTIONS,
    reasons: REASONS,
    sessions: () => store.countSessions(clock.now()),
    revocations: () => revocations.prune(),
    subscriptions: () => registry.count(),
    nchan: () => nchan(),
    logLinesLost: () => lost.lines,
    hashQueue: () => pool.queued(),
    ready: () => ready && peers.trouble() === undefined,
    storeState: () => peers.state(),
    storeAge: () => peers.age(),
    storeLosses: () => peers.losses(),
  })
  for (const name of sockets.keys()) {
    if (SOCKETS.has(name)) continue
    throw new StartError(
      `systemd hands over a socket named ${name}: let FileDescriptorName= of its unit be http or operator, with one ListenStream= each`,
    )
  }
  makeStateDirectory(config.stateDirectory)
  const security = openSecurity(config.log.security, log)
  opened.push(() => {
    security.close()
  })
  const { store: plain, shared, keyring } = await openState(config, now, opened)
  const store = observeStore(
    plain,
    () => clock.monotonic(),
    ({ verb, took, error = '' }) => {
      metrics.storeAsked(verb, error, took)
    },
  )
  const revocations = createRevocations(clock)

  const pool = createPasswordPool({
    ...config.passwords,
    onNotNiced: (error) => {
      log.warn(
        { err: error },
        'password hashing keeps its full priority: setpriority is not allowed',
      )
    },
  })
  opened.push(() => pool.close())

  const limit = createLogLimit(clock, LOG_LIMIT)
  const securityEvent = (event: SecurityEvent, address: string): void => {
    const user = event.user ?? '-'
    security.write({ event: event.name, message: event.message, address, user }, new Date())
    const { name, message, sid } = event
    if (!limit.allows(name)) return
    log.info({ event: name, user: user.slice(0, 256), address, sid }, message)
  }

  const sessions = createSessions({
    store,
    revocations,
    clock,
    async onEnd({ sid, username, cause }) {
      metrics.sessionsEnded(cause)
      await registry.kickSession(sid, 'session_ended')
      // A logout and a reuse have lines of their own, with the client's address.
      if (cause === 'logout' || cause === 'refresh_reused') return
      securityEvent({ name: 'SESSION_ENDED', message: cause, user: username, sid }, '-')
    },
  })

  const kicker = createKicker(config.subscriptions.kickSocket)
  let nchanAsked = {
    at: -Infinity,
    answer: Promise.resolve<ReadonlyMap<string, number>>(new Map()),
  }
  /** One look a scrape, though four metrics ask. */
  const nchan = () => {
    const at = clock.monotonic()
    if (at - nchanAsked.at >= 1) nchanAsked = { at, answer: kicker.status() }
    return nchanAsked.answer
  }
  const renewFrom = (others: RedisStore) => async (expired: readonly Subscription[]) => {
    // Where it is away they end with the tokens that we know of.
    const asked = within(others.accessOf(expired, now()), RENEW_WITHIN)
    const found = await asked.catch(() => undefined)
    for (const [sid, access] of found ?? []) registry.extend({ sid, ...access }, mayGoOn)
  }
  const registry = createRegistry({
    store,
    kicker,
    clock,
    perSession: () => current.subscriptions.perSession,
    observe({ cause, result, took }) {
      metrics.kicked(cause, result, took)
    },
    ...(shared && { renew: renewFrom(shared) }),
    onFault(error) {
      log.error(
        { err: error },
        'a live subscription could not be ended, or its end not written down: tried again until it is',
      )
    },
  })
  opened.push(() => {
    registry.close()
  })
  // ---- users: where they come from, and what their changes mean for sessions
  const problems = new Map<string, readonly string[]>()
  let endedByChange = 0
  const endAllOf = async (username: string, cause: EndCause): Promise<void> => {
    endedByChange += (await sessions.endAllOf(username, cause)).length
  }
  const users = await openUsers(config, pool, {
    async onChange(source, diff) {
      const gone = diff.flatMap(({ name, change }) => {
        const cause = CAUSES[change]
        return cause ? [{ name, cause }] : []
      })
      // All at once: each waits for its streams to close, and the last of 200 must not wait for the others.
      const ending = Promise.all(gone.map(async ({ name, cause }) => endAllOf(name, cause)))
      review()
      await ending
      // A name that is new here may have been another source's: its sessions were that one's user's.
      if (diff.some(({ change }) => change === 'added')) await endStale()
      problems.delete(source)
      metrics.usersLoaded(source, true, clock.now())
      log.info({ source, changes: diff.length }, 'users were read again')
    },
    onProblem(source, found) {
      if (source === 'http') metrics.faulted('user_source_away')
      else {
        problems.set(source, found)
        metrics.usersLoaded(source, false, clock.now())
      }
      log.error({ source, problems: found }, 'a user source is broken: its last good state stays')
    },
    onWarning(line) {
      log.warn(line)
    },
  })
  /** What changed while the daemon was down: whoever is gone, disabled, or has another password than at login. */
  const endStale = async (): Promise<void> => {
    for (const { username, credential } of await store.listCredentials(clock.now())) {
      const today = users.peek(username)
      if (!today || 'unavailable' in today) continue
      if ('refused' in today) {
        await endAllOf(username, today.refused === 'disabled' ? 'user_disabled' : 'user_removed')
      } else if (today.user.credential !== credential) {
        await endAllOf(username, 'password_changed')
      }
    }
  }
  opened.push(() => {
    users.close()
  })

  for (const source of config.userSources) {
    if (source !== 'http') metrics.usersLoaded(source, true, clock.now())
  }
  // ---- the rules and routes, swapped whole by a reload
  const limitsNow = () => current.throttle
  const ownThrottle = createThrottle(limitsNow, clock)
  const throttle = shared
    ? createSharedThrottle(ownThrottle, shared.throttle, limitsNow)
    : ownThrottle
  const listSessions = (username?: string) => viewSessions(store, registry, clock.now(), username)
  const gateParts = {
    store,
    sessions,
    revocations,
    users,
    throttle,
    metrics,
    registry,
    listSessions,
    obstacle: () => peers.obstacle(),
    streamEnded(kick: string) {
      if (!registry.streamEnded(kick)) peers.streamEnded(kick)
    },
    today: () => gate.guard,
    clock,
  }
  const issuerEvents: IssuerEvents = {
    clock,
    observe(issuer, outcome) {
      metrics.issuerAsked(issuer, 'keys' in outcome ? outcome.keys : undefined, clock.now())
    },
    onProblem(problem) {
      log.error({ problem }, 'a trusted issuer gives no keys: what was known of it stays')
    },
  }
  let issuers = await openIssuers(config.issuers, issuerEvents)
  let gate = createGate(config, keyring, issuers.all, gateParts)
  metrics.keysLoaded(keyring.byKid.size, keyring.signing.created)
  metrics.reloaded(true, clock.now()) // what it starts with is in force
  function mayGoOn(subscription: Subscription): boolean {
    return gate.mayGoOn(subscription)
  }
  /** A right that a reload or a new role took away ends what is live by it. */
  function review(): void {
    registry.review(mayGoOn)
  }
  /** What another process handed out may have lost its right meanwhile, or have more than this config gives. */
  const adopt = (subscriptions: readonly Subscription[]): void => {
    registry.adopt(subscriptions)
    for (const { sid } of subscriptions) {
      if (revocations.has(sid)) void registry.kickSession(sid, 'session_ended')
    }
    review()
  }
  /** What must be known before anything is decided. */
  const learn = async (): Promise<void> => {
    for (const { sid, until } of await store.listEnded(now())) revocations.add(sid, until)
    revocations.moveEpoch(await store.epoch())
    const adopted = await store.listSubscriptions()
    await endStale()
    adopt(adopted)
  }
  peers = shared
    ? createPeers({
        shared,
        revocations,
        registry,
        kick: async (which) => kickLive(registry, which),
        adopt,
        learn,
        staleSeconds: () => current.store.staleSeconds,
        log,
        allows: limit.allows,
        now,
        onStanding,
      })
    : alone(learn)
  opened.push(() => {
    peers.close()
  })
  await peers.join()
  const takeUp = async (next: Config): Promise<Reloaded> => {
    const keys = await loadKeys(config.stateDirectory, { mustExist: true })
    // Before the swap: where the store cannot end what the users file asks for, nothing changes.
    await users.reload()
    if (problems.size > 0) throw new ConfigError([...problems.values()].flat())
    issuers = await openIssuers(next.issuers, issuerEvents, issuers)
    gate = createGate(next, keys, issuers.all, gateParts)
    metrics.keysLoaded(keys.byKid.size, keys.signing.created)
    const ignored = findRestartOnly(config, next)
    current = next
    log.level = next.log.level
    security.reopen(next.log.security)
    review()
    log.info({ ignored }, ignored.length > 0 ? 'reloaded; these wait for a restart' : 'reloaded')
    return { ignored }
  }
  let reloading: Promise<unknown> = Promise.resolve()
  /** One after the other: what was read last is what stays. */
  const reload = (next?: Config): Promise<Reloaded> => {
    const reloaded = reloading.then(async () => {
      let ok = false
      try {
        const taken = await takeUp(next ?? readConfig?.() ?? current)
        ok = true
        return taken
      } finally {
        metrics.reloaded(ok, clock.now())
      }
    })
    reloading = reloaded.catch(() => undefined)
    return reloaded
  }
  const reloadOrSayWhy = async (): Promise<Reloaded | { problems: readonly string[] }> => {
    try {
      return await reload()
    } catch (error) {
      /* c8 ignore next: a fault is the server's to answer */
      if (!(error instanceof ConfigError)) throw error
      log.error({ problems: error.problems }, NOT_RELOADED)
      return { problems: error.problems }
    }
  }

  const findObstacle = async (): Promise<string | undefined> => {
    const trouble = peers.trouble()
    if (trouble !== undefined) return trouble
    try {
      await within(store.ping(), READY_WITHIN)
      ready = true
      return undefined
    } catch (error) {
      ready = false
      return (error as Error).message
    }
  }
  const serverParts = (shape: ServerParts['shape'], router: Router): ServerParts => ({
    router,
    shape,
    maxConnections: config.listen.maxConnections,
    statusOfFault: (error) =>
      error instanceof StoreError || error instanceof IssuerAwayError
        ? { status: 503, retryAfter: 1 }
        : { status: 500 },
    observe({ route, status, reason }) {
      if (route !== 'check') metrics.answered(route, status)
      if (reason === undefined) log.debug({ route, status }, 'answered')
      else if (limit.allows(`${route} ${reason}`)) log.info({ route, status, reason }, 'refused')
    },
    onEvents(events: readonly SecurityEvent[], { address }: Request) {
      for (const event of events) securityEvent(event, address)
    },
    onFault(error, route) {
      const kind = kindOf(error)
      metrics.faulted(kind)
      // While the store is away every check is one.
      if (!limit.allows(kind)) return
      // Of the store the message says all; of anything else the place is needed.
      const what = error instanceof StoreError ? { problem: error.message } : { err: error }
      log.error({ ...what, route }, 'a request could not be decided')
    },
    now,
  })
  const operatorParts = (routes: readonly Route[]): ServerParts =>
    serverParts(operatorShape, createRouter(routes, operatorShape, now))
  const open = async (server: Server, address: Parameters<typeof listen>[1]): Promise<Server> => {
    opened.push(() => drain(server))
    await listen(server, address)
    return server
  }
  const { http, operator, control, socketMode, socketGroup } = config.listen
  const at = (name: string, address: typeof http, mode: number, group: string): ListenAddress => {
    const fd = sockets.get(name)
    /* c8 ignore next: only systemd opens sockets for us, and test/systemd boots one */
    if (fd !== undefined) return { fd }
    return 'path' in address ? { ...address, mode, group } : address
  }

  await open(
    createHttpServer(
      operatorParts(
        createControlRoutes({
          ...createOperations({
            store,
            sessions,
            revocations,
            registry,
            users,
            peers,
            gate: () => gate,
            clock,
          }),
          reload: reloadOrSayWhy,
          reloadUsers,
          listSessions,
          findObstacle,
          now,
        }),
      ),
    ),
    {
      path: control,
      mode: 0o600,
      group: '',
    },
  )
  await open(
    createHttpServer(operatorParts(createOperatorRoutes({ metrics, findObstacle }))),
    at('operator', operator, 0o600, ''),
  )
  await open(
    createHttpServer(serverParts(softphoneShape, (method, path) => gate.router(method, path))),
    at('http', http, socketMode, socketGroup),
  )

  /** A slice at a time, so that a login never waits long behind it. */
  /* c8 ignore start: seconds and half minutes apart; what they call has tests of its own */
  const repeat = (milliseconds: number, job: () => void): void => {
    const timer = setInterval(job, milliseconds)
    timer.unref()
    opened.push(() => {
      clearInterval(timer)
    })
  }
  /** A slice at a time, so that a login never waits long behind it. */
  const prune = async (): Promise<void> => {
    while ((await store.prune(clock.now())) > 0);
  }
  repeat(LOG_LIMIT.window * 1000, () => {
    for (const { kind, count } of limit.takeSuppressed()) {
      log.warn({ kind, count }, 'more lines like these were left out')
    }
  })
  repeat(PRUNE_EVERY, () => {
    revocations.prune()
    void findObstacle()
    prune().catch((error: unknown) => {
      log.warn({ err: error }, 'old sessions could not be pruned')
    })
  })
  /* c8 ignore stop */
  /* c8 ignore next: only systemd opens sockets for us, and test/systemd boots one */
  const where = (name: string, address: typeof http) => (sockets.has(name) ? 'systemd' : address)
  const listeners = { http: where('http', http), operator: where('operator', operator), control }
  log.info({ version, ...listeners }, 'ready')

  async function reloadUsers() {
    endedByChange = 0
    await users.reload()
    // The command that asks has changed the users file: what stands against another source is not its failure.
    const found = problems.get('file')
    return found ? { problems: found } : { ended: endedByChange }
  }

  return {
    reload,
    stop: closeAll,
  }
}
