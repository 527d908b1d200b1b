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
  /** What Nchan counts of itself; nothing while nginx cannot be reached to end streams. */
  nchan(): ReadonlyMap<string, number>
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

// These say how many handles there are and are gauges with a counter's name: promtool refuses the page.
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]

/** One a line: type, name, labels, help. Everything that is ours on the page stands here. */
const TABLE = `
counter postern_decisions_total{action,result,reason} Checks that nginx asked for, by action, result and reason of refusal.
histogram postern_check_duration_seconds Time from a check request to its answer.
counter postern_logins_total{dialect,result} Logins, by dialect and result.
counter postern_refreshes_total{dialect,outcome} Refreshes, by dialect and outcome.
counter postern_tickets_total{result} Tickets asked for, by result.
gauge postern_sessions Live sessions in the store; NaN where the store cannot tell.
counter postern_sessions_ended_total{cause} Sessions that ended before their time, by cause.
gauge postern_revocations Ended sessions held in memory because tokens of theirs could be alive.
gauge postern_subscriptions Live subscriptions, one a session and resource.
gauge postern_nchan_channels Nchan's channels, the private ones included; NaN while nginx cannot be reached to end streams.
gauge postern_nchan_subscribers Nchan's subscribers; NaN while nginx cannot be reached to end streams.
gauge postern_nchan_stored_messages Messages that Nchan keeps; NaN while nginx cannot be reached to end streams.
gauge postern_nchan_shared_memory_bytes Memory of Nchan's zone in use; NaN while nginx cannot be reached to end streams.
counter postern_kicks_total{cause,result} Live subscriptions ended, by cause and result.
histogram postern_kick_duration_seconds Time from the end of a right to the end of its live subscription.
counter postern_http_requests_total{route,status} Requests answered, by route and status, checks left out.
counter postern_faults_total{kind} Requests that could not be decided because of a fault, by kind.
histogram postern_store_duration_seconds{verb} Time that a verb of the store took, waiting for its turn included.
counter postern_store_errors_total{verb,error} Verbs of the store that failed, by kind of error.
gauge postern_store_state{state} Whether the store is in this state (1): ok, away, or lost (it lacks what it had acknowledged).
counter postern_store_losses_total Times that the shared store was found to lack what it had acknowledged.
gauge postern_store_age_seconds Time since every end of a session was known for certain; 0 where no store is shared.
gauge postern_hash_queue Passwords that wait for a hash worker.
gauge postern_users_load_success{source} Whether the last reading of a user source worked (1) or the last good state is kept (0).
gauge postern_users_load_timestamp_seconds{source} When a user source was last read with success.
gauge postern_config_last_reload_successful Whether the last reload worked (1) or the old configuration is still in force (0).
gauge postern_config_last_reload_success_timestamp_seconds When the configuration in force was loaded.
gauge postern_keys Keys of ours that verify tokens, retired ones with them.
gauge postern_signing_key_created_timestamp_seconds When the key that signs was made; NaN where the key file does not say.
counter postern_issuer_fetches_total{issuer,result} Times that a trusted issuer was asked for its keys, by result.
gauge postern_issuer_keys{issuer} Keys of a trusted issuer that verify its tokens.
gauge postern_issuer_keys_timestamp_seconds{issuer} When a trusted issuer last gave its keys.
counter postern_log_lines_lost_total Lines of the log that were dropped because nobody took them.
gauge postern_ready Whether the daemon can decide (1) or not (0), as /readyz says.
gauge postern_build_info{version,node} The running version, always 1.
`

const BUCKETS = {
  // From what an empty answer takes (50 µs) to what nginx gives up on.
  check: [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1],
  store: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  kick: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
}

/** Read at each scrape, by the name of its row; what cannot be told is NaN. */
const GAUGES: Readonly<Record<string, (sources: MetricSources) => number | Promise<number>>> = {
  sessions: ({ sessions }) => sessions(),
  revocations: ({ revocations }) => revocations(),
  subscriptions: ({ subscriptions }) => subscriptions(),
  hash_queue: ({ hashQueue }) => hashQueue(),
  ready: ({ ready }) => Number(ready()),
  store_age_seconds: ({ storeAge }) => storeAge(),
}

/** Counted elsewhere and read at each scrape. */
const TOTALS: Readonly<Record<string, (sources: MetricSources) => number>> = {
  log_lines_lost_total: ({ logLinesLost }) => logLinesLost(),
  store_losses_total: ({ storeLosses }) => storeLosses(),
}

