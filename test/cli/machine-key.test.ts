// `postern machine-key` beside a running daemon: what is printed, what counts, and what is told of it.

import { once } from 'node:events'
import { createServer } from 'node:http'
import t, { type Test } from 'tap'

import { createMachineKeyCommand, machineKey } from '../../src/cli/machine-key.ts'
import { policy } from '../../src/cli/policy.ts'
import { token } from '../../src/cli/token.ts'
import { NOW } from '../fixtures/clock.ts'
import { startTestDaemon, type TestDaemon } from '../fixtures/daemon.ts'
import { makePlace, until } from '../fixtures/postern.ts'
import { runCommand } from './run.ts'

const DAY = 86_400

const setUp = async (t: Test) => {
  const daemon = await startTestDaemon(t)
  const command = createMachineKeyCommand(daemon.clock.now)
  const run = (...argv: string[]) => runCommand(command, [...argv, '--config', daemon.place.config])
  const add = async (name: string, ...argv: string[]): Promise<string> => {
    const { status, out, err } = await run('add', name, ...argv)
    if (status !== 0) throw new Error(err)
    return out
  }
  const list = async () =>
    JSON.parse((await run('list', '--json')).out) as Record<string, unknown>[]
  return { daemon, run, add, list }
}

const reason = async (daemon: TestDaemon, key: string, more = {}): Promise<string> => {
  const answer = await daemon.check(key, more)
  return answer.status === 204 ? 'allowed' : (answer.header('x-auth-reason') ?? '')
}
const CHANNEL = { 'X-Auth-Action': 'subscribe', resource: 'users-state' }

void t.test('a key is shown once, counts at once, and may do what it says alone', async (t) => {
  const { daemon, run, add } = await setUp(t)
  const ran = await run('add', 'wallboard', '--grants', 'subscribe:users-state, read:recordings/**')
  t.match(ran, {
    status: 0,
    out: /^pstrn_[0-9A-Za-z]{49}$/,
    err: /wallboard added\. It is shown once/,
  })
  const key = ran.out
  t.match(await run('list'), { out: /wallboard {2}key_\w+ {2}active {2}never {6}- / })
  const answer = await daemon.check(key)
  t.equal(answer.status, 204)
  t.equal(answer.header('x-auth-user'), 'key:wallboard')
  t.equal(answer.header('x-auth-role'), 'machine-key')
  t.match(answer.header('x-auth-session'), /^key_[0-9a-f]{16}$/)
  t.equal(answer.header('x-auth-expires'), '253402300799')
  t.equal((await daemon.check(key, CHANNEL)).status, 204)
  t.equal(await reason(daemon, key, { 'X-Auth-Action': 'write' }), 'no_grant')
  t.equal(await reason(daemon, key, { ...CHANNEL, resource: 'contacts' }), 'no_grant')
  const all = await add('all', '--grants', 'subscribe:**', '--grants', 'read:**')
  t.equal(await reason(daemon, all), 'allowed', 'a list may be given word by word')
  t.equal(await reason(daemon, all, CHANNEL), 'allowed')
  t.equal(
    await reason(daemon, all, { ...CHANNEL, resource: 'me/calls' }),
    'no_grant',
    'it is nobody',
  )
  t.equal(await reason(daemon, all, { ...CHANNEL, resource: 'calls-user-1' }), 'no_grant')
  const uses = await daemon.metric('postern_machine_key_uses_total{key="wallboard"}')
  t.ok(uses >= 4, `${uses}`)

  t.match(await run('add', 'wallboard', '--grants', 'read:x'), {
    status: 1,
    err: /has a key already/,
  })
  t.match(await daemon.securityLog(), /\[MACHINE_KEY_ADDED\] for .* User: key:wallboard /)
  const everything = daemon.logText() + (await daemon.securityLog())
  t.notMatch(everything, key.slice(6, 30), 'the key stands nowhere')
})

void t.test('it is taken in the Authorization header alone', async (t) => {
  const { daemon, add } = await setUp(t)
  const key = await add('k', '--grants', 'read:**')
  const ways = { 'X-Auth-Accept': 'header query cookie ticket' }
  const asked = { ...ways, Authorization: [] as string[] }
  t.equal(await reason(daemon, key, ways), 'allowed')
  for (const name of ['token', 'authorization', 'ticket']) {
    const uri = { ...asked, 'X-Original-URI': `/x?${name}=${key}` }
    t.equal(await reason(daemon, '', uri), 'malformed_token', name)
  }
  const cookie = { ...asked, Cookie: `postern=${key}` }
  t.equal(await reason(daemon, '', cookie), 'malformed_token')
  t.equal(await reason(daemon, key, { 'X-Auth-Accept': 'cookie' }), 'no_credential')
})

