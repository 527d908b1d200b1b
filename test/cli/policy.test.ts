// `postern policy explain`: the same answer as a check would give, with the grant that gives it.

import t from 'tap'

import { policy } from '../../src/cli/policy.ts'
import { insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import { HASH, makePlace } from '../fixtures/postern.ts'
import { runCommand } from './run.ts'

const explain = (config: string, user: string, action: string, resource: string) =>
  runCommand(
    policy,
    `explain --config ${config} --user ${user} --action ${action} --resource ${resource}`.split(
      ' ',
    ),
  )

void t.test('while the daemon is down, the files answer', async (t) => {
  const place = makePlace(t)
  place.configure({
    'roles.user':
      'grants = ["subscribe:users-state", "read:recordings/{username}/**", "subscribe:own-{id}"]',
    'roles.guest': 'grants = []',
  })
  place.users(`201:${HASH}:user`, `203:!${HASH}:user`, `9:${HASH}:guest`, `8:${HASH}:ghost`)
  const rows: readonly (readonly [string, string, string, number, string])[] = [
    [
      ...(['201', 'subscribe', 'users-state', 0] as const),
      'allowed: 201 has the role user, which has the grant subscribe:users-state',
    ],
    [
      ...(['201', 'read', 'recordings/201/a.wav', 0] as const),
      'allowed: 201 has the role user, which has the grant read:recordings/{username}/**',
    ],
    [
      ...(['201', 'read', 'recordings/202/a.wav', 1] as const),
      'refused (no_grant): 201 has the role user, which grants only read:recordings/{username}/**',
    ],
    [
      ...(['201', 'connect', 'sip', 1] as const),
      'refused (no_grant): 201 has the role user, which grants nothing for connect',
    ],
    [
      ...(['201', 'subscribe', 'own-1', 1] as const),
      'refused (no_grant): 201 has the role user, which grants only subscribe:users-state, subscribe:own-{id} (the number for {id} is not known while the daemon is down)',
    ],
    [
      ...(['9', 'read', 'x', 1] as const),
      'refused (no_grant): 9 has the role guest, which grants nothing for read',
    ],
    [
      ...(['8', 'read', 'x', 1] as const),
      'refused (unknown_role): the role ghost has no [roles.ghost] in the config',
    ],
    [...(['203', 'read', 'x', 1] as const), 'refused (user_disabled): 203 is disabled'],
    [...(['404', 'read', 'x', 1] as const), 'refused (user_removed): no source knows 404'],
    [
      ...(['201', 'eat', 'x', 1] as const),
      'refused (bad_action): use one of read, write, subscribe, connect, publish',
    ],
    [
      ...(['201', 'read', 'a/../b', 1] as const),
      'refused (bad_resource): no location may name this: at most 1024 characters, none of them a control character, no empty or dot segment',
    ],
  ]
  for (const [user, action, resource, status, out] of rows) {
    t.same(await explain(place.config, user, action, resource), { status, out, err: '' })
  }
})

void t.test('of a CDR it tells who took part, or why it cannot be read', async (t) => {
  const place = makePlace(t)
  const file = place.at('cdr.db')
  place.configure({ calls: `sources = ["cdr"]\ncdr_file = "${file}"` })
  place.users(`201:${HASH}:user`)
  const writer = startWriter(t, file)
  await writer.run(TABLE, insertCall('2026/a.wav'))
  const { out } = await explain(place.config, '201', 'read', 'recordings/2026/a.webm')
  t.match(out, /^allowed: .*: 201 took part in the call of 2026\/a.webm \(cdr: 201\)$/)
  await writer.run('DROP TABLE cdr_general')
  t.match(await explain(place.config, '201', 'read', 'recordings/2026/a.webm'), {
    status: 1,
    out: '',
    err: /has no table cdr_general: correct calls.cdr_table/,
  })
})

void t.test('of own calls it tells which call, who took part, and who says so', async (t) => {
  const place = makePlace(t)
  place.configure({ calls: 'sources = ["names"]' })
  place.users(`201:${HASH}:user`, `202:${HASH}:user`, `anna:${HASH}:user`, `9:${HASH}:admin`)
  const out = '2026/11/28/out-15551230202-201-20261128-101500-1795860900.12.wav'
  const queue = 'q-400-201-20261128-112007-1795864807.117.wav'
  const hears = 'has the role user, which has the grant read:recordings/{own_calls}'
  const only = 'has the role user, which grants only read:recordings/{own_calls}'
  for (const [user, resource, status, answer] of [
    [
      '201',
      `recordings/${out}`,
      0,
      `allowed: 201 ${hears}: 201 took part in the call of ${out} (names: 201)`,
    ],
    [
      '202',
      `recordings/${out}`,
      1,
      `refused (no_grant): 202 ${only}: 202 surely took no part in the call of ${out} (names: 201)`,
    ],
    [
      '201',
      `recordings/${queue}`,
      1,
      `refused (no_grant): 201 ${only}: 201 surely took no part in the call of ${queue} (names: nobody)`,
    ],
    [
      '201',
      'recordings/201.wav',
      1,
      `refused (unknown_call): 201 ${only}: no source knows whose call 201.wav is`,
    ],
    [
      'anna',
      `recordings/${out}`,
      1,
      `refused (no_grant): anna ${only}: anna has no number, so no call is surely theirs`,
    ],
    ['201', 'voicemail/201.wav', 1, `refused (no_grant): 201 ${only}`],
    ['9', `recordings/${out}`, 0, 'allowed: 9 has the role admin, which has the grant read:**'],
  ] as const) {
    t.same(await explain(place.config, user, 'read', resource), { status, out: answer, err: '' })
  }
})

void t.test('the running daemon knows the number of a user', async (t) => {
  const daemon = await startTestDaemon(t, {
    sections: { 'roles.user': 'grants = ["subscribe:own-{id}"]' },
  })
  const { out } = await explain(daemon.place.config, '201', 'subscribe', 'own-1')
  t.equal(out, 'allowed: 201 has the role user, which has the grant subscribe:own-{id}')
})

void t.test('a source that is away is no answer', async (t) => {
  const place = makePlace(t)
  place.configure({
    users: 'sources = ["http"]',
    http_users:
      'login_url = "http://unix:/nowhere.sock:/l"\nlookup_url = "http://unix:/nowhere.sock:/u"',
  })
  const { status, err } = await explain(place.config, '201', 'read', 'x')
  t.equal(status, 1)
  t.match(err, /does not answer/)
})

void t.test('wrong usage and a bad configuration say so', async (t) => {
  const place = makePlace(t)
  for (const argv of [
    [],
    ['explain'],
    ['explain', '--user', '201'],
    ['explain', '--frob'],
    ['x', '--user', 'a', '--action', 'read', '--resource', 'b'],
  ]) {
    const { status, err } = await runCommand(policy, argv)
    t.equal(status, 64, argv.join(' '))
    t.match(err, /usage: postern policy explain/)
  }
  place.configure({ listen: 'frob = 1' })
  const { status, err } = await explain(place.config, '201', 'read', 'x')
  t.equal(status, 78)
  t.match(err, /frob/)
})
