// The monitoring files against the real thing: promtool on the rules and on /metrics, every query of rules and
// dashboard against the metrics there are, fail2ban's own matcher on real lines of the security log.

import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

import { formatSecurityLine } from '../src/log.ts'
import { createMetrics } from '../src/metrics.ts'

const FOLDER = join(import.meta.dirname, '..', 'monitoring')

/** For tap's `skip`: why a test cannot run here, or false. In CI nothing is skipped. */
const missing = (program: string): string | false => {
  if (spawnSync('sh', ['-c', `command -v ${program}`]).status === 0) return false
  const cure = `${program} is not installed: script/setup --test installs it`
  if (process.env['CI'] === 'true') throw new Error(cure)
  return cure
}

interface Panel {
  readonly id: number
  readonly title: string
  readonly type: string
  readonly gridPos: Readonly<Record<'x' | 'y' | 'w' | 'h', number>>
  readonly targets?: readonly { readonly expr: string }[]
}

const readPanels = (): readonly Panel[] =>
  (
    JSON.parse(readFileSync(join(FOLDER, 'grafana-dashboard.json'), 'utf8')) as {
      panels: readonly Panel[]
    }
  ).panels

const queriesOf = (panels: readonly Panel[]): string[] =>
  panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

/** Of the recording rules and alerts, those over several lines too. */
const readExpressions = (): string[] =>
  Array.from(
    readFileSync(join(FOLDER, 'postern.rules.yml'), 'utf8').matchAll(
      / expr: (?:>-)?(.+\n(?: {10,}.+\n)*| *\n(?: {10,}.+\n)+)/g,
    ),
    ([, text]) => String(text),
  )

const createTestMetrics = () => {
  const metrics = createMetrics({ version: '0', actions: ['read'], reasons: ['expired'] })
  metrics.watch({
    store: { countSessions: async () => 1 },
    registry: { count: () => 0, countByKind: () => ({ websocket: 1 }), countUnsure: () => 0 },
    workers: { deaths: () => 0, reloadDue: () => false },
    kickWatch: { channels: () => 0 },
    pool: { queued: () => 0 },
    users: { countBySource: () => new Map([['file', 2]]) },
    peers: { state: () => 'ok', age: () => 0, losses: () => 0 },
    cdr: { state: () => undefined },
    lost: { lines: 0 },
    machineKeys: { uses: () => new Map() },
    ready: () => true,
    now: () => 0,
  })
  return metrics
}

void t.test(
  'the rules are good, and each alert has a test in which it fires',
  { skip: missing('promtool') },
  (t) => {
    const check = spawnSync('promtool', ['check', 'rules', 'postern.rules.yml'], {
      cwd: FOLDER,
      encoding: 'utf8',
    })
    t.equal(check.status, 0, check.stderr + check.stdout)
    const run = spawnSync('promtool', ['test', 'rules', 'postern.rules.test.yml'], {
      cwd: FOLDER,
      encoding: 'utf8',
    })
    t.equal(run.status, 0, run.stderr + run.stdout)
    const rules = readFileSync(join(FOLDER, 'postern.rules.yml'), 'utf8')
    const tests = readFileSync(join(FOLDER, 'postern.rules.test.yml'), 'utf8')
    for (const [, name] of rules.matchAll(/- alert: (\w+)/g)) {
      t.match(
        tests,
        new RegExp(`ALERTS\\{alertname="${name}"[^}]*\\}',\\s+value: 1`),
        `${name} fires`,
      )
      t.match(
        tests,
        new RegExp(
          `ALERTS\\{alertname="${name}"[^}]*\\}\\s+eval_time: \\w+\\s+exp_samples: \\[\\]`,
        ),
        `${name} does not always fire`,
      )
    }
    t.end()
  },
)

void t.test('every alert says what to do', (t) => {
  const rules = readFileSync(join(FOLDER, 'postern.rules.yml'), 'utf8')
  const alerts = rules.split('- alert: ').slice(1)
  t.ok(alerts.length >= 18)
  for (const alert of alerts) {
    t.match(alert, /runbook: >-\n(?: {12}\S.+\n)+/, String(alert.split('\n', 1)[0]))
    t.match(alert, /severity: (?:warning|critical)/)
  }
  t.end()
})

void t.test(
  'promtool finds nothing wrong with /metrics',
  { skip: missing('promtool') },
  async (t) => {
    const run = spawnSync('promtool', ['check', 'metrics'], {
      input: await createTestMetrics().expose(),
      encoding: 'utf8',
    })
    t.equal(run.status, 0, run.stderr + run.stdout)
  },
)