void t.test('what is a session’s is refused, and says so', async (t) => {
  const { daemon, add } = await setUp(t)
  const key = await add('k', '--grants', 'read:**,subscribe:**')
  const V1 = '/pbxcore/api/module-softphone-backend/v1'
  const V3 = '/pbxcore/api/v3'
  const headers = { Authorization: `Bearer ${key}` }
  for (const [method, path] of [
    ['GET', `${V1}/profile`],
    ['POST', `${V1}/auth/refresh`],
    ['POST', `${V1}/auth/logout`],
    ['GET', `${V1}/auth/sessions`],
    ['DELETE', `${V1}/auth/sessions/x`],
    ['POST', `${V3}/auth:refresh`],
    ['POST', `${V3}/auth:logout`],
  ] as const) {
    const answer = await daemon.ask(path, { method, headers })
    t.equal(answer.status, 403, path)
    t.match(answer.body, /A machine key has no session/, path)
  }
  t.equal((await daemon.ask(`${V1}/check-media-access`, { headers })).status, 200)
  t.equal(await reason(daemon, key), 'allowed', 'it is none the worse for it')
})

void t.test('a guess is counted, a slip is not, and neither keeps a good key out', async (t) => {
  const { daemon, run, add } = await setUp(t)
  const key = await add('k', '--grants', 'read:**')
  const slip = key.replace(/.$/, (last) => (last === 'a' ? 'b' : 'a'))
  t.equal(await reason(daemon, slip), 'malformed_token')
  t.equal(await reason(daemon, `${key}x`), 'malformed_token')
  const others = []
  for (let n = 0; n < 3; n++) {
    const { out } = await runCommand(
      createMachineKeyCommand(() => NOW),
      [
        'add',
        `gone${n}`,
        '--grants',
        'read:**',
        '--config',
        (await startTestDaemon(t)).place.config,
      ],
    )
    others.push(out)
  }
  const [guess = ''] = others
  for (let n = 0; n < 7; n++) t.equal(await reason(daemon, guess), 'unknown_machine_key')
  t.equal(await reason(daemon, String(others[1])), 'unknown_machine_key')
  const log = await daemon.securityLog()
  const refused = log.match(/\[MACHINE_KEY_DENIED\] unknown machine key \| From: 192.0.2.1 /g)
  t.equal(refused?.length, 6, `five of one, one of another: ${log}`)
  t.match(log, /\[BANNED\] too many unknown machine keys /)
  t.equal(await reason(daemon, key), 'allowed')
  await daemon.reload({ throttle: 'address_failures = 5\naccount_failures = 1000000' })
  const login = await daemon.ask('/pbxcore/api/module-softphone-backend/v1/auth/login', {
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username: '201', password: 'x' }),
  })
  t.equal(login.status, 429, 'guesses and logins share the count of an address')
  t.match(await runCommand(token, ['inspect', '--config', daemon.place.config], key), {
    out: /check: 204 allowed, for key:k as machine-key/,
  })
  t.match(await run('list'), { out: /k {2}.*key_[0-9a-f]{16} {2}active/ })
})

void t.test('a key is bound to networks and to its time', async (t) => {
  const { daemon, run, add, list } = await setUp(t)
  const key = await add(
    'k',
    '--grants',
    'read:**',
    '--from',
    '198.51.100.0/24,2001:db8::/32',
    '--expires',
    '2h',
  )
  t.equal(await reason(daemon, key), 'wrong_network')
  t.equal(await reason(daemon, key, { 'X-Real-IP': 'nonsense' }), 'wrong_network')
  t.match(
    await daemon.securityLog(),
    /\[MACHINE_KEY_DENIED\] shown from another network \| From: 192.0.2.1 \| User: key:k /,
  )
  for (const address of ['198.51.100.9', '::ffff:198.51.100.9', '2001:db8::7']) {
    t.equal(await reason(daemon, key, { 'X-Real-IP': address }), 'allowed', address)
  }
  t.match(await list(), [
    {
      name: 'k',
      state: 'active',
      from: ['198.51.100.0/24', '2001:db8::/32'],
      expires_at: NOW + 7200,
      used_at: NOW,
      used_from: '2001:db8::7',
    },
  ])
  daemon.clock.advance(61)
  t.equal(await reason(daemon, key, { 'X-Real-IP': '198.51.100.8' }), 'allowed')
  t.match(await list(), [{ used_at: NOW + 61, used_from: '198.51.100.8' }])
  await daemon.restart()
  t.match(await list(), [{ used_at: NOW + 61, used_from: '198.51.100.8' }])
  daemon.clock.advance(7200)
  t.equal(await reason(daemon, key, { 'X-Real-IP': '198.51.100.8' }), 'expired')
  t.match(await list(), [{ state: 'expired' }])
  t.match(await run('list'), { out: /expired/ })
  t.equal((await run('add', 'k', '--grants', 'read:**')).status, 0, 'its name is free again')
})

