// What an operator can ask of a running daemon, in numbers. Every label comes from a closed list: text that a
// client chose never becomes a series.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

export interface Metrics {
  /** One check; `reason` is empty when it was allowed. */
  decided(action: string, reason: string, seconds: number): void
  loggedIn(dialect: string, result: string): void
  refreshed(dialect: string, outcome: string): void
  sessionsEnded(cause: string): void
  ticketed(result: string): void
  /** One verb of the store; `error` is empty when it worked. */
  storeAsked(verb: string, error: string, seconds: number): void
  reloaded(ok: boolean, now: number): void
  /** How many keys verify, and when the one that signs was made, where that is known. */
  keysLoaded(count: number, created: number | undefined): void
  /** A trusted issuer was asked for its keys; `keys`: how many it gave, undefined where none were to be had. */
  issuerAsked(issuer: string, keys: number | undefined, now: number): void
  /** `seconds` from the end of the right to the end of the stream. */
  kicked(cause: string, result: string, seconds: number): void
  answered(route: string, status: number): void
  faulted(kind: string): void
  usersLoaded(source: string, ok: boolean, now: number): void
  /** What is read at each scrape; said once, when it is there. */
  watch(sources: MetricSources): void
  /** The text of /metrics. */
  expose(): Promise<string>
  readonly contentType: string
}

export interface MetricLabels {
  version: string
  /** Known values of the labels action and reason; others are counted as `unknown`. */
  actions: readonly string[]
  reasons: readonly string[]
}

export interface MetricSources {
  sessions(): Promise<number>
  revocations(): number
  subscriptions(): number
  /** What Nchan counts of itself; rejects where nginx is away. */
  nchan(): Promise<ReadonlyMap<string, number>>
  /** So far. */
  logLinesLost(): number
  hashQueue(): number
  ready(): boolean
  storeState(): (typeof STORE_STATES)[number]
  /** Seconds. */
  storeAge(): number
  /** So far. */
  storeLosses(): number
}

const STORE_STATES = ['ok', 'away', 'lost'] as const

// From what an empty answer takes (50 µs) to what nginx gives up on.
const CHECK_BUCKETS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1]
const STORE_BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5]
const KICK_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
// These say how many handles there are and are gauges with a counter's name: promtool refuses the page.
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

/** The gauges and counters whose value is somebody else's: asked for at each scrape. */
const watchSources = (registry: Registry, sources: MetricSources): void => {
  const gauge = (name: string, help: string, read: () => number | Promise<number>): void => {
    registry.registerMetric(
      new Gauge({
        name,
        help,
        registers: [],
        async collect() {
          this.set(await read())
        },
      }),
    )
  }
  gauge('postern_sessions', 'Live sessions in the store; NaN where the store cannot tell.', () =>
    sources.sessions().catch(() => Number.NaN),
  )
  gauge(
    'postern_revocations',
    'Ended sessions held in memory because tokens of theirs could be alive.',
    sources.revocations,
  )
  gauge('postern_subscriptions', 'Live subscriptions, one a session and resource.', () =>
    sources.subscriptions(),
  )
  let asked: ReturnType<MetricSources['nchan']> | undefined
  /** One look a scrape, though four metrics ask. */
  const askNchan = (): ReturnType<MetricSources['nchan']> => {
    asked ??= sources.nchan().finally(() => {
      asked = undefined
    })
    return asked
  }
  const nchan = (name: string, help: string, word: string): void => {
    gauge(name, `${help}; NaN while nginx is away.`, () =>
      askNchan().then(
        (counts) => counts.get(word) ?? Number.NaN,
        () => Number.NaN,
      ),
    )
  }
  nchan('postern_nchan_channels', "Nchan's channels, the private ones included", 'channels')
  nchan('postern_nchan_subscribers', "Nchan's subscribers", 'subscribers')
  nchan('postern_nchan_stored_messages', 'Messages that Nchan keeps', 'stored messages')
  nchan('postern_nchan_shared_memory_bytes', "Memory of Nchan's zone in use", 'shared memory used')
  gauge('postern_hash_queue', 'Passwords that wait for a hash worker.', sources.hashQueue)
  gauge('postern_ready', 'Whether the daemon can decide (1) or not (0), as /readyz says.', () =>
    sources.ready() ? 1 : 0,
  )
  registry.registerMetric(
    new Gauge({
      name: 'postern_store_state',
      help: 'Whether the store is in this state (1): ok, away, or lost (it lacks what it had acknowledged).',
      labelNames: ['state'],
      registers: [],
      collect() {
        for (const state of STORE_STATES)
          this.set({ state }, state === sources.storeState() ? 1 : 0)
      },
    }),
  )
  registry.registerMetric(
    new Counter({
      name: 'postern_store_losses_total',
      help: 'Times that the shared store was found to lack what it had acknowledged.',
      registers: [],
      collect() {
        this.reset()
        this.inc(sources.storeLosses())
      },
    }),
  )
  gauge(
    'postern_store_age_seconds',
    'Time since every end of a session was known for certain; 0 where no store is shared.',
    sources.storeAge,
  )
  registry.registerMetric(
    new Counter({
      name: 'postern_log_lines_lost_total',
      help: 'Lines of the log that were dropped because nobody took them.',
      registers: [],
      collect() {
        this.reset()
        this.inc(sources.logLinesLost())
      },
    }),
  )
}

