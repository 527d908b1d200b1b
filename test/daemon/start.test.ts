// The daemon as a whole: what it starts on, what survives its end, what follows without a restart, and that
// no fault of its surroundings lets anyone in.
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { join } from 'node:path'
import t from 'tap'

import type { Time } from '../../src/clock.ts'
import { ConfigError } from '../../src/config/config-error.ts'
import { loadConfig } from '../../src/config/load.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { StartError } from '../../src/daemon/open-state.ts'
import { createLog } from '../../src/log.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { openWire } from '../fixtures/daemon.ts'
import { openKickSocket } from '../fixtures/kick-socket.ts'
import {
  bearer,
  check,
  CHECK,
  checkHeaders,
  checkPath,
  CHEAP,
  HASH,
  login,
  makePlace,
  PASSWORD,
  type Place,
  post,
  run,
  serve,
  until,
} from '../fixtures/postern.ts'
import { hashPassword } from '../../src/passwords/hash.ts'
import { ask, V1 } from '../nginx/ask.ts'
import { AS_NOBODY, isRoot, needs } from '../fixtures/needs.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

t.setTimeout(900_000) // many starts of a process, on a machine that may be busy

const NOBODY = 65_534
const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8)

/** The files of a place that this process holds open. */
const heldOpen = (place: Place): string[] =>
  readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return '' // the one that reads this directory
      }
    })
    .filter((path) => path.startsWith(place.folder))

/** The daemon inside this process, by a clock of ours; its log lines as text. */
const startInside = async (place: Place, clock: Time) => {
  const lines: string[] = []
  const log = createLog('info', { write: (line: string) => void lines.push(line) })
  const daemon = await startDaemon(loadConfig(place.config), { log, clock })
  return { daemon, lines }
}

void t.test('it starts on nothing, and makes keys, store and sockets private', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  t.equal(mode(place.at('state')), '700')
  for (const name of readdirSync(place.at('state')))
    t.equal(mode(place.at('state', name)), '600', name)
  t.ok(existsSync(place.at('state', 'keys.json')))
  t.ok(existsSync(place.at('state', 'store.db')))
  t.equal(mode(place.at('control.sock')), '600')
  t.equal(mode(place.at('op.sock')), '600')
  t.equal(mode(place.at('http.sock')), '660')
  t.match(await place.operator('/readyz'), { status: 200, body: 'ready\n' })
  t.match(await place.operator('/healthz'), { status: 200, body: 'ok\n' })
  t.match((await place.operator('/metrics')).body, /^postern_ready 1$/m)
  t.equal((await place.ask('/metrics')).status, 404, 'not where nginx asks')
  t.same(await daemon.end(), { code: 0, signal: null })
  for (const name of ['http.sock', 'op.sock', 'control.sock'])
    t.notOk(existsSync(place.at(name)), `${name} is gone`)
  t.equal(daemon.err(), '')
})

void t.test('both dialects stand on one socket', async (t) => {
  const place = makePlace(t)
  await serve(t, place, { covered: true })
  const v3 = '/pbxcore/api/v3'
  const softphone = await login(place.ask)
  t.equal((await place.ask(`${V1}/profile`, { headers: bearer(softphone.access) })).status, 200)
  const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
  const entered = await place.ask(`${v3}/auth:login`, {
    headers: form,
    body: 'login=900&password=correct+horse&rememberMe=false',
  })
  t.equal(entered.status, 200)
  const { data } = JSON.parse(entered.body) as { data: { accessToken: string } }
  const cookie = String(entered.headers['set-cookie']?.[0]?.split(';')[0])
  const renewed = await place.ask(`${v3}/auth:refresh`, {
    method: 'POST',
    headers: { Cookie: cookie },
  })
  t.equal(renewed.status, 200)
  t.equal(await check(place, data.accessToken), '204')
  t.equal(
    (
      await place.ask(`${v3}/auth:logout`, {
        method: 'POST',
        headers: bearer(data.accessToken),
      })
    ).status,
    200,
  )
  t.equal(await check(place, data.accessToken), '401 session_ended')
  const metrics = (await place.operator('/metrics')).body
  for (const line of [
    'postern_logins_total{dialect="softphone",result="succeeded"} 1',
    'postern_logins_total{dialect="mikopbx",result="succeeded"} 1',
    'postern_refreshes_total{dialect="mikopbx",outcome="rotated"} 1',
    'postern_sessions_ended_total{cause="logout"} 1',
    'postern_sessions 1',
  ])
    t.ok(metrics.includes(`${line}\n`), line)
})

