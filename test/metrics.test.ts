// The page that Prometheus reads: exactly these names and labels, and no more of them whatever clients send.

import { spawnSync } from 'node:child_process'
import t from 'tap'
import { REASONS } from '../src/auth/decision.ts'
import { ACTIONS } from '../src/auth/grants.ts'
import { createMetrics, type MetricSources } from '../src/metrics.ts'
import { NOW } from './fixtures/clock.ts'

const LABELS = { version: '1.2.3', actions: ACTIONS, reasons: REASONS }
const SOURCES: MetricSources = {
  store: { countSessions: () => Promise.resolve(12) },
  pool: { queued: () => 2 },
  users: { countBySource: () => new Map([['asterisk', 0]]) },
  registry: {
    count: () => 4,
    countByKind: () => ({ websocket: 1, shared: 3 }),
    countUnsure: () => 7,
  },
  workers: { deaths: () => 8, reloadDue: () => true },
  cdr: { state: () => ({ recordings: 9, problem: undefined }) },
  lost: { lines: 5 },
  kickWatch: { channels: () => 6 },
  machineKeys: { uses: () => new Map([['wallboard', 9]]) },
  ready: () => true,
  peers: { state: () => 'ok', age: () => 0, losses: () => 0 },
  now: () => NOW,
}

const createFull = (changes: Partial<MetricSources> = {}) => {
  const metrics = createMetrics(LABELS)
  metrics.watch({ ...SOURCES, ...changes })
  metrics.decided('read', '', 0.25)
  metrics.decided('subscribe', 'expired', 0.5)
  metrics.loggedIn('softphone', 'succeeded')
  metrics.refreshed('softphone', 'renewed')
  metrics.sessionsEnded('logout')
  metrics.answered('login', 200)
  metrics.faulted('internal')
  metrics.usersLoaded('file', true)
  metrics.usersHeldBack('file', 7)
  metrics.ticketed('issued')
  metrics.storeAsked({ verb: 'rotate', took: 0.25 })
  metrics.storeAsked({ verb: 'ping', took: 0.5, error: 'unavailable' })
  metrics.keysLoaded(2, NOW - 60)
  metrics.issuerKeys('acme', 3)
  metrics.reloaded(true)
  metrics.reloaded(false)
  metrics.uncuttable('shared')
  metrics.kicked({ cause: 'logout', result: 'ended', means: 'cut', took: 0.25 })
  metrics.kicked({ cause: 'logout', result: 'failed', means: 'kick', took: 0.5 })
  return metrics
}

const seriesOf = (page: string): string[] => page.split('\n').filter((line) => /^[a-z]/.test(line))

const oursOf = (page: string): string[] =>
  seriesOf(page).filter((line) => line.startsWith('postern_'))

/** `type name{labels}` of every metric of ours, and `type name` of every other. */
const namesOf = (page: string): string[] => {
  const series = seriesOf(page)
  return Array.from(page.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name = '', type = '']) => {
    if (!name.startsWith('postern_')) return `${type} ${name}`
    const found = series.find((line) => /^[a-z_]+/.exec(line)?.[0].replace(/_bucket$/, '') === name)
    const labels = Array.from(found?.matchAll(/(\w+)="/g) ?? [], (match) => match[1])
    return `${type} ${name}{${labels.join()}}`
  })
}