void t.test('rules and dashboard ask only for metrics that there are', async (t) => {
  const page = await createTestMetrics().expose()
  const known = new Set(Array.from(page.matchAll(/^# TYPE (\S+) (\S+)/gm), (match) => match[1]))
  const expressions = readExpressions()
  const rules = readFileSync(join(FOLDER, 'postern.rules.yml'), 'utf8')
  t.equal(expressions.length, rules.split(' expr: ').length - 1, 'none is overlooked')
  const panels = queriesOf(readPanels())
  t.ok(panels.length > 15)
  const queries = [...panels, ...expressions]
  for (const query of queries) {
    for (const [name] of query.matchAll(/\b(?:postern|nodejs|process)_[a-z0-9_]+/g)) {
      t.ok(known.has(name.replace(/_(?:bucket|sum|count)$/, '')) || known.has(name), name)
    }
  }
})

void t.test(
  'promtool understands every query of the dashboard',
  { skip: missing('promtool') },
  (t) => {
    const rules = queriesOf(readPanels()).map(
      (expr, index) => `      - { record: "q:${index}", expr: ${JSON.stringify(expr)} }`,
    )
    const folder = mkdtempSync(join(tmpdir(), 'postern-queries-'))
    t.teardown(() => {
      rmSync(folder, { recursive: true, force: true })
    })
    const file = join(folder, 'queries.yml')
    writeFileSync(file, `groups:\n  - name: queries\n    rules:\n${rules.join('\n')}\n`)
    const run = spawnSync('promtool', ['check', 'rules', file], { encoding: 'utf8' })
    t.equal(run.status, 0, run.stderr + run.stdout)
    t.end()
  },
)

void t.test('no panel of the dashboard hides another, or stands over the edge', (t) => {
  const panels = readPanels()
  const ids = panels.map(({ id }) => id)
  t.equal(new Set(ids).size, ids.length, 'panel ids are unique')
  const taken = new Map<string, string>()
  const collisions = new Set<string>()
  for (const { title, gridPos } of panels) {
    const { x, y, w, h } = gridPos
    t.ok(x >= 0 && w > 0 && x + w <= 24, `${title} is within the 24 columns`)
    for (let row = y; row < y + h; row++) {
      for (let column = x; column < x + w; column++) {
        const cell = `${row},${column}`
        const other = taken.get(cell)
        if (other !== undefined) collisions.add(`${title} over ${other}`)
        taken.set(cell, title)
      }
    }
  }
  t.strictSame([...collisions], [])
  const rows = panels.filter(({ type }) => type === 'row').map(({ title }) => title)
  t.ok(rows.includes('Shared store'))
  t.end()
})

void t.test(
  'sessions of a shared store are counted once, those of separate stores together',
  { skip: missing('promtool') },
  (t) => {
    const queries = [...queriesOf(readPanels()), ...readExpressions()]
    const [query, ...others] = queries.filter((text) => /postern_sessions\b/.test(text))
    t.strictSame(others, [], 'one place asks for them')
    const expr = String(query).replaceAll('$instance', '.*')
    const folder = mkdtempSync(join(tmpdir(), 'postern-sessions-'))
    t.teardown(() => {
      rmSync(folder, { recursive: true, force: true })
    })
    /** job, instance, sessions, age: 0 where no store is shared. */
    const check = (what: string, total: number, rows: [string, string, number, number][]): void => {
      const series = rows.flatMap(([job, instance, sessions, age]) => {
        const labels = `job="${job}",instance="${instance}"`
        return [
          { series: `postern_sessions{${labels}}`, values: String(sessions) },
          { series: `postern_store_age_seconds{${labels}}`, values: String(age) },
        ]
      })
      const expected = { expr, eval_time: '0m', exp_samples: [{ labels: '{}', value: total }] }
      const file = join(folder, 'sessions.test.yml')
      const tests = [{ interval: '1m', input_series: series, promql_expr_test: [expected] }]
      writeFileSync(file, JSON.stringify({ tests })) // JSON is YAML
      const run = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' })
      t.equal(run.status, 0, `${what}: ${run.stderr}${run.stdout}`)
    }
    check('one instance', 7, [['postern', 'a', 7, 0]])
    check('one store, three readings of it', 101, [
      ['postern', 'a', 100, 0.4],
      ['postern', 'b', 101, 0.9],
      ['postern', 'c', Number.NaN, 12],
    ])
    check('two stores of their own', 30, [
      ['postern', 'a', 10, 0],
      ['postern', 'b', 20, 0],
    ])
    check('two installations and a third', 161, [
      ['postern', 'a', 100, 0.4],
      ['postern', 'b', 100, 0.4],
      ['postern-two', 'c', 50, 0.4],
      ['postern-two', 'd', 50, 0.4],
      ['postern', 'e', 11, 0],
    ])
    t.end()
  },
)

const AT = new Date('2026-11-22T05:15:59.123Z')
const line = (event: string, message: string, address: string, user: string): string =>
  formatSecurityLine({ event, message, address, user }, AT)

const LINES: readonly (readonly [what: string, banned: string, line: string])[] = [
  ['a wrong password', '203.0.113.7', line('AUTH_FAILED', 'wrong password', '203.0.113.7', '201')],
  ['IPv6', '2001:db8::1', line('AUTH_FAILED', 'unknown user', '2001:db8::1', 'x')],
  ['a forged token', '203.0.113.8', line('SUBSCRIBE_DENIED', 'bad_signature', '203.0.113.8', '-')],
  [
    'a guessed machine key',
    '203.0.113.12',
    line('MACHINE_KEY_DENIED', 'unknown machine key', '203.0.113.12', '-'),
  ],
  [
    'a machine key from elsewhere',
    '',
    line('MACHINE_KEY_DENIED', 'shown from another network', '203.0.113.13', 'key:k'),
  ],
  ['a success', '', line('AUTH_SUCCESS', 'logged in', '203.0.113.9', '201')],
  ['too little right', '', line('MEDIA_ACCESS_DENIED', 'no_grant', '203.0.113.10', '-')],
  ['no known address', '', line('AUTH_FAILED', 'wrong password', 'unknown', '201')],
  [
    'a name that looks like another field',
    '203.0.113.11',
    line('AUTH_FAILED', 'unknown user', '203.0.113.11', 'x | From: 192.0.2.1 | User: y'),
  ],
  [
    'a name that looks like another line',
    '',
    line(
      'AUTH_SUCCESS',
      'logged in',
      '203.0.113.12',
      'x\n[AUTH_FAILED] wrong password | From: 192.0.2.2 | User: y | Time: 2026-11-22T05:15:59Z',
    ),
  ],
]

void t.test(
  'fail2ban bans who guesses, and nobody whose name was made up',
  { skip: missing('fail2ban-regex') },
  (t) => {
    for (const [what, banned, text] of LINES) {
      const run = spawnSync(
        'fail2ban-regex',
        ['--out', 'ip', text.trimEnd(), join(FOLDER, 'fail2ban/filter.d/postern.conf')],
        { encoding: 'utf8' },
      )
      t.equal(run.stdout.trim(), banned, what)
    }
    t.end()
  },
)

void t.test('the jail names the filter and the log that there are', (t) => {
  const jail = readFileSync(join(FOLDER, 'fail2ban/jail.d/10-postern.conf'), 'utf8')
  t.match(jail, /^filter {3}= postern$/m)
  t.match(jail, /^logpath {2}= \/var\/log\/postern\/security\.log$/m)
  t.ok(existsSync(join(FOLDER, 'fail2ban/filter.d/postern.conf')))
  t.end()
})

void t.test(
  'Prometheus takes the shipped scrape configuration',
  { skip: missing('promtool') },
  (t) => {
    t.doesNotThrow(() =>
      execFileSync('promtool', ['check', 'config', 'prometheus.example.yml'], { cwd: FOLDER }),
    )
    const example = readFileSync(join(FOLDER, 'prometheus.example.yml'), 'utf8')
    t.match(example, /job_name: postern\n/, 'the rules ask for jobs of that name')
    const units = ['postern-metrics.socket', 'postern-metrics@.socket'].map((name) =>
      readFileSync(join(FOLDER, '..', 'systemd', name), 'utf8'),
    )
    const ports = Array.from(
      units.join('').matchAll(/^ListenStream=127\.0\.0\.1:(\S+)$/gm),
      ([, port]) => String(port).replace('%i', '1'),
    )
    t.equal(ports.length, 2)
    for (const port of ports) t.match(example, `127.0.0.1:${port}'`, 'a port of our units')
    t.end()
  },
)
