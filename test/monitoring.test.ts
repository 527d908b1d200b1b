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

const createTestMetrics = () =>
  createMetrics({
    version: '0',
    actions: ['read'],
    reasons: ['expired'],
    sessions: async () => 1,
    revocations: () => 0,
    subscriptions: () => 0,
    hashQueue: () => 0,
    logLinesLost: () => 0,
    nchan: async () => new Map(),
    ready: () => true,
    storeState: () => 'ok',
    storeAge: () => 0,
    storeLosses: () => 0,
  })

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
    }
    t.end()
  },
)

void t.test('every alert says what to do', (t) => {
  const rules = readFileSync(join(FOLDER, 'postern.rules.yml'), 'utf8')
  const alerts = rules.split('- alert: ').slice(1)
  t.ok(alerts.length >= 13)
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
  const dashboard = JSON.parse(readFileSync(join(FOLDER, 'grafana-dashboard.json'), 'utf8')) as {
    panels: { id: number; targets?: { expr: string }[] }[]
  }
  const ids = dashboard.panels.map(({ id }) => id)
  t.equal(new Set(ids).size, ids.length, 'panel ids are unique')
  const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))
  t.ok(queries.length > 15)
  queries.push(
    ...readFileSync(join(FOLDER, 'postern.rules.yml'), 'utf8')
      .split('\n')
      .filter((line) => !/record:|runbook|summary|^ {12}/.test(line) || /expr:|rate\(/.test(line)),
  )
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
    const { panels } = JSON.parse(readFileSync(join(FOLDER, 'grafana-dashboard.json'), 'utf8')) as {
      panels: { targets?: { expr: string }[] }[]
    }
    const rules = panels
      .flatMap(({ targets = [] }) => targets)
      .map(({ expr }, index) => `      - { record: "q:${index}", expr: ${JSON.stringify(expr)} }`)
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

const AT = new Date('2026-11-22T05:15:59.123Z')
const line = (event: string, message: string, address: string, user: string): string =>
  formatSecurityLine({ event, message, address, user }, AT)

const LINES: readonly (readonly [what: string, banned: string, line: string])[] = [
  ['a wrong password', '203.0.113.7', line('AUTH_FAILED', 'wrong password', '203.0.113.7', '201')],
  ['IPv6', '2001:db8::1', line('AUTH_FAILED', 'unknown user', '2001:db8::1', 'x')],
  ['a forged token', '203.0.113.8', line('SUBSCRIBE_DENIED', 'bad_signature', '203.0.113.8', '-')],
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
  const jail = readFileSync(join(FOLDER, 'fail2ban/jail.d/postern.conf'), 'utf8')
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
    t.end()
  },
)