const GOLDEN = [
  'counter postern_decisions_total{action,result,reason}',
  'histogram postern_check_duration_seconds{le}',
  'counter postern_logins_total{dialect,result}',
  'counter postern_refreshes_total{dialect,outcome}',
  'counter postern_sessions_ended_total{cause}',
  'counter postern_http_requests_total{route,status}',
  'counter postern_faults_total{kind}',
  'gauge postern_users{source}',
  'gauge postern_users_load_success{source}',
  'gauge postern_users_held_back{source}',
  'gauge postern_cdr_recordings{}',
  'gauge postern_cdr_load_success{}',
  'gauge postern_nchan_channels{}',
  'gauge postern_streams_unsure{}',
  'counter postern_nginx_worker_deaths_total{}',
  'gauge postern_nginx_reload_due{}',
  'counter postern_log_lines_lost_total{}',
  'counter postern_machine_key_uses_total{key}',
  'histogram postern_store_duration_seconds{le,verb}',
  'counter postern_store_errors_total{verb,error}',
  'gauge postern_config_last_reload_successful{}',
  'gauge postern_keys{}',
  'gauge postern_signing_key_created_timestamp_seconds{}',
  'gauge postern_issuer_keys{issuer}',
  'counter postern_tickets_total{result}',
  'counter postern_kicks_total{cause,result,means}',
  'counter postern_streams_uncuttable_total{why}',
  'histogram postern_kick_duration_seconds{le}',
  'gauge postern_streams{kind}',
  'gauge postern_subscriptions{}',
  'gauge postern_sessions{}',
  'gauge postern_hash_queue{}',
  'gauge postern_ready{}',
  'gauge postern_store_state{state}',
  'gauge postern_store_age_seconds{}',
  'counter postern_store_losses_total{}',
  'gauge postern_build_info{version,node}',
  'counter process_cpu_user_seconds_total',
  'counter process_cpu_system_seconds_total',
  'counter process_cpu_seconds_total',
  'gauge process_start_time_seconds',
  'gauge process_resident_memory_bytes',
  'gauge process_virtual_memory_bytes',
  'gauge process_heap_bytes',
  'gauge process_open_fds',
  'gauge process_max_fds',
  'gauge nodejs_eventloop_lag_seconds',
  'gauge nodejs_eventloop_lag_min_seconds',
  'gauge nodejs_eventloop_lag_max_seconds',
  'gauge nodejs_eventloop_lag_mean_seconds',
  'gauge nodejs_eventloop_lag_stddev_seconds',
  'gauge nodejs_eventloop_lag_p50_seconds',
  'gauge nodejs_eventloop_lag_p90_seconds',
  'gauge nodejs_eventloop_lag_p99_seconds',
  'gauge nodejs_active_resources',
  'gauge nodejs_active_handles',
  'gauge nodejs_active_requests',
  'gauge nodejs_heap_size_total_bytes',
  'gauge nodejs_heap_size_used_bytes',
  'gauge nodejs_external_memory_bytes',
  'gauge nodejs_heap_space_size_total_bytes',
  'gauge nodejs_heap_space_size_used_bytes',
  'gauge nodejs_heap_space_size_available_bytes',
  'gauge nodejs_version_info',
  'histogram nodejs_gc_duration_seconds',
]

void t.test('the page has exactly these names and labels', async (t) => {
  const page = await createFull().expose()
  t.same(namesOf(page).toSorted(), GOLDEN.toSorted())
})

void t.test('the page says what happened', async (t) => {
  const metrics = createFull()
  metrics.decided('read', '', 0.25)
  metrics.decided('read', 'no_grant', 0.25)
  metrics.decided('subscribe', 'exempt', 0.25)
  t.same(
    oursOf(await metrics.expose())
      .filter((line) => !line.includes('_bucket'))
      .toSorted(),
    [
      'postern_decisions_total{action="read",result="allowed",reason=""} 2',
      'postern_decisions_total{action="read",result="refused",reason="no_grant"} 1',
      'postern_decisions_total{action="subscribe",result="exempt",reason=""} 1',
      'postern_decisions_total{action="subscribe",result="refused",reason="expired"} 1',
      'postern_check_duration_seconds_sum 1.5',
      'postern_check_duration_seconds_count 5',
      'postern_logins_total{dialect="softphone",result="succeeded"} 1',
      'postern_refreshes_total{dialect="softphone",outcome="renewed"} 1',
      'postern_sessions_ended_total{cause="logout"} 1',
      'postern_store_duration_seconds_sum{verb="rotate"} 0.25',
      'postern_store_duration_seconds_count{verb="rotate"} 1',
      'postern_store_duration_seconds_sum{verb="ping"} 0.5',
      'postern_store_duration_seconds_count{verb="ping"} 1',
      'postern_store_errors_total{verb="ping",error="unavailable"} 1',
      'postern_config_last_reload_successful 0',
      'postern_tickets_total{result="issued"} 1',
      'postern_kicks_total{cause="logout",result="ended",means="cut"} 1',
      'postern_kicks_total{cause="logout",result="failed",means="kick"} 1',
      'postern_streams_uncuttable_total{why="shared"} 1',
      'postern_kick_duration_seconds_sum 0.25',
      'postern_kick_duration_seconds_count 1',
      'postern_http_requests_total{route="login",status="200"} 1',
      'postern_faults_total{kind="internal"} 1',
      'postern_users{source="asterisk"} 0',
      'postern_users_load_success{source="file"} 1',
      'postern_users_held_back{source="file"} 7',
      'postern_keys 2',
      `postern_signing_key_created_timestamp_seconds ${NOW - 60}`,
      'postern_issuer_keys{issuer="acme"} 3',
      `postern_build_info{version="1.2.3",node="${process.version}"} 1`,
      'postern_sessions 12',
      'postern_streams{kind="websocket"} 1',
      'postern_streams{kind="shared"} 3',
      'postern_subscriptions 4',
      'postern_nchan_channels 6',
      'postern_streams_unsure 7',
      'postern_nginx_worker_deaths_total 8',
      'postern_nginx_reload_due 1',
      'postern_cdr_recordings 9',
      'postern_cdr_load_success 1',
      'postern_hash_queue 2',
      'postern_ready 1',
      'postern_store_state{state="ok"} 1',
      'postern_store_state{state="away"} 0',
      'postern_store_state{state="lost"} 0',
      'postern_store_losses_total 0',
      'postern_store_age_seconds 0',
      'postern_log_lines_lost_total 5',
      'postern_machine_key_uses_total{key="wallboard"} 9',
    ].toSorted(),
  )
})