void t.test('a rotated key has an heir with the same rights', async (t) => {
  const { daemon, run, add, list } = await setUp(t)
  const first = await add('k', '--grants', 'read:**')
  daemon.clock.advance(1)
  const rotated = await run('rotate', 'k')
  daemon.clock.advance(1)
  t.match(rotated, {
    status: 0,
    out: /^pstrn_/,
    err: /the old one works until it is removed: postern machine-key remove key_/,
  })
  t.equal(await reason(daemon, first), 'allowed')
  t.equal(await reason(daemon, rotated.out), 'allowed')
  const again = await run('rotate', 'k', '--old-until', '1h')
  t.match(again.err, /the old one works until 2027-01-15T/)
  const [one, , three] = await list()
  t.same([one?.['expires_at'], three?.['expires_at']], [NOW + 3602, null])
  daemon.clock.advance(3600)
  t.equal(await reason(daemon, first), 'expired')
  t.equal(await reason(daemon, rotated.out), 'expired')
  t.equal(await reason(daemon, again.out), 'allowed')
  t.match(await run('remove', String(one?.['id'])), { status: 0, out: /: removed$/ })
  t.match(await run('remove', 'k'), { status: 0, out: 'k: removed, 2 keys' })
  t.equal(await reason(daemon, again.out), 'session_ended', 'it was known: no guess')
  t.match(await daemon.securityLog(), /\[MACHINE_KEY_REMOVED\] removed \| From: - \| User: key:k /)
  t.match(await run('rotate', 'k'), { status: 1, err: /no such machine key: add it/ })
  t.match(await run('remove', 'k'), { status: 1, err: /no such machine key: see/ })
  t.match(await run('list'), { out: 'there are no machine keys' })
  await daemon.restart()
  t.equal(await reason(daemon, again.out), 'session_ended')
})

void t.test(
  'rotated twice in a second, or by a clock that went back, the heir lives on',
  async (t) => {
    const { daemon, run, add, list } = await setUp(t)
    await add('k', '--grants', 'read:**', '--expires', '90d')
    for (const back of [0, 0, 0, 0, -60, -60]) {
      daemon.clock.jump(back)
      const { out } = await run('rotate', 'k', '--old-until', '1h')
      const ends = (await list()).map((one) => Number(one['expires_at']))
      t.equal(Math.max(...ends), NOW + 90 * DAY)
      t.equal(ends.filter((end) => end > NOW + 3600).length, 1, 'those before it end soon')
      t.equal(await reason(daemon, out), 'allowed')
    }
    daemon.clock.advance(2 * 3600)
    const { out: last } = await run('rotate', 'k')
    t.equal(await reason(daemon, last), 'allowed')
  },
)

void t.test('what the operator asks of a key is no use of it', async (t) => {
  const { daemon, add, list } = await setUp(t)
  const key = await add('k', '--grants', 'read:**', '--from', '192.0.2.0/24')
  const asked = await runCommand(token, ['inspect', '--config', daemon.place.config], key)
  t.match(asked, { status: 0, out: /204 allowed, for key:k/ }, 'from where it may be')
  t.match(await list(), [{ used_at: null, used_from: '' }])
  t.equal(await daemon.metric('postern_machine_key_uses_total{key="k"}'), 0)
})

void t.test('its streams end with it, and with its time', async (t) => {
  const { daemon, run, add, list } = await setUp(t)
  const key = await add('k', '--grants', 'subscribe:**', '--expires', '1h')
  const opened = await daemon.check(key, CHANNEL)
  const kick = opened.header('x-auth-kick') ?? ''
  t.match(await list(), [{ streams: 1 }])
  await daemon.restart()
  t.match(await list(), [{ streams: 1 }], 'a restart ends nobody whose right still stands')
  t.notOk(daemon.kicked.includes(kick))
  t.equal((await run('remove', 'k')).status, 0)
  t.ok(daemon.kicked.includes(kick), 'before the command ends')
  const next = await add('k', '--grants', 'subscribe:**', '--expires', '1h')
  const other = (await daemon.check(next, CHANNEL)).header('x-auth-kick') ?? ''
  await run('rotate', 'k', '--old-until', '30m')
  t.ok(daemon.kicked.includes(other), 'one that ends sooner comes back with the new end')
  const again = (await daemon.check(next, CHANNEL)).header('x-auth-kick') ?? ''
  await daemon.stop()
  daemon.clock.advance(1800)
  await daemon.start()
  await until('it ended while nobody looked', () => daemon.kicked.includes(again))
})