void t.test('what was acknowledged outlives a stop and a kill', async (t) => {
  const place = makePlace(t)
  let daemon = await serve(t, place)
  const stays = await login(place.ask)
  const leaves = await login(place.ask)
  t.equal(await post(place, '/auth/logout', leaves.access), 200)

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await daemon.end(signal)
    daemon = await serve(t, place)
    t.equal(await check(place, stays.access), '204', `after ${signal}`)
    t.equal(await post(place, '/auth/refresh', stays.refresh), 200, `after ${signal}`)
    t.equal(await check(place, leaves.access), '401 session_ended', `after ${signal}`)
    t.equal(await post(place, '/auth/refresh', leaves.refresh), 401, `after ${signal}`)
  }

  // Killed in the very moment of the answer: what was said is so.
  for (let round = 0; round < 2; round++) {
    const entered = await login(place.ask)
    await daemon.end('SIGKILL')
    daemon = await serve(t, place)
    t.equal(await post(place, '/auth/refresh', entered.refresh), 200, 'the login holds')
    t.equal(await post(place, '/auth/logout', entered.access), 200)
    await daemon.end('SIGKILL')
    daemon = await serve(t, place, { covered: round === 1 })
    t.equal(await check(place, entered.access), '401 session_ended', 'the logout holds')
    t.equal(await post(place, '/auth/refresh', entered.refresh), 401, 'the logout holds')
  }
})