void t.test('a CDR that is not read is not a CDR without recordings', async (t) => {
  const read = async (state: ReturnType<MetricSources['cdr']['state']>) => {
    const page = await createFull({ cdr: { state: () => state } }).expose()
    return Array.from(page.matchAll(/^postern_cdr_\w+ (\S+)$/gm), ([, value]) => value)
  }
  t.same(await read(undefined), ['Nan', 'Nan'], 'nothing asks it')
  t.same(await read({}), ['Nan', 'Nan'], 'it is being read')
  t.same(await read({ problem: 'no rights' }), ['Nan', '0'])
  t.same(await read({ recordings: 9, problem: 'no rights' }), ['9', '0'], 'what was known stays')
  t.end()
})

void t.test('a page read twice says the same, a counter never falls', async (t) => {
  const metrics = createFull()
  const first = oursOf(await metrics.expose())
  t.same(oursOf(await metrics.expose()), first)
  metrics.decided('read', '', 0.001)
  t.match(
    await metrics.expose(),
    'postern_decisions_total{action="read",result="allowed",reason=""} 2',
  )
})

void t.test(
  'a daemon that cannot decide says so, and the page is there all the same',
  async (t) => {
    const metrics = createFull({
      store: { countSessions: () => Promise.reject(new Error('the store is away')) },
      ready: () => false,
    })
    const page = await metrics.expose()
    t.match(page, '\npostern_sessions Nan\n')
    t.match(page, '\npostern_ready 0\n')
  },
)

void t.test('10,000 odd inputs add no series', async (t) => {
  const metrics = createFull()
  metrics.decided('anything', 'anything', 0.001)
  metrics.decided('anything', '', 0.001)
  const before = oursOf(await metrics.expose()).length
  for (let i = 0; i < 10_000; i++) {
    metrics.decided(`action ${i}`, `reason ${i}"}\n`, i)
    metrics.decided(['__proto__', 'constructor', 'READ', ''][i % 4] ?? '', '', i / 1e6)
  }
  const page = await metrics.expose()
  t.equal(oursOf(page).length, before)
  t.match(page, 'action="unknown",result="refused",reason="unknown"} 10001')
  t.match(page, 'action="unknown",result="allowed",reason=""} 10001')
})

void t.test('every reason has its own series, and together they are all', async (t) => {
  const metrics = createMetrics(LABELS)
  for (const action of ACTIONS) for (const reason of REASONS) metrics.decided(action, reason, 0.001)
  const page = await metrics.expose()
  const decisions = seriesOf(page).filter((line) => line.startsWith('postern_decisions_total'))
  t.equal(decisions.length, ACTIONS.length * REASONS.length)
  t.notMatch(page, 'reason="unknown"')
})

void t.test('the type of the page is what Prometheus asks for', async (t) => {
  t.equal(createMetrics(LABELS).contentType, 'text/plain; version=0.0.4; charset=utf-8')
})

const promtool = spawnSync('promtool', ['--version'])
const noPromtool = promtool.error === undefined ? false : 'no promtool: apt install prometheus'

void t.test(
  'promtool has nothing to say',
  { skip: process.env['CI'] === 'true' ? false : noPromtool },
  async (t) => {
    const { status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], {
      input: await createFull().expose(),
      encoding: 'utf8',
    })
    t.equal(stderr + stdout, '')
    t.equal(status, 0)
  },
)

void t.test('the age of a key that nobody wrote down is not known', async (t) => {
  const metrics = createMetrics(LABELS)
  metrics.keysLoaded(1, undefined)
  t.match(await metrics.expose(), /^postern_signing_key_created_timestamp_seconds Nan$/m)
})