/** By Nchan's own words. */
const NCHAN: Readonly<Record<string, string>> = {
  nchan_channels: 'channels',
  nchan_subscribers: 'subscribers',
  nchan_stored_messages: 'stored messages',
  nchan_shared_memory_bytes: 'shared memory used',
}

const createRows = (registry: Registry) => {
  const rows = new Map(
    Array.from(
      TABLE.matchAll(/^(\w+) (postern_(\w+))(?:\{([\w,]+)\})? (.+)$/gm),
      ([, type, name = '', key = '', labels, help = '']) => [
        `${type} ${key}`,
        { name, help, labelNames: labels?.split(',') ?? [], registers: [registry] },
      ],
    ),
  )
  const rowOf = (type: string, key: string) => {
    const row = rows.get(`${type} ${key}`)
    /* c8 ignore next: every row is asked for at start */
    if (!row) throw new Error(`the table has no ${type} postern_${key}`)
    return row
  }
  return {
    counter: (key: string, collect?: (this: Counter) => void) =>
      new Counter({ ...rowOf('counter', key), ...(collect && { collect }) }),
    gauge: (key: string, collect?: (this: Gauge) => void | Promise<void>) =>
      new Gauge({ ...rowOf('gauge', key), ...(collect && { collect }) }),
    histogram: (key: keyof typeof BUCKETS) =>
      new Histogram({
        ...rowOf('histogram', `${key}_duration_seconds`),
        buckets: BUCKETS[key],
      }),
  }
}

/** What is somebody else's to know, asked for at each scrape. */
const watchSources = (
  { gauge, counter }: ReturnType<typeof createRows>,
  sources: MetricSources,
): void => {
  for (const [key, read] of Object.entries(GAUGES)) {
    gauge(key, async function collect() {
      this.set(await Promise.resolve(read(sources)).catch(() => Number.NaN))
    })
  }
  for (const [key, read] of Object.entries(TOTALS)) {
    counter(key, function collect() {
      this.reset()
      this.inc(read(sources))
    })
  }
  for (const [key, word] of Object.entries(NCHAN)) {
    gauge(key, function collect() {
      this.set(sources.nchan().get(word) ?? Number.NaN)
    })
  }
  gauge('store_state', function collect() {
    for (const state of STORE_STATES) this.set({ state }, Number(state === sources.storeState()))
  })
}

export const createMetrics = (labels: MetricLabels): Metrics => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  const rows = createRows(registry)
  const { counter, gauge, histogram } = rows

  // Counted in plain integers and published when asked: a labelled inc() costs 0.4 µs, this 0.008 (measured).
  const decisions = new Map<string, Map<string, number>>()
  for (const action of [...labels.actions, 'unknown']) decisions.set(action, new Map())
  const knownReasons = new Set(['', ...labels.reasons])
  counter('decisions_total', function collect() {
    this.reset()
    for (const [action, reasons] of decisions) {
      for (const [reason, count] of reasons) {
        this.inc({ action, result: reason === '' ? 'allowed' : 'refused', reason }, count)
      }
    }
  })
  const checkDuration = histogram('check')
  const storeDuration = histogram('store')
  const kickDuration = histogram('kick')
  const logins = counter('logins_total')
  const refreshes = counter('refreshes_total')
  const tickets = counter('tickets_total')
  const sessionsEnded = counter('sessions_ended_total')
  const storeErrors = counter('store_errors_total')
  const kicks = counter('kicks_total')
  const requests = counter('http_requests_total')
  const faults = counter('faults_total')
  const issuerFetches = counter('issuer_fetches_total')
  const reloadOk = gauge('config_last_reload_successful')
  const reloadAt = gauge('config_last_reload_success_timestamp_seconds')
  const usersOk = gauge('users_load_success')
  const usersAt = gauge('users_load_timestamp_seconds')
  const keys = gauge('keys')
  const keyCreated = gauge('signing_key_created_timestamp_seconds')
  const issuerKeys = gauge('issuer_keys')
  const issuerAt = gauge('issuer_keys_timestamp_seconds')
  gauge('build_info').set({ version: labels.version, node: process.version }, 1)

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
      watchSources(rows, sources)
    },
    expose: () => registry.metrics(),
    contentType: registry.contentType,
  }
}