export const createMetrics = (labels: MetricLabels): Metrics => {
  const registry = new Registry()
  const registers = [registry]
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)

  // Counted in plain integers and published when asked: a labelled inc() costs 0.4 µs, this 0.008 (measured).
  const decisions = new Map<string, Map<string, number>>()
  for (const action of [...labels.actions, 'unknown']) decisions.set(action, new Map())
  const knownReasons = new Set(['', ...labels.reasons])
  registry.registerMetric(
    new Counter({
      name: 'postern_decisions_total',
      help: 'Checks that nginx asked for, by action, result and reason of refusal.',
      labelNames: ['action', 'result', 'reason'],
      registers: [],
      collect() {
        this.reset()
        for (const [action, reasons] of decisions) {
          for (const [reason, count] of reasons) {
            this.inc({ action, result: reason === '' ? 'allowed' : 'refused', reason }, count)
          }
        }
      },
    }),
  )
  const checkDuration = new Histogram({
    name: 'postern_check_duration_seconds',
    help: 'Time from a check request to its answer.',
    buckets: CHECK_BUCKETS,
    registers,
  })
  const logins = new Counter({
    name: 'postern_logins_total',
    help: 'Logins, by dialect and result.',
    labelNames: ['dialect', 'result'],
    registers,
  })
  const refreshes = new Counter({
    name: 'postern_refreshes_total',
    help: 'Refreshes, by dialect and outcome.',
    labelNames: ['dialect', 'outcome'],
    registers,
  })
  const sessionsEnded = new Counter({
    name: 'postern_sessions_ended_total',
    help: 'Sessions that ended before their time, by cause.',
    labelNames: ['cause'],
    registers,
  })
  const storeDuration = new Histogram({
    name: 'postern_store_duration_seconds',
    help: 'Time that a verb of the store took, waiting for its turn included.',
    labelNames: ['verb'],
    buckets: STORE_BUCKETS,
    registers,
  })
  const storeErrors = new Counter({
    name: 'postern_store_errors_total',
    help: 'Verbs of the store that failed, by kind of error.',
    labelNames: ['verb', 'error'],
    registers,
  })
  const reloadOk = new Gauge({
    name: 'postern_config_last_reload_successful',
    help: 'Whether the last reload worked (1) or the old configuration is still in force (0).',
    registers,
  })
  const reloadAt = new Gauge({
    name: 'postern_config_last_reload_success_timestamp_seconds',
    help: 'When the configuration in force was loaded.',
    registers,
  })
  const tickets = new Counter({
    name: 'postern_tickets_total',
    help: 'Tickets asked for, by result.',
    labelNames: ['result'],
    registers,
  })
  const kicks = new Counter({
    name: 'postern_kicks_total',
    help: 'Live subscriptions ended, by cause and result.',
    labelNames: ['cause', 'result'],
    registers,
  })
  const kickDuration = new Histogram({
    name: 'postern_kick_duration_seconds',
    help: 'Time from the end of a right to the end of its live subscription.',
    buckets: KICK_BUCKETS,
    registers,
  })
  const requests = new Counter({
    name: 'postern_http_requests_total',
    help: 'Requests answered, by route and status, checks left out.',
    labelNames: ['route', 'status'],
    registers,
  })
  const faults = new Counter({
    name: 'postern_faults_total',
    help: 'Requests that could not be decided because of a fault, by kind.',
    labelNames: ['kind'],
    registers,
  })
  const usersOk = new Gauge({
    name: 'postern_users_load_success',
    help: 'Whether the last reading of a user source worked (1) or the last good state is kept (0).',
    labelNames: ['source'],
    registers,
  })
  const usersAt = new Gauge({
    name: 'postern_users_load_timestamp_seconds',
    help: 'When a user source was last read with success.',
    labelNames: ['source'],
    registers,
  })
  const keys = new Gauge({
    name: 'postern_keys',
    help: 'Keys of ours that verify tokens, retired ones with them.',
    registers,
  })
  const keyCreated = new Gauge({
    name: 'postern_signing_key_created_timestamp_seconds',
    help: 'When the key that signs was made; NaN where the key file does not say.',
    registers,
  })
  const issuerFetches = new Counter({
    name: 'postern_issuer_fetches_total',
    help: 'Times that a trusted issuer was asked for its keys, by result.',
    labelNames: ['issuer', 'result'],
    registers,
  })
  const issuerKeys = new Gauge({
    name: 'postern_issuer_keys',
    help: 'Keys of a trusted issuer that verify its tokens.',
    labelNames: ['issuer'],
    registers,
  })
  const issuerAt = new Gauge({
    name: 'postern_issuer_keys_timestamp_seconds',
    help: 'When a trusted issuer last gave its keys.',
    labelNames: ['issuer'],
    registers,
  })
  new Gauge({
    name: 'postern_build_info',
    help: 'The running version, always 1.',
    labelNames: ['version', 'node'],
    registers,
  }).set({ version: labels.version, node: process.version }, 1)

  return {
    decided(action, reason, seconds) {
      const reasons = decisions.get(action) ?? decisions.get('unknown')
      const label = knownReasons.has(reason) ? reason : 'unknown'
      reasons?.set(label, (reasons.get(label) ?? 0) + 1)
      checkDuration.observe(seconds)
    },
    loggedIn: (dialect, result) => {
      logins.inc({ dialect, result })
    },
    refreshed: (dialect, outcome) => {
      refreshes.inc({ dialect, outcome })
    },
    sessionsEnded: (cause) => {
      sessionsEnded.inc({ cause })
    },
    storeAsked: (verb, error, seconds) => {
      storeDuration.observe({ verb }, seconds)
      if (error !== '') storeErrors.inc({ verb, error })
    },
    keysLoaded: (count, created) => {
      keys.set(count)
      keyCreated.set(created ?? Number.NaN)
    },
    issuerAsked: (issuer, found, now) => {
      issuerFetches.inc({ issuer, result: found === undefined ? 'failed' : 'ok' })
      if (found === undefined) return
      issuerKeys.set({ issuer }, found)
      issuerAt.set({ issuer }, now)
    },
    reloaded: (ok, now) => {
      reloadOk.set(ok ? 1 : 0)
      if (ok) reloadAt.set(now)
    },
    ticketed: (result) => {
      tickets.inc({ result })
    },
    kicked: (cause, result, seconds) => {
      kicks.inc({ cause, result })
      if (result === 'ended') kickDuration.observe(seconds)
    },
    answered: (route, status) => {
      requests.inc({ route, status })
    },
    faulted: (kind) => {
      faults.inc({ kind })
    },
    usersLoaded: (source, ok, now) => {
      usersOk.set({ source }, ok ? 1 : 0)
      if (ok) usersAt.set({ source }, now)
    },
    watch: (sources) => {
      watchSources(registry, sources)
    },
    expose: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
