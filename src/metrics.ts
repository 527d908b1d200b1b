// What an operator can ask of a running daemon, in numbers. Every label comes from a closed list, or from the operator:
// text that a client chose never becomes a series.

import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

export interface MetricSources {
  store: { countSessions(now: number): Promise<number> }
  registry: {
    count(): number
    countByKind(): Readonly<Record<string, number>>
    countUnsure(): number
  }
  workers: { deaths(): number; reloadDue(): boolean }
  /** NaN while nginx cannot be reached to end streams. */
  kickWatch: { channels(): number }
  pool: { queued(): number }
  users: { countBySource(): ReadonlyMap<string, number> }
  peers: { state(): (typeof STORE_STATES)[number]; age(): number; losses(): number }
  cdr: {
    state():
      | { readonly recordings?: number | undefined; readonly problem?: string | undefined }
      | undefined
  }
  /** Lines of the log. */
  lost: { lines: number }
  machineKeys: { uses(): ReadonlyMap<string, number> }
  ready(): boolean
  now(): number
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
counter postern_decisions_total{action,result,reason} Checks that nginx asked for, by action, result (allowed, refused, or exempt from a login) and reason of refusal.
histogram postern_check_duration_seconds Time from a check request to its answer.
counter postern_logins_total{dialect,result} Logins, by dialect and result.
counter postern_refreshes_total{dialect,outcome} Refreshes, by dialect and outcome.
counter postern_tickets_total{result} Tickets asked for, by result.
gauge postern_sessions Live sessions in the store; NaN where the store cannot tell.
counter postern_sessions_ended_total{cause} Sessions that ended before their time, by cause.
gauge postern_streams{kind} Live streams, by kind: cut (ended with its connection), and of those that Nchan ends websocket, shared (all others of a session on one resource), or adopted (opened before the last start).
gauge postern_subscriptions The sum of postern_streams, for one version more.
gauge postern_nchan_channels Nchan's channels, the private ones included; NaN while nginx cannot be reached to end streams.
gauge postern_streams_unsure Streams that were to be ended and may go on, since a worker of nginx died.
counter postern_nginx_worker_deaths_total Workers of nginx that died.
gauge postern_nginx_reload_due Whether a worker of nginx died, or the list of its streams was lost (1), until nginx is reloaded (0).
counter postern_streams_uncuttable_total{why} Streams let in, or refused with streams.end = "cut", that cannot be cut, by why.
counter postern_kicks_total{cause,result,means} Live streams ended, by cause, result and means (kick or cut).
histogram postern_kick_duration_seconds Time from the end of a right to the end of its live stream.
counter postern_http_requests_total{route,status} Requests answered, by route and status, checks left out.
counter postern_faults_total{kind} Requests that could not be decided because of a fault, by kind.
histogram postern_store_duration_seconds{verb} Time that a verb of the store took, waiting for its turn included.
counter postern_store_errors_total{verb,error} Verbs of the store that failed, by kind of error.
gauge postern_store_state{state} Whether the store is in this state (1): ok, away, or lost (it lacks what it had acknowledged).
counter postern_store_losses_total Times that the shared store was found to lack what it had acknowledged.
gauge postern_store_age_seconds Time since every end of a session was known for certain; 0 where no store is shared.
gauge postern_hash_queue Passwords that wait for a hash worker.
gauge postern_users{source} Users of a source that is held in memory, the disabled ones too.
gauge postern_users_load_success{source} Whether the last reading of a user source worked (1) or the last good state is kept (0).
gauge postern_users_held_back{source} Users that a change of the source would remove, held back until it is undone or meant.
gauge postern_cdr_recordings Recordings that the CDR knows; NaN where none is read.
gauge postern_cdr_load_success Whether the last reading of the CDR worked (1) or what it told before is kept (0); NaN where none was tried.
gauge postern_config_last_reload_successful Whether the last reload worked (1) or the old configuration is still in force (0).
gauge postern_keys Keys of ours that verify tokens, retired ones with them.
gauge postern_signing_key_created_timestamp_seconds When the key that signs was made; NaN where the key file does not say.
gauge postern_issuer_keys{issuer} Keys of a trusted issuer that verify its tokens.
counter postern_machine_key_uses_total{key} Times that a machine key was shown and recognised, by its name.
counter postern_log_lines_lost_total Lines of the log and the security log that were dropped because nobody took them.
gauge postern_ready Whether the daemon can decide (1) or not (0), as /readyz says.
gauge postern_build_info{version,node} The running version, always 1.
`

/** What is no reason of a refusal. */
const RESULTS: ReadonlyMap<string, string> = new Map([
  ['', 'allowed'],
  ['exempt', 'exempt'],
])

const BUCKETS = {
  // From what an empty answer takes (50 µs) to what nginx gives up on.
  check: [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1],
  store: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5],
  kick: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
}

/** Read at each scrape, by the name of its row; what cannot be told is NaN. */
const GAUGES: Readonly<Record<string, (sources: MetricSources) => number | Promise<number>>> = {
  sessions: ({ store, now }) => store.countSessions(now()),
  subscriptions: ({ registry }) => registry.count(),
  streams_unsure: ({ registry }) => registry.countUnsure(),
  nginx_reload_due: ({ workers }) => Number(workers.reloadDue()),
  nchan_channels: ({ kickWatch }) => kickWatch.channels(),
  hash_queue: ({ pool }) => pool.queued(),
  ready: ({ ready }) => Number(ready()),
  cdr_recordings: ({ cdr }) => cdr.state()?.recordings ?? Number.NaN,
  cdr_load_success: ({ cdr }) => {
    const { recordings, problem } = cdr.state() ?? {}
    return problem === undefined && recordings === undefined
      ? Number.NaN
      : Number(problem === undefined)
  },
  store_age_seconds: ({ peers }) => peers.age(),
}

/** Counted elsewhere and read at each scrape. */
const TOTALS: Readonly<Record<string, (sources: MetricSources) => number>> = {
  log_lines_lost_total: ({ lost }) => lost.lines,
  nginx_worker_deaths_total: ({ workers }) => workers.deaths(),
  store_losses_total: ({ peers }) => peers.losses(),
}

type ValuesOf<Labels extends readonly string[]> = { [At in keyof Labels]: string | number }

const labelled = (labels: readonly string[], values: readonly unknown[]) =>
  Object.fromEntries(labels.map((label, at) => [label, String(values[at])]))

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
  const counter = (key: string, collect?: (this: Counter) => void) =>
    new Counter({ ...rowOf('counter', key), ...(collect && { collect }) })
  const gauge = (key: string, collect?: (this: Gauge) => void | Promise<void>) =>
    new Gauge({ ...rowOf('gauge', key), ...(collect && { collect }) })
  return {
    counter,
    gauge,
    /** One more, by the values of these labels. */
    counting<const Labels extends readonly string[]>(key: string, ...labels: Labels) {
      const row = counter(key)
      return (...values: ValuesOf<Labels>): void => row.inc(labelled(labels, values))
    },
    /** What it is now, said behind the values of these labels. */
    setting<const Labels extends readonly string[]>(key: string, ...labels: Labels) {
      const row = gauge(key)
      return (...said: [...ValuesOf<Labels>, number | boolean]): void =>
        row.set(labelled(labels, said), Number(said.at(-1)))
    },
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
  gauge('streams', function collect() {
    for (const [kind, count] of Object.entries(sources.registry.countByKind())) {
      this.set({ kind }, count)
    }
  })
  gauge('users', function collect() {
    for (const [source, count] of sources.users.countBySource()) this.set({ source }, count)
  })
  counter('machine_key_uses_total', function collect() {
    this.reset()
    for (const [key, count] of sources.machineKeys.uses()) this.inc({ key }, count)
  })
  gauge('store_state', function collect() {
    for (const state of STORE_STATES) this.set({ state }, Number(state === sources.peers.state()))
  })
}

export const createMetrics = (labels: {
  version: string
  /** Known values of the labels action and reason; others are counted as `unknown`. */
  actions: readonly string[]
  reasons: readonly string[]
}) => {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  for (const name of MISNAMED) registry.removeSingleMetric(name)
  const rows = createRows(registry)
  const { counter, gauge, counting, setting, histogram } = rows

  // Counted in plain integers and published when asked: a labelled inc() costs 0.4 µs, this 0.008 (measured).
  const decisions = new Map<string, Map<string, number>>()
  for (const action of [...labels.actions, 'unknown']) decisions.set(action, new Map())
  const knownReasons = new Set([...RESULTS.keys(), ...labels.reasons])
  counter('decisions_total', function collect() {
    this.reset()
    for (const [action, reasons] of decisions) {
      for (const [reason, count] of reasons) {
        const result = RESULTS.get(reason) ?? 'refused'
        this.inc({ action, result, reason: result === 'refused' ? reason : '' }, count)
      }
    }
  })
  const checkDuration = histogram('check')
  const storeDuration = histogram('store')
  const kickDuration = histogram('kick')
  const storeErrors = counter('store_errors_total')
  const kicks = counter('kicks_total')
  const keys = gauge('keys')
  const keyCreated = gauge('signing_key_created_timestamp_seconds')
  gauge('build_info').set({ version: labels.version, node: process.version }, 1)

  return {
    /** One check; `reason` is empty when it was allowed, and `exempt` where no login was needed. */
    decided(action: string, reason: string, seconds: number): void {
      const reasons = decisions.get(action) ?? decisions.get('unknown')
      const label = knownReasons.has(reason) ? reason : 'unknown'
      reasons?.set(label, (reasons.get(label) ?? 0) + 1)
      checkDuration.observe(seconds)
    },
    loggedIn: counting('logins_total', 'dialect', 'result'),
    refreshed: counting('refreshes_total', 'dialect', 'outcome'),
    sessionsEnded: counting('sessions_ended_total', 'cause'),
    ticketed: counting('tickets_total', 'result'),
    uncuttable: counting('streams_uncuttable_total', 'why'),
    answered: counting('http_requests_total', 'route', 'status'),
    faulted: counting('faults_total', 'kind'),
    reloaded: setting('config_last_reload_successful'),
    usersLoaded: setting('users_load_success', 'source'),
    usersHeldBack: setting('users_held_back', 'source'),
    issuerKeys: setting('issuer_keys', 'issuer'),
    /** One verb of the store. */
    storeAsked({ verb, took, error }: { verb: string; took: number; error?: string }): void {
      storeDuration.observe({ verb }, took)
      if (error !== undefined) storeErrors.inc({ verb, error })
    },
    /** How many keys verify, and when the one that signs was made, where that is known. */
    keysLoaded(count: number, created: number | undefined): void {
      keys.set(count)
      keyCreated.set(created ?? Number.NaN)
    },
    /** `took`: seconds from the end of the right to the end of the stream. */
    kicked(kick: { cause: string; result: string; means: string; took: number }): void {
      const { cause, result, means, took } = kick
      kicks.inc({ cause, result, means })
      if (result === 'ended') kickDuration.observe(took)
    },
    /** What is read at each scrape; said once, when it is there. */
    watch(sources: MetricSources): void {
      watchSources(rows, sources)
    },
    /** The text of /metrics. */
    expose: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

export type Metrics = ReturnType<typeof createMetrics>
