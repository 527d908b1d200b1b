// `postern policy explain`: the same answer as a check would give, with the grant that gives it.

import t from 'tap'

import { policy } from '../../src/cli/policy.ts'
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