void t.test('it does not start on what is broken, says the cure, and leaves nothing', async (t) => {
  type Row = [what: string, breaks: (place: Place) => void, says: RegExp]
  const rows: Row[] = [
    [
      'a bad configuration, every problem of it',
      (place) => place.configure({ log: 'level = "loud"', listen: 'operator = "x"' }),
      /postern\.toml:\d+: .*operator[^]*postern\.toml:\d+: .*log\.level/,
    ],
    ['no configuration', (place) => rmSync(place.config), /no such file: copy postern\.example/],
    ['no users file', (place) => rmSync(place.at('users')), /no such file: make it with `postern/],
    ['a broken users file', (place) => place.users('201:plain:user'), /users:1: /],
    [
      'a damaged store',
      (place) => {
        mkdirSync(place.at('state'), { mode: 0o700 })
        writeFileSync(place.at('state', 'store.db'), 'x'.repeat(8192), { mode: 0o600 })
      },
      /store\.db (?:is damaged|is not a store).*(?:restore a backup)/,
    ],
    [
      'keys whose store is gone',
      (place) => {
        mkdirSync(place.at('state'), { mode: 0o700 })
        writeFileSync(place.at('state', 'keys.json'), '{"keys":[]}', { mode: 0o600 })
      },
      /store\.db is gone while .*keys\.json is there: restore it, or remove the keys/,
    ],
    [
      'a port in use',
      (place) => {
        place.configure({ listen: `operator = "127.0.0.1:${taken}"` })
      },
      /cannot listen on 127\.0\.0\.1:\d+: something else listens there: stop it/,
    ],
    [
      'an address that this machine does not have',
      (place) => {
        place.configure({ listen: `operator = "192.0.2.1:9478"\npublic = true` })
      },
      /cannot listen on 192\.0\.2\.1:9478: this machine has no such address/,
    ],
    [
      'a file where the socket should be',
      (place) => writeFileSync(place.at('http.sock'), 'mine'),
      /http\.sock is there and is no socket: move it away/,
    ],
    [
      'no folder for the socket',
      (place) => place.configure({ listen: `control = "${place.at('none', 'c.sock')}"` }),
      /none\/c\.sock: .*(?:directory does not exist|give its user the directory)/,
    ],
    [
      'a group that is not there',
      (place) => place.configure({ listen: 'socket_group = "nosuchgroup"' }),
      /there is no group nosuchgroup: create it/,
    ],
    [
      'a security log that cannot be written',
      (place) => place.configure({ log: `security = "${place.at('none', 'security.log')}"` }),
      /none\/security\.log cannot be written: give its directory to the user of the service/,
    ],
    [
      'a file where the state directory should be',
      (place) => writeFileSync(place.at('state'), ''),
      /state cannot be made: create it, owned by the user of the service/,
    ],
    [
      'a state directory where nothing can be made',
      (place) => place.configure({ state: 'directory = "/proc/self/x/y"' }),
      /x\/y cannot be made: create it, owned by the user of the service/,
    ],
  ]
  const server = (await import('node:http')).createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const address = server.address()
  const taken = typeof address === 'object' && address !== null ? address.port : 0
  t.teardown(() => server.close())

  for (const [what, breaks, says] of rows) {
    const place = makePlace(t)
    breaks(place)
    const socket = existsSync(place.at('http.sock'))
    const error: unknown = await startInside(place, createTestClock()).catch((e: unknown) => e)
    t.ok(error instanceof StartError || error instanceof ConfigError, what)
    t.match((error as Error).message, says, what)
    for (const name of ['control.sock', 'op.sock'])
      t.notOk(existsSync(place.at(name)), `${what}: no ${name} is left`)
    t.equal(existsSync(place.at('http.sock')), socket, `${what}: no http.sock is left`)
    t.same(heldOpen(place), [], `${what}: no file is left open`)
  }
})

void t.test('it does not start on keys that anyone else could know', async (t) => {
  const place = makePlace(t)
  await (await serve(t, place)).end()
  const keys = place.at('state', 'keys.json')
  const good = readFileSync(keys, 'utf8')
  const table: [what: string, breaks: () => void, says: RegExp][] = [
    ['open to others', () => chmodSync(keys, 0o644), /keys\.json: has mode 644.*chmod 0600/],
    ['no JSON', () => writeFileSync(keys, 'nonsense'), /keys\.json: /],
    [
      'too short',
      () => writeFileSync(keys, good.replace(/"k": ?"[^"]+"/, '"k":"c2hvcnQ"')),
      /keys/,
    ],
    ['a folder for others', () => chmodSync(place.at('state'), 0o777), /others may write here/],
  ]
  for (const [what, breaks, says] of table) {
    breaks()
    const error: unknown = await startInside(place, createTestClock()).catch((e: unknown) => e)
    t.type(error, ConfigError, what)
    t.match((error as Error).message, says, what)
    t.notOk((error as Error).message.includes('c2hvcnQ'), 'no key is shown')
    writeFileSync(keys, good)
    chmodSync(keys, 0o600)
    chmodSync(place.at('state'), 0o700)
  }
  await serve(t, place)
})

void t.test('a second daemon does not start beside the first', async (t) => {
  const first = makePlace(t)
  await serve(t, first)
  const refused = async (place: Place, says: RegExp): Promise<void> => {
    const second = run(t, ['serve', '--config', place.config])
    t.same(await second.ended, { code: 78, signal: null })
    t.match(second.err(), says)
    t.equal((await first.operator('/readyz')).status, 200, 'the first is unharmed')
    t.equal((await first.ask(`${V1}/health`)).status, 200, 'the first keeps its sockets')
  }
  const state = `directory = "${first.at('state')}"`
  await refused(makePlace(t, { state }), /store\.db is in use by another Postern: give this one/)
  const http = `http = "unix:${first.at('http.sock')}"`
  await refused(makePlace(t, { listen: http }), /http\.sock is in use: another Postern answers/)
})

void t.test('a socket that a killed daemon left is taken over', async (t) => {
  const place = makePlace(t)
  await (await serve(t, place)).end('SIGKILL')
  for (const name of ['http.sock', 'op.sock', 'control.sock'])
    t.ok(existsSync(place.at(name)), name)
  await serve(t, place)
  t.equal(mode(place.at('http.sock')), '660')
  t.equal((await place.ask(`${V1}/health`)).status, 200)
})

void t.test('a socket removed under it costs nothing but that socket', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  rmSync(place.at('http.sock'))
  t.equal((await place.operator('/healthz')).status, 200)
  t.same(await daemon.end(), { code: 0, signal: null })
  await serve(t, place)
  t.equal((await place.ask(`${V1}/health`)).status, 200)
})

const asOther = needs(isRoot, 'needs root, to be another')
void t.test('a state directory of somebody else', asOther, async (t) => {
  const place = makePlace(t)
  mkdirSync(place.at('state'), { mode: 0o755 })
  // Everything but the state is the service's own.
  for (const path of [place.folder, place.config, place.at('users')])
    chownSync(path, NOBODY, NOBODY)
  const start = () => run(t, ['serve', '--config', place.config], { under: AS_NOBODY })
  const daemon = start()
  t.same(await daemon.ended, { code: 78, signal: null })
  t.match(daemon.err(), /state.*: .*(?:owned|writable|user of the service)/, 'the cure')
  rmSync(place.at('state'), { recursive: true })
  rmSync(place.at('security.log'))
  chownSync(place.folder, 0, 0)
  chmodSync(place.folder, 0o755)
  const unmade = start()
  t.same(await unmade.ended, { code: 78, signal: null })
  t.match(unmade.err(), /state cannot be made: create it, owned by the user of the service/)
  t.same(readdirSync(place.folder).toSorted(), ['postern.toml', 'users'])
})

void t.test('the users file counts without a restart', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  const anna = `201:${HASH}:user:Anna`
  const admin = `900:${HASH}:admin:Operator`
  const security = () => readFileSync(place.at('security.log'), 'utf8')
  const reads = () => daemon.log().filter(({ msg }) => String(msg).endsWith('read again')).length
  /** By itself it looks once a second, and takes what has not changed for a second more. */
  const notice = async (...lines: string[]): Promise<void> => {
    const before = reads()
    place.users(...lines)
    await until('the file is read', () => reads() > before)
  }
  const change = async (...lines: string[]): Promise<void> => {
    place.users(...lines)
    const socket = place.at('control.sock')
    t.equal((await ask(0, '/users/reload', { method: 'POST', socket })).status, 200)
  }
  const kept = await login(place.ask, '900')

  const first = await login(place.ask)
  await notice(`201:!${HASH}:user:Anna`, admin)
  t.match(await check(place, first.access), /^401 (?:user_disabled|session_ended)$/)
  t.equal(await post(place, '/auth/refresh', first.refresh), 401)
  await t.rejects(login(place.ask), /401/)
  await change(anna, admin)
  t.equal(
    await check(place, first.access),
    '401 session_ended',
    'enabled again: the session is over',
  )

  const second = await login(place.ask)
  await change(`201:${hashPassword('another', CHEAP)}:user:Anna`, admin)
  t.equal(await check(place, second.access), '401 session_ended', 'a new password')
  await t.rejects(login(place.ask), /401/, 'the old password')
  const third = await login(place.ask, '201', 'another')

  await change(admin)
  t.match(await check(place, third.access), /^401 (?:user_removed|session_ended)$/)
  t.equal(await post(place, '/auth/refresh', third.refresh), 401)

  await change(`201:${HASH}:admin:Anna`, admin)
  const fourth = await login(place.ask)
  const app = async () => {
    const headers = checkHeaders(fourth.access)
    return (await place.ask(checkPath('app'), { headers })).status
  }
  t.equal(await app(), 204)
  await change(anna, admin)
  t.equal(await app(), 403, "a new role counts at once, also on yesterday's token")

  place.users('nonsense')
  await until('the broken file is seen', () =>
    daemon.log().some(({ msg }) => / is broken: /.test(String(msg))),
  )
  t.equal(await check(place, fourth.access), '204', 'the last good one stays in force')
  t.match((await place.operator('/metrics')).body, /^postern_users_load_success.* 0$/m)
  t.equal(await check(place, kept.access), '204', '900 was never touched')
  for (const cause of ['user_disabled', 'password_changed', 'user_removed'])
    await until(`${cause} is written`, () =>
      security().includes(`[SESSION_ENDED] ${cause} | From: - | User: 201 `),
    )

  chmodSync(place.at('users'), 0o644)
  await change(anna, admin)
  await until('a file that everybody can read is named', () =>
    daemon.log().some(({ msg }) => String(msg).includes('can read the hashes: chmod o=')),
  )
})

void t.test('what changed in the users file while it was down', async (t) => {
  const place = makePlace(t)
  const lines = ['201', '202', '203', '204'].map((name) => `${name}:${HASH}:user`)
  place.users(...lines)
  const before = await serve(t, place, { covered: true })
  const tokens = await Promise.all(['201', '202', '203', '204'].map((n) => login(place.ask, n)))
  await before.end()
  place.users(`201:!${HASH}:user`, `203:${hashPassword('another', CHEAP)}:user`, lines[3] ?? '')
  await serve(t, place, { covered: true })
  const answers = await Promise.all(tokens.map(({ access }) => check(place, access)))
  t.same(answers, ['401 session_ended', '401 session_ended', '401 session_ended', '204'])
  const read = () => readFileSync(place.at('security.log'), 'utf8')
  await until('all ends are written', () => read().split('SESSION_ENDED').length > 3)
  const security = read()
  t.match(security, /SESSION_ENDED\] user_disabled .* User: 201/)
  t.match(security, /SESSION_ENDED\] user_removed .* User: 202/)
  t.match(security, /SESSION_ENDED\] password_changed .* User: 203/)
})

void t.test('a reload takes the good and leaves the bad', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  const said = (msg: string) => daemon.log().filter((line) => line['msg'] === msg)
  const hangup = async (msg: string): Promise<Record<string, unknown>> => {
    const before = said(msg).length
    daemon.child.kill('SIGHUP')
    await until(msg, () => said(msg).length > before)
    return said(msg).at(-1) ?? {}
  }
  // An answer goes out before its line is written.
  const logged = (line: RegExp) =>
    until(`${line} is logged`, () => line.test(readFileSync(place.at('other.log'), 'utf8')))
  const NOT = 'not reloaded: the running configuration stays in force'
  const session = await login(place.ask)

  writeFileSync(place.config, `${place.text()}\n[checks]\nverdict_cash = 1\n`)
  t.match(await hangup(NOT), { problems: [/postern\.toml:\d+: .*verdict_cache/] })
  t.equal(await check(place, session.access), '204')

  place.configure()
  const keys = place.at('state', 'keys.json')
  chmodSync(keys, 0o644)
  t.match(await hangup(NOT), { problems: [/has mode 644/] })
  t.equal(await check(place, session.access), '204', 'the old keys stay in force')
  chmodSync(keys, 0o600)

  t.match(await hangup('reloaded'), { ignored: [] })
  t.equal(await check(place, session.access), '204', 'sessions stay')

  renameSync(place.at('security.log'), place.at('security.log.1'))
  place.configure({
    log: `level = "debug"\nsecurity = "${place.at('other.log')}"`,
    http_users: 'timeout = 9',
    passwords: 'workers = 1',
    'roles.user': 'grants = ["subscribe:users-state"]',
  })
  t.same((await hangup('reloaded; these wait for a restart'))['ignored'], [
    'http_users.timeout',
    'passwords.workers',
  ])
  t.equal(await check(place, session.access), '403 no_grant', 'new grants are in force')
  await login(place.ask)
  await logged(/^\[MEDIA_ACCESS_DENIED\].*\n\[AUTH_SUCCESS\]/)
  t.notMatch(readFileSync(place.at('security.log.1'), 'utf8'), /\n.*\n.*\n/)
  await until('the new level counts', () => said('answered').some(({ route }) => route === 'login'))

  renameSync(place.at('other.log'), place.at('other.log.1'))
  await hangup('reloaded; these wait for a restart')
  await login(place.ask)
  await logged(/^\[AUTH_SUCCESS\].*\n$/) // as after logrotate

  place.configure({ log: `security = "${place.at('none', 'security.log')}"` })
  daemon.child.kill('SIGHUP')
  await until('the loss is said', () => said('a line of the security log was lost').length > 0)
  await login(place.ask)
  await logged(/\n\[AUTH_SUCCESS\].*\n$/) // the old file goes on
  t.equal(await check(place, session.access), '204')
})

void t.test(
  'it is not ready while the store cannot write, and lets nobody in or out',
  async (t) => {
    const place = makePlace(t)
    await serve(t, place, { covered: true })
    const session = await login(place.ask)
    renameSync(place.at('state', 'store.db'), place.at('state', 'moved'))
    t.match(await place.operator('/readyz'), {
      status: 503,
      headers: { 'retry-after': '1' },
      body: /^not ready: .*store\.db is gone/,
    })
    t.match((await place.operator('/metrics')).body, /^postern_ready 0$/m)
    t.equal((await place.operator('/healthz')).status, 200, 'alive all the same')
    t.equal(await check(place, session.access), '204', 'checks go on from memory')
    renameSync(place.at('state', 'moved'), place.at('state', 'store.db'))
    t.equal((await place.operator('/readyz')).status, 200, 'right again by itself')
    t.match((await place.operator('/metrics')).body, /^postern_ready 1$/m)
  },
)

void t.test('it lets no stream in while it cannot reach nginx to end it', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  const { access } = await login(place.ask)
  const subscribe = () =>
    place.ask(checkPath('users-state'), {
      headers: { ...checkHeaders(access), 'X-Auth-Action': 'subscribe' },
    })
  const said = (text: RegExp) => daemon.log().filter(({ msg }) => text.test(String(msg)))
  t.match(await subscribe(), { status: 503, headers: { 'retry-after': '1' } })
  t.equal(await check(place, access), '204', 'and all else')
  const problem = new RegExp(`^${place.at('kick.sock')} is not there: start nginx`)
  // The daemon writes its log behind the answer.
  await until('the fault is told', () => said(/could not be decided/).length > 0)
  t.match(said(/could not be decided/), [{ level: 50, route: 'check', problem }])
  await until('the outage is told', () => said(/^no new stream is let in/).length > 0)
  t.match(said(/^no new stream is let in/), [{ level: 50, problem }])
  await openKickSocket(t, place.at('kick.sock'))
  await until('streams are let in', async () => (await subscribe()).status === 204)
  await until('that is told', () => said(/new streams are let in$/).length > 0)
  t.equal(said(/new streams are let in$/).length, 1)
  const { body } = await place.operator('/metrics')
  t.match(body, /^postern_faults_total{kind="kick_socket_away"} [1-9]/m)
  t.match(body, /^postern_nchan_channels 0$/m)
})

/** A small file system for the state alone, seen by the daemon alone: it goes with the daemon. */
const onSmallDisk = (folder: string): string[] => [
  'unshare',
  '--mount',
  '/bin/sh',
  '-c',
  `mount -t tmpfs -o size=512k,mode=700 none '${folder}' && exec "$@"`,
  'sh',
]
const mountMissing = (): string | false => {
  if (spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', '/mnt']).status === 0)
    return false
  if (process.env['CI'] === 'true') throw new Error('a small disk cannot be mounted: run as root')
  return 'a small disk cannot be mounted: run the tests as root'
}

void t.test(
  'a full disk is a 503, and a logout holds here until it can be written',
  { skip: mountMissing() },
  async (t) => {
    const place = makePlace(t)
    mkdirSync(place.at('state'))
    const daemon = await serve(t, place, {
      covered: true,
      under: onSmallDisk(place.at('state')),
    })
    const session = await login(place.ask)
    const admin = await login(place.ask, '900')
    const leaves = await login(place.ask)
    const fill = `/proc/${daemon.pid}/root${place.at('state', 'fill')}`
    for (const size of [65_536, 1024, 1]) {
      try {
        for (;;) appendFileSync(fill, Buffer.alloc(size))
      } catch {
        // no room for this much: try less
      }
    }
    // The store's own files may have room for a few more.
    const enter = () =>
      place.ask(`${V1}/auth/login`, {
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ username: '201', password: PASSWORD }),
      })
    await until('there is no room', async () => (await enter()).status === 503)
    const headers = bearer(leaves.access)
    const refused = await place.ask(`${V1}/auth/logout`, { method: 'POST', headers })
    t.match(refused, { status: 503, headers: { 'retry-after': '1' } })
    t.match(JSON.parse(refused.body), { success: false })
    t.equal(await check(place, leaves.access), '401 session_ended', 'it holds here all the same')
    const again = await place.ask(`${V1}/auth/logout`, { method: 'POST', headers })
    t.equal(again.status, 503, 'until it is written')
    t.equal((await place.operator('/readyz')).status, 503)
    t.match(
      (await place.operator('/metrics')).body,
      /^postern_faults_total\{kind="store_.*\} \d+$/m,
    )
    t.ok(daemon.log().some(({ msg }) => msg === 'a request could not be decided'))

    // A reload that cannot be carried out changes nothing but who may still come in.
    place.users(`201:!${HASH}:user:Anna`, `900:${HASH}:admin:Operator`)
    place.configure({ 'roles.admin': 'grants = []' })
    daemon.child.kill('SIGHUP')
    await until('it is refused', () =>
      daemon.out().includes('"not reloaded: the running configuration stays in force"'),
    )
    t.equal(await check(place, admin.access), '204', 'the old grants')
    t.equal(await check(place, session.access), '401 user_disabled', 'known without the store')

    rmSync(fill)
    t.equal((await place.operator('/readyz')).status, 200, 'right again by itself')
    await until(
      'the session is ended',
      async () => (await check(place, session.access)) === '401 session_ended',
    )
    await until('the logout is written', async () =>
      (await place.operator('/metrics')).body.includes(
        'postern_sessions_ended_total{cause="logout"} 1',
      ),
    )
    t.equal(await post(place, '/auth/refresh', leaves.refresh), 401, 'by the store too')
    t.equal(await post(place, '/auth/logout', admin.access), 200)
    t.equal(await check(place, admin.access), '401 session_ended')
  },
)

void t.test(
  'a full run folder lets no stream in, and says so',
  { skip: mountMissing() },
  async (t) => {
    const place = makePlace(t)
    const folder = place.at('run')
    mkdirSync(folder)
    place.configure({ listen: `control = "${join(folder, 'control.sock')}"` })
    await openKickSocket(t, place.at('kick.sock'))
    const daemon = await serve(t, place, { covered: true, under: onSmallDisk(folder) })
    const { access } = await login(place.ask)
    const subscribe = () =>
      place.ask('/check', {
        headers: {
          ...checkHeaders(access),
          'X-Auth-Action': 'subscribe',
          'X-Auth-Resource': 'users-state',
          'X-Original-Upgrade': 'websocket',
        },
      })
    t.equal((await subscribe()).status, 204)
    const inside = `/proc/${daemon.pid}/root${folder}`
    for (const size of [65_536, 1024, 1]) {
      try {
        for (;;) appendFileSync(join(inside, 'fill'), Buffer.alloc(size))
      } catch {
        // no room for this much: try less
      }
    }
    // What is left of the last page has room for a few more.
    await until('there is no room', async () => (await subscribe()).status === 503)
    t.match(await subscribe(), { status: 503, headers: { 'retry-after': '1' } })
    t.equal(await check(place, access), '204', 'all else goes on')
    const problem =
      /control\.streams cannot be written \(ENOSPC\): make room on its file system \(df /
    const said = (text: RegExp) => daemon.log().filter(({ msg }) => text.test(String(msg)))
    await until('it is said', () => said(/could not be decided/).length > 0)
    t.match(said(/could not be decided/)[0], { level: 50, route: 'check', problem })
    t.match(said(/^no new stream is let in/), [{ level: 50, problem }], 'once')
    const { body } = await place.operator('/metrics')
    t.match(body, /^postern_faults_total{kind="streams_unwritten"} [1-9]/m)
    rmSync(join(inside, 'fill'))
    t.equal((await subscribe()).status, 204)
    const lines = readFileSync(join(inside, 'control.streams'), 'utf8').trim().split('\n')
    for (const line of lines) t.doesNotThrow(() => void JSON.parse(line), 'no line is half')
    await until('that is said as well', () => said(/is written again/).length === 1)
  },
)

void t.test('a clock that jumps un-revokes nothing and breaks nothing', async (t) => {
  const place = makePlace(t)
  const clock = createTestClock()
  const { daemon } = await startInside(place, clock)
  t.teardown(() => daemon.stop())
  const lives = await login(place.ask)
  const leaves = await login(place.ask)
  await post(place, '/auth/logout', leaves.access)
  const both = async () => [await check(place, lives.access), await check(place, leaves.access)]

  t.same(await both(), ['204', '401 session_ended'])
  clock.jump(-3600)
  t.match((await both())[1], /^401 /, 'an hour back: the revoked one stays dead')
  clock.jump(3600)
  t.same(await both(), ['204', '401 session_ended'])
  for (const forward of [3601, 86_400, 10 * 365 * 86_400]) {
    clock.jump(forward)
    t.match(
      await both(),
      [/^401 (?:expired)$/, /^401 (?:expired|session_ended)$/],
      `${forward} s on`,
    )
    t.equal((await place.operator('/readyz')).status, 200)
    clock.jump(-forward)
    t.same(await both(), ['204', '401 session_ended'], 'and back')
  }
  clock.advance(3600)
  t.equal(await check(place, lives.access), '401 expired', 'at exp, to the second')
  t.equal(await post(place, '/auth/refresh', lives.refresh), 200)
})

void t.test('a fault of ours is 503 to nginx, 500 to a client, and counted', async (t) => {
  const place = makePlace(t)
  const clock = createTestClock()
  let odd = false
  const { daemon, lines } = await startInside(place, {
    ...clock,
    now() {
      // Not where the registry looks at its streams by the way.
      if (!odd || String(new Error('where').stack).includes('registry.ts')) return clock.now()
      odd = false
      throw new Error('odd')
    },
  })
  t.teardown(() => daemon.stop())
  const { access } = await login(place.ask)
  odd = true
  const headers = checkHeaders(access)
  t.match(await place.ask(CHECK, { headers }), { status: 503, body: '' })
  odd = true
  const failed = await place.ask(`${V1}/health`)
  t.match(failed, { status: 500, body: /"success":false/ })
  t.notMatch(failed.body, /odd/, 'what it was is not the client’s to know')
  t.match((await place.operator('/metrics')).body, /^postern_faults_total\{kind="internal"\} 2$/m)
  t.match(lines.at(-1), /"message":"odd".*"route":"health"/)
  t.equal(await check(place, access), '204')
})

void t.test('a reload inside is all or nothing, and what fails says why', async (t) => {
  const place = makePlace(t)
  const clock = createTestClock()
  const { daemon, lines } = await startInside(place, clock)
  t.teardown(() => daemon.stop())
  await daemon.reload(loadConfig(place.config))
  t.match(lines.at(-1), /"msg":"reloaded"/)
  writeFileSync(place.at('state', 'keys.json'), 'nonsense')
  t.match(await daemon.reload(loadConfig(place.config)), { problems: [/keys\.json/] })
  const again = makePlace(t, { listen: `http = "unix:${place.at('http.sock')}"` })
  await t.rejects(startInside(again, clock), StartError)
})

void t.test('twice a minute it looks whether it can decide', async (t) => {
  const every = t.intercept(globalThis, 'setInterval', { value: setInterval, writable: true })
  const { setInterval: real } = globalThis
  const ticks: (() => void)[] = []
  globalThis.setInterval = ((tick: () => void, milliseconds: number) => {
    if (milliseconds === 30_000) ticks.push(tick)
    return real(tick, milliseconds)
  }) as typeof setInterval
  const place = makePlace(t)
  const clock = createTestClock()
  const { daemon, lines } = await startInside(place, clock)
  every.restore()
  const metric = async (name: string) =>
    new RegExp(`^${name} (.*)$`, 'm').exec((await place.operator('/metrics')).body)?.[1]
  const tick = () => {
    for (const one of ticks) one()
  }

  renameSync(place.at('state', 'store.db'), place.at('state', 'moved'))
  tick()
  await until('it is seen', async () => (await metric('postern_ready')) === '0')
  renameSync(place.at('state', 'moved'), place.at('state', 'store.db'))

  await daemon.stop()
  t.notMatch(lines.join(''), /could not be pruned/)
  tick()
  await until('a store that cannot is a warning', () =>
    lines.some((line) => line.includes('old sessions could not be pruned')),
  )
})

void t.test('a store that does not answer in time is no readiness', async (t) => {
  const place = makePlace(t)
  const { daemon } = await startInside(place, createTestClock())
  t.teardown(() => daemon.stop())
  const { setTimeout: real } = globalThis
  const timers = t.intercept(globalThis, 'setTimeout', { value: real, writable: true })
  // The second that it is given is over before it can answer.
  globalThis.setTimeout = ((late: () => void, milliseconds: number) => {
    if (milliseconds === 1000) late()
    return real(late, milliseconds)
  }) as typeof setTimeout
  const slow = await place.operator('/readyz')
  timers.restore()
  t.match(slow, { status: 503, body: 'not ready: the store does not answer\n' })
  t.equal((await place.operator('/readyz')).status, 200)
})

void t.test('hashing that may not be niced is said, and goes on', async (t) => {
  const place = makePlace(t)
  const deny =
    'import os from"os";import{syncBuiltinESMExports as sync}from"module";os.setPriority=()=>{throw new Error("EPERM")};sync()'
  const daemon = await serve(t, place, {
    covered: true,
    env: { NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(deny)}` },
  })
  await login(place.ask)
  await until('it is said', () => daemon.out().includes('setpriority is not allowed'))
})

