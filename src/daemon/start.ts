// Order and life: every part is built from a Config, by hand and in order, and closed in reverse. The only room that
// knows which adapter is used; nothing here decides anything.

import { REASONS } from '../auth/decision.ts'
import { ACTIONS } from '../auth/grants.ts'
import { createRevocations } from '../auth/revocations.ts'
import { createSessions } from '../auth/sessions.ts'
import { createSights } from '../auth/sights.ts'
import type { Time } from '../clock.ts'
import type { Config } from '../config/config.ts'
import { ListenError } from '../http/listen.ts'
import { createLogLimit } from '../log-limit.ts'
import type { Log } from '../log.ts'
import { createMetrics } from '../metrics.ts'
import { createPasswordPool } from '../passwords/pool.ts'
import { observeStore } from '../store/observed.ts'
import { StoreError } from '../store/store.ts'
import { version } from '../version.ts'
import { followUsers } from './follow-users.ts'
import { createTermsInForce, openInForce } from './in-force.ts'
import { createLearner } from './learn.ts'
import { openListeners, refuseUnknownSockets } from './listeners.ts'
import { openMachineKeys } from './machine-key-operations.ts'
import { createObserver } from './observe.ts'
import { keepCdr } from './open-calls.ts'
import { makeStateDirectory, openSecurity, openState, StartError } from './open-state.ts'
import { openStreams } from './open-streams.ts'
import { openUsers } from './open-users.ts'
import { createOperations } from './operations.ts'
import { createReadiness } from './readiness.ts'
import { createSessionView } from './session-view.ts'
import { createSharing } from './sharing.ts'
import { startUpkeep } from './upkeep.ts'

export interface DaemonParts {
  log: Log
  clock: Time
  /** Listening sockets that systemd has opened, by name. */
  sockets?: ReadonlyMap<string, number>
  /** Lines of the log that nobody took. */
  lost?: { lines: number }
  /** One line for `systemctl status`, whenever it changes. */
  onStanding?: (line: string) => void
  /** The embedded store is gone for good: end the process, and let it be started again. */
  onStoreDeath?: (error: Error) => void
  /** The config file as it is now, for a reload; without this, a reload takes the running config again. */
  readConfig?: () => Config
}

const ISSUERS_EVERY = 2 // seconds: as long as the keys in a file are believed; each source has its own terms
const LOG_LIMIT = { most: 20, window: 10 } // lines of one kind in so many seconds
// Of an address, for one reason: a jail's maxretry (5 as shipped) must be reached by what stands.
const SECURITY_LIMIT = { most: 20, window: 60 }

