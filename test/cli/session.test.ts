// `postern session`: argv in; lines, exit code and what the daemon was asked out.

import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { session } from '../../src/cli/session.ts'
import { runCommand } from './run.ts'

const run = (...argv: string[]) => runCommand(session, argv)

/** A configuration, and a daemon on its control socket where answers are given. */
const place = async (t: Test, answer?: { status?: number; body: unknown }) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-s-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const config = join(folder, 'postern.toml')
  const socket = join(folder, 'control.sock')
  writeFileSync(config, `[listen]\ncontrol = "${socket}"\n`)
  const asked: string[] = []
  if (answer !== undefined) {
    const server = createServer((request, response) => {
      asked.push(`${request.method} ${request.url}`)
      response.statusCode = answer.status ?? 200
      response.end(JSON.stringify(answer.body))
    }).listen(socket)
    await once(server, 'listening')
    t.teardown(() => {
      server.closeAllConnections()
      server.close()
    })
  }
  return { at: ['--config', config], asked }
}

const SESSIONS = [
  {
    id: 'abc',
    username: '201',
    dialect: 'softphone',
    created_at: 1_800_000_000,
    expires_at: 1_802_592_000,
    last_seen_at: 1_800_000_100,
    address: '192.0.2.1',
    agent: 'a page',
    subscriptions: [
      { resource: 'users-state', since: 1_800_000_001, until: 1_800_003_600, address: '192.0.2.7' },
    ],
  },
  {
    id: 'defghi',
    username: '900',
    dialect: 'mikopbx',
    created_at: 1_800_000_000,
    expires_at: 1_802_592_000,
    last_seen_at: 1_800_000_000,
    address: 'unknown',
    agent: '',
    subscriptions: [],
  },
]

void t.test('list says who is there, and who listens to what', async (t) => {
  const { at, asked } = await place(t, { body: { sessions: SESSIONS } })
  const { status, out, err } = await run('list', ...at)
  t.same({ status, err }, { status: 0, err: '' })
  t.equal(
    out,
    [
      'SESSION  USER  SINCE                 LAST SEEN             UNTIL                 FROM       CLIENT',
      'abc      201   2027-01-15T08:00:00Z  2027-01-15T08:01:40Z  2027-02-14T08:00:00Z  192.0.2.1  a page',
      'defghi   900   2027-01-15T08:00:00Z  2027-01-15T08:00:00Z  2027-02-14T08:00:00Z  unknown',
      '',
      'LISTENING  USER  TO           SINCE                 UNTIL                 FROM',
      'abc        201   users-state  2027-01-15T08:00:01Z  2027-01-15T09:00:00Z  192.0.2.7',
    ].join('\n'),
  )
  t.same(JSON.parse((await run('list', '--json', '--user', 'a b&c', ...at)).out), SESSIONS)
  t.same(asked, ['GET /sessions', 'GET /sessions?user=a%20b%26c'])
})

void t.test('nobody, and nobody who listens', async (t) => {
  const none = await place(t, { body: { sessions: [] } })
  t.same(await run('list', ...none.at), { status: 0, out: 'nobody is logged in', err: '' })
  t.equal((await run('list', '--json', ...none.at)).out, '[]')
  const quiet = await place(t, { body: { sessions: SESSIONS.slice(1) } })
  t.notMatch((await run('list', ...quiet.at)).out, /LISTENING/)
})

void t.test('end and kick name exactly one of: an id, a user, all', async (t) => {
  for (const [verb, field, noun] of [
    ['end', 'ended', 'session'],
    ['kick', 'kicked', 'stream'],
  ] as const) {
    const { at, asked } = await place(t, { body: { [field]: 2 } })
    for (const which of [['a/b'], ['--user', '2&1'], ['--all']]) {
      t.same(await run(verb, ...which, ...at), { status: 0, out: `2 ${noun}s ended`, err: '' })
    }
    t.same(asked, [
      `POST /sessions/${verb}?id=a%2Fb`,
      `POST /sessions/${verb}?user=2%261`,
      `POST /sessions/${verb}?all=true`,
    ])
    const wrong = [[], ['a', 'b'], ['a', '--all'], ['--user', '1', '--all'], ['a', '--user', '1']]
    for (const which of wrong) {
      t.match(await run(verb, ...which, ...at), {
        status: 64,
        out: '',
        err: /(?:give one of: .*|takes one \[ID\].*)\nusage:/,
      })
    }
    t.equal(asked.length, 3, 'a slip ends nothing')
  }
})

void t.test('an id that names nothing is likely mistyped; everybody may be nobody', async (t) => {
  const { at } = await place(t, { body: { ended: 0, kicked: 0 } })
  t.same(await run('end', 'abc', ...at), { status: 1, out: '0 sessions ended', err: '' })
  t.equal((await run('kick', 'abc', ...at)).status, 1)
  for (const which of [['--all'], ['--user', '201']]) {
    t.equal((await run('end', ...which, ...at)).status, 0)
  }
  const one = await place(t, { body: { ended: 1 } })
  t.equal((await run('end', 'abc', ...one.at)).out, '1 session ended')
})

void t.test('wrong usage is told', async (t) => {
  const { at } = await place(t)
  for (const [argv, err] of [
    [[], /a verb is missing/],
    [['stop'], /there is no such verb/],
    [['list', 'abc'], /list: takes options only/],
    [['list', '--all'], /there is no option "--all" here/],
  ] as const) {
    t.match(await run(...argv, ...at), { status: 64, out: '', err })
  }
})

void t.test('without a daemon, or with one that is broken, it says so', async (t) => {
  const none = await place(t)
  t.match(await run('list', ...none.at), {
    status: 74,
    err: /is not running, and only it has the sessions: start it/,
  })
  t.match(await run('end', '--all', ...none.at), { status: 74, out: '' })
  const broken = await place(t, { status: 500, body: {} })
  t.match(await run('list', ...broken.at), { status: 74, err: /the daemon answered 500/ })
  const folder = t.testdir({ 'postern.toml': '[listen]\ncontrol = 3\n', socket: {} })
  t.match(await run('list', '--config', `${folder}/postern.toml`), { status: 78, err: /control/ })
  const odd = join(t.testdir(), 'postern.toml')
  writeFileSync(odd, '[listen]\ncontrol = "/dev/null/x"\n')
  t.match(await run('list', '--config', odd), {
    status: 74,
    err: /unexpected reply from the daemon/,
  })
})

void t.test('a fault of ours is not swallowed', async (t) => {
  const { at } = await place(t, { body: { sessions: 'none' } })
  await t.rejects(run('list', ...at), TypeError)
})