void t.test('a request under way at SIGTERM is answered, and no new one is taken', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const { access } = await login(place.ask)
  const body = JSON.stringify({ action: 'read', resource: 'recordings/a.wav' })
  const wire = openWire(place.at('http.sock'))
  t.teardown(() => {
    wire.destroy()
  })
  const head = [
    `POST ${V1}/auth/ticket HTTP/1.1`,
    'Host: x',
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    `Authorization: Bearer ${access}`,
    'Expect: 100-continue', // its answer says that the request is under way
  ]
  wire.write(`${head.join('\r\n')}\r\n\r\n`)
  await until('it is under way', () => wire.text().includes('100 Continue'))
  daemon.child.kill('SIGTERM')
  await until('it stops', () => daemon.out().includes('"msg":"stopping"'))
  await t.rejects(place.ask(`${V1}/health`), /ENOENT|ECONNREFUSED/)
  wire.write(body)
  await wire.closed()
  const [, answer] = wire.text().split('HTTP/1.1 100 Continue\r\n\r\n')
  t.match(answer, /^HTTP\/1\.1 200 OK\r\n[^]*\r\nConnection: close\r\n[^]*\}$/, 'whole')
  t.same(await daemon.ended, { code: 0, signal: null })
  t.match(daemon.log().at(-1), { msg: 'stopped' })
})