const build = async (config: Config, parts: DaemonParts) => {
  const { log, clock, sockets = new Map(), lost = { lines: 0 }, onStanding = () => {} } = parts
  await using opened = new AsyncDisposableStack()
  const now = (): number => clock.now()

  refuseUnknownSockets(sockets)
  makeStateDirectory(config.state.directory)
  const limit = createLogLimit(clock, LOG_LIMIT)
  const security = openSecurity(config.log.security, { log, lost, limit })
  opened.defer(() => security.close())
  const metrics = createMetrics({ version, actions: ACTIONS, reasons: REASONS })
  const addressLimit = createLogLimit(clock, SECURITY_LIMIT)
  const observer = createObserver({ metrics, log, security, limit, addressLimit, clock })

  const { store: plain, shared, keyring } = await openState(config, now, opened, parts.onStoreDeath)
  const store = observeStore(plain, () => clock.monotonic(), metrics.storeAsked)
  const revocations = createRevocations()
  const { memoryKib: memory, ...hashing } = config.passwords
  const pool = createPasswordPool({ ...hashing, memory, onNotNiced: observer.hashingNotNiced })
  opened.defer(() => pool.close())
  const users = await openUsers(config, pool, (line) => log.warn(line), clock.every)
  opened.defer(() => users.close())
  observer.usersLoaded(config.users.sources)

  const keysOf = { store, isShared: shared !== undefined, clock, registry: () => registry }
  const machineKeys = openMachineKeys(keysOf)
  opened.defer(() => machineKeys.close())
  const cdr = keepCdr(observer.cdr, clock)
  opened.defer(() => cdr.close())
  const terms = createTermsInForce(config, keyring, users.peek, machineKeys, cdr.open)
  const sharing = createSharing(shared, { clock, terms })
  // Instances on one store beside one nginx end each other's streams; one with a store of its own is alone.
  const of = shared
    ? `${shared.label} ${config.store.prefix} ${config.streams.kickSocket}`
    : config.state.directory
  const streams = { of, revocations, terms, renew: sharing.renew, observer, metrics, clock }
  const { registry, kickWatch, keeps, means, workers, cutter, ...list } = await openStreams(
    streams,
    opened,
  )
  const sessions = createSessions({
    store,
    revocations,
    clock,
    async onEnd(ended) {
      observer.sessionEnded(ended)
      await registry.kickSession(ended.sid, 'session_ended')
    },
    async onOwed(sid) {
      if (sid === undefined) {
        registry.review((stream) => !sessions.owes(stream), 'session_ended')
      } else if (registry.ofSession(sid).every(sessions.owes)) {
        await registry.kickSession(sid, 'session_ended')
      }
    },
  })
  opened.defer(async () => observer.endsLost(await sessions.close()))
  const sights = createSights({ store, clock })
  opened.defer(() => sights.close())
  const listSessions = createSessionView({ store, registry, now })
  const services = { store, revocations, registry, sessions, sights, users, machineKeys }
  const core = { ...services, metrics, log, clock, now }
  const follower = followUsers({ ...core, observer, sources: config.users.sources })
  opened.defer(() => follower.close())
  const learner = createLearner({ ...core, ...list, workers, follower, terms, observer })
  const peers = sharing.openPeers({ ...core, ...list, learner, onStanding, allows: limit.allows })
  opened.defer(() => peers.close())
  const { obstacle, keyObstacle, streamEnded } = peers
  const { resourceNamed, namesInHeader, countUncuttable: uncuttable, fronts } = observer
  const asked = { listSessions, streamEnded, obstacle, keyObstacle, resourceNamed }
  const inForce = await openInForce({
    ...core,
    terms,
    keyring,
    follower,
    observer,
    security,
    gateParts: { ...core, ...asked, kickWatch, keeps, means, ...sharing },
    readConfig: parts.readConfig,
  })
  const { findObstacle, ready } = createReadiness(store, peers, clock)
  metrics.watch({ ...core, kickWatch, workers, pool, peers, cdr, lost, ready })
  await peers.join()
  await sharing.learnOwners(store)

  const told = { listSessions, namesInHeader, uncuttable, fronts }
  const operations = createOperations({
    ...core,
    ...told,
    observer,
    workers,
    cutter,
    follower,
    peers,
    cdr,
    inForce,
  })
  const doors = { ...core, sockets, observer, inForce, operations, findObstacle }
  const listeners = await openListeners(config.listen, doors, opened)
  const windows = { limitWindow: LOG_LIMIT.window, securityWindow: SECURITY_LIMIT.window }
  const idleTtl = (): number => terms.now().config.refresh.idleTtl
  opened.defer(clock.every(ISSUERS_EVERY, inForce.lookAtIssuers))
  opened.defer(startUpkeep({ ...core, limit, ...windows, observer, findObstacle, idleTtl }))
  log.info({ version, ...listeners }, 'ready')

  const running = opened.move()
  let stopped: Promise<void> | undefined
  /** Stops accepting, finishes what is under way, flushes and closes everything. */
  const stop = (): Promise<void> => (stopped ??= running.disposeAsync())
  return { reload: inForce.reload, stop }
}

export type Daemon = Awaited<ReturnType<typeof build>>

/** Resolves when every listener accepts. Throws a ConfigError or a StartError; nothing is left open then. */
export const startDaemon = async (config: Config, parts: DaemonParts): Promise<Daemon> => {
  try {
    return await build(config, parts)
  } catch (error) {
    if (error instanceof StoreError || error instanceof ListenError) {
      throw new StartError(error.message, { cause: error })
    }
    throw error
  }
}