void t.test('`policy explain` knows a key by its name', async (t) => {
  const { daemon, add } = await setUp(t)
  await add('board', '--grants', 'subscribe:users-*')
  const explain = (user: string, resource: string) =>
    runCommand(policy, [
      'explain',
      '--user',
      user,
      '--action',
      'subscribe',
      '--resource',
      resource,
      '--config',
      daemon.place.config,
    ])
  t.match(await explain('key:board', 'users-state'), {
    status: 0,
    out: 'allowed: key:board has the grant subscribe:users-*',
  })
  t.match(await explain('key:board', 'contacts'), {
    status: 1,
    out: 'refused (no_grant): key:board has only subscribe:users-*',
  })
  await add('all', '--grants', 'subscribe:**')
  t.match(await explain('key:all', 'me/calls'), { status: 1, out: /no_grant/ }, 'as a check says')
  t.match(await explain('key:none', 'contacts'), { status: 1, out: /unknown_machine_key/ })
  await daemon.stop()
  t.match(await explain('key:board', 'contacts'), {
    err: /only it has the machine keys: start it/,
  })
})

void t.test('`policy explain` believes no grant that it cannot read', async (t) => {
  const place = makePlace(t)
  place.configure()
  const keys = [{ name: 'board', state: 'active', grants: ['subscribe:x', 'dance:x'] }]
  const server = createServer((_, response) => response.end(JSON.stringify({ keys })))
  server.listen(place.at('control.sock'))
  t.teardown(() => server.close())
  await once(server, 'listening')
  const asked = ['--user', 'key:board', '--action', 'subscribe', '--resource', 'x']
  const ran = await runCommand(policy, ['explain', ...asked, '--config', place.config])
  t.match(ran, { status: 1, out: /no_grant.*only subscribe:x, dance:x/ })
})

void t.test('what is wrong is told with its cure, and nothing is asked', async (t) => {
  const place = makePlace(t)
  place.configure()
  const at = ['--config', place.config]
  for (const [argv, why] of [
    [['add', 'Wall', '--grants', 'read:x'], /NAME is up to 40/],
    [['add', 'k'], /--grants GRANT,… is missing/],
    [['add', 'k', '--grants', ' , '], /name at least one/],
    [['add', 'k', '--grants', 'read:{username}'], /--grants: read:\{username\} has a brace/],
    [
      ['add', 'k', '--grants', 'read:x', '--from', '10.0.0.0/40'],
      /--from: 10.0.0.0\/40 is no network/,
    ],
    [['add', 'k', '--grants', 'read:x', '--from', ','], /--from: name at least one/],
    [['add', 'k', '--grants', 'read:x', '--expires', 'soon'], /--expires: write a date/],
    [['add', 'k', '--grants', 'read:x', '--expires', '2001-01-01'], /--expires: write a date/],
    ...['2030-02-30', '2031-04-31T10:00Z', '2030-01-31T18:00', '2030-13-01', '12030-01-01', ''].map(
      (date) =>
        [['add', 'k', '--grants', 'read:x', '--expires', date], /--expires: write a date/] as const,
    ),
    [['add', 'key_0123456789abcdef', '--grants', 'read:x'], /and not with key_/],
    [['rotate', 'k', '--old-until', '0h'], /--old-until: write a date/],
    [['rotate', 'K'], /NAME is up to 40/],
    [['remove'], /NAME\|ID is missing/],
  ] as const) {
    const { status, err } = await runCommand(machineKey, [...argv, ...at])
    t.not(status, 0)
    t.match(err, why, argv.join(' '))
  }
})

void t.test('without a daemon nothing is done', async (t) => {
  const place = makePlace(t)
  place.configure()
  const at = ['--config', place.config]
  for (const argv of [
    ['list'],
    ['add', 'k', '--grants', 'read:x', '--expires', '2999-12-31T10:00:00+02:00'],
    ['rotate', 'k'],
    ['remove', 'k'],
  ]) {
    const { err } = await runCommand(machineKey, [...argv, ...at])
    t.match(err, /the daemon is not running, and only it has the machine keys/, argv.join(' '))
  }
})

void t.test('a date is the beginning of that day', async (t) => {
  const { add, list } = await setUp(t)
  await add('k', '--grants', 'read:x', '--expires', '2027-03-01')
  await add('l', '--grants', 'read:x', '--expires', '90d')
  t.match(await list(), [
    { expires_at: Date.UTC(2027, 2, 1) / 1000 },
    { expires_at: NOW + 90 * DAY },
  ])
})