void t.test('SIGTERM under load: every answer is whole', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const { access } = await login(place.ask)
  const seen: string[] = []
  let going = true
  const worker = async (): Promise<void> => {
    while (going) {
      try {
        seen.push(await check(place, access))
      } catch (error) {
        going = false
        seen.push(String((error as NodeJS.ErrnoException).code))
      }
    }
  }
  const workers = Array.from({ length: 8 }, worker)
  await until('there is load', () => seen.length > 100)
  const ended = await daemon.end('SIGTERM')
  await Promise.all(workers)
  t.same(ended, { code: 0, signal: null })
  const kinds = new Set(seen)
  kinds.delete('204')
  for (const kind of kinds)
    t.match(kind, /^(?:ENOENT|ECONNREFUSED|ECONNRESET|EPIPE)$/, 'only what never began')
})

void t.test('a kept connection ends with its answer when the daemon stops', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const socket = connect(place.at('http.sock'))
  let text = ''
  socket.setEncoding('utf8').on('data', (part: string) => (text += part))
  socket.write(`GET ${V1}/health HTTP/1.1\r\nHost: x\r\n\r\n`)
  await until('the first answer', () => text.includes('timestamp'))
  t.match(text, /keep-alive/i)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  const elapsed = startStopwatch()
  t.same(await daemon.end(), { code: 0, signal: null })
  await closed
  t.ok(elapsed().ours < 4000, 'an idle one is not waited for')
})

void t.test('a client that never ends its request does not hold up the stop', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  const socket = connect(place.at('http.sock'))
  socket.on('error', () => undefined)
  t.teardown(() => socket.destroy())
  socket.write(`POST ${V1}/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{`)
  // The daemon has it when it counts it as a connection in use; a health answer comes after it.
  await place.ask(`${V1}/health`)
  const elapsed = startStopwatch()
  t.same(await daemon.end(), { code: 0, signal: null })
  t.ok(elapsed().ours < 9000, 'five seconds and no more')
})

void t.test('killed under load, nothing is open meanwhile', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const { access } = await login(place.ask)
  const seen: string[] = []
  const worker = async (): Promise<void> => {
    for (let round = 0; round < 50; round++) {
      await check(place, access).then(
        (answer) => seen.push(answer),
        (error: unknown) => seen.push(String((error as NodeJS.ErrnoException).code)),
      )
    }
  }
  const workers = Promise.all(Array.from({ length: 4 }, worker))
  await until('there is load', () => seen.length > 20)
  await daemon.end('SIGKILL')
  await workers
  t.same(
    [...new Set(seen)].filter((kind) => kind !== '204' && !kind.startsWith('E')),
    [],
  )
  await serve(t, place)
  t.equal(await check(place, access), '204')
})

void t.test('stopped in its tracks and continued, it goes on rightly', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const { access, refresh } = await login(place.ask)
  const gone = await login(place.ask)
  await post(place, '/auth/logout', gone.access)
  daemon.child.kill('SIGSTOP')
  const waiting = [check(place, access), check(place, gone.access)]
  await delay(2000)
  daemon.child.kill('SIGCONT')
  t.same(await Promise.all(waiting), ['204', '401 session_ended'])
  t.equal(await post(place, '/auth/refresh', refresh), 200)
  t.equal((await place.operator('/readyz')).status, 200)
})

void t.test('a store that is truncated is never taken for an empty one', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const { access } = await login(place.ask)
  await post(place, '/auth/logout', access)
  await daemon.end()
  truncateSync(place.at('state', 'store.db'), 0)
  const refused = run(t, ['serve', '--config', place.config])
  t.same(await refused.ended, { code: 78, signal: null })
  t.match(refused.err(), /store\.db is empty: restore a backup/)
})
