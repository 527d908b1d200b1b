// POST /auth/ticket with a machine key: a ticket in a user's name, for what the user may, and for as long as both stand.

import { writeFileSync } from 'node:fs'
import t, { type Test } from 'tap'

import { createActFor } from '../../../src/auth/act-for.ts'
import type { Identity } from '../../../src/auth/check.ts'
import { parseMachineGrants } from '../../../src/auth/machine-key.ts'
import { createMachineKeyCommand } from '../../../src/cli/machine-key.ts'
import { session } from '../../../src/cli/session.ts'
import { runCommand } from '../../cli/run.ts'
import { createTestClock, NOW } from '../../fixtures/clock.ts'
import { bearer, HASH, JSON_TYPE, startTestDaemon, USERS, V1 } from '../../fixtures/daemon.ts'
import { until } from '../../fixtures/postern.ts'

const READ = { action: 'read', resource: 'recordings/201.wav' }
const LISTEN = { action: 'subscribe', resource: 'users-state' }

const setUp = async (t: Test, grants = 'ticket:2*', ...more: string[]) => {
  const daemon = await startTestDaemon(t, {
    sections: {
      'roles.user':
        'grants = ["subscribe:users-state", "subscribe:me/*", "read:recordings/{username}.wav", "read:calls/{own_calls}"]',
      calls: 'sources = ["names"]',
    },
  })
  const config = ['--config', daemon.place.config]
  const command = createMachineKeyCommand(daemon.clock.now)
  const machineKey = (...argv: string[]) => runCommand(command, [...argv, ...config])
  const { out: key } = await machineKey('add', 'crm', '--grants', grants, ...more)
  const ask = (fields: object, token = key) =>
    daemon.ask(`${V1}/auth/ticket`, {
      headers: { ...JSON_TYPE, ...bearer(token) },
      body: JSON.stringify(fields),
    })
  const ticketFor = async (user: string, fields: object = READ): Promise<string> => {
    const answer = await ask({ user, ...fields })
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.body}`)
    return String(answer.json()['ticket'])
  }
  const use = async (ticket: string, { action, resource } = READ) => {
    const answer = await daemon.check('', {
      Authorization: [],
      'X-Auth-Accept': 'ticket',
      'X-Auth-Action': action,
      'X-Original-URI': `/x?ticket=${ticket}`,
      resource,
    })
    return answer.status === 204 ? 'allowed' : answer.header('x-auth-reason')
  }
  const end = (...argv: string[]) => runCommand(session, ['end', ...argv, ...config])
  return { daemon, key, machineKey, ask, ticketFor, use, end }
}

void t.test('a ticket for one user’s recording, and no more than that user may', async (t) => {
  const { daemon, key, ask, ticketFor, use } = await setUp(t)
  const ticket = await ticketFor('201')
  t.equal(await use(ticket), 'allowed')
  t.equal(await use(ticket), 'allowed', 'as any ticket to read')
  t.equal(await use(ticket, { ...READ, resource: 'recordings/202.wav' }), 'ticket_mismatch')
  t.equal(
    (await daemon.check(key, { resource: READ.resource })).status,
    403,
    'the key itself may not',
  )
  for (const [fields, status, words] of [
    [{ user: '202', ...READ }, 403, 'no right to it'],
    [{ user: '201', action: 'read', resource: 'recordings/**' }, 403, 'no right to it'],
    [{ user: '900', ...READ }, 403, 'makes no tickets for that user'],
    [{ user: 'key:crm', ...READ }, 403, 'makes no tickets for that user'],
    [{ user: '204', ...READ }, 403, 'is unknown'],
    [{ user: '203', ...READ }, 403, 'is disabled'],
    [READ, 400, 'says for which user'],
    [{ user: 201, ...READ }, 400, 'says for which user'],
    [{ user: '201', action: 'connect', resource: 'sip' }, 400, 'to read or to subscribe'],
    [{ user: '201', action: 'read' }, 400, 'action and resource'],
    [{ user: '201', ...READ, ttl: 601 }, 400, 'ttl must be'],
  ] as const) {
    const answer = await ask(fields)
    t.equal(answer.status, status, answer.body)
    t.match(answer.json()['error'], words)
  }
  const own = await daemon.softphone('201')
  const byUser = await ask({ user: '201', ...READ }, own.access)
  t.match(byUser.json()['error'], 'Only a machine key names a user')
  t.equal((await ask(READ, own.access)).status, 200)
  t.match(
    (await daemon.securityLog()).match(/AUTH_SUCCESS\] session opened by key:crm .* User: \d+/g),
    [/201$/, /202$/],
  )
})

void t.test('a ticket for a call that the user took part in', async (t) => {
  const { ask, ticketFor, use } = await setUp(t)
  const own = {
    action: 'read',
    resource: 'calls/internal-202-201-20261122-101500-1795342500.12.wav',
  }
  t.equal(await use(await ticketFor('201', own), own), 'allowed')
  const other = { ...own, resource: own.resource.replace('202-201', '202-900') }
  t.equal((await ask({ user: '201', ...other })).status, 403)
})

void t.test(
  '201’s own call, by a machine key of its own rights and by a link of the CRM',
  async (t) => {
    const DATED = '20261128-101500-1795860900'
    const own = `recordings/2026/11/28/out-15551230202-201-${DATED}.12.wav`
    const others = `recordings/2026/11/28/external-202-201-${DATED}.13.wav`
    const daemon = await startTestDaemon(t, { sections: { calls: 'sources = ["names"]' } })
    const command = createMachineKeyCommand(daemon.clock.now)
    const add = async (name: string, grants: string): Promise<string> => {
      const config = ['--config', daemon.place.config]
      return (await runCommand(command, ['add', name, '--grants', grants, ...config])).out
    }
    const archive = await add('archive', 'read:recordings/2026/**')
    t.same(
      [
        (await daemon.check(archive, { resource: own })).status,
        (await daemon.check(archive, { resource: others })).status,
        (await daemon.check(archive, { resource: 'recordings/2025/a.wav' })).status,
      ],
      [204, 204, 403],
      'a key hears what its grants say: it takes part in no call',
    )
    const crm = await add('crm', 'ticket:*')
    const order = async (user: string, resource: string) => {
      const answer = await daemon.ask(`${V1}/auth/ticket`, {
        headers: { ...JSON_TYPE, ...bearer(crm) },
        body: JSON.stringify({ user, action: 'read', resource }),
      })
      return answer.status === 200 ? String(answer.json()['ticket']) : answer.status
    }
    const play = async (ticket: string | number, resource: string) =>
      (
        await daemon.check('', {
          Authorization: [],
          'X-Auth-Accept': 'ticket',
          'X-Original-URI': `/x?ticket=${ticket}`,
          resource,
        })
      ).status
    t.equal(await play(await order('201', own), own), 204)
    t.equal(await order('201', others), 403, 'another’s call, at once')
    const folder = await order('201', 'recordings/2026/**')
    t.equal(await play(folder, own), 204)
    t.equal(await play(folder, others), 403, 'and when it is shown')
    t.equal(await play(await order('900', others), others), 204, 'who hears all')
  },
)

void t.test('a key without such a grant makes none', async (t) => {
  const { ask } = await setUp(t, 'read:**,subscribe:**')
  t.match((await ask({ user: '201', ...READ })).json()['error'], 'makes no tickets for that user')
})

void t.test(
  'one session for many tickets, and none of the user’s own gives way to it',
  async (t) => {
    const { daemon, ticketFor, end } = await setUp(t)
    await daemon.reload({ sessions: 'per_user = 1' })
    const own = await daemon.softphone('201')
    await Promise.all(Array.from({ length: 30 }, () => ticketFor('201')))
    for (let n = 0; n < 5; n++) await ticketFor('201')
    const answer = await daemon.ask(`${V1}/auth/sessions`, { headers: bearer(own.access) })
    const { sessions } = answer.json() as { sessions: { agent: string }[] }
    t.equal(sessions.length, 2, 'the user sees it')
    t.ok(sessions.some(({ agent }) => agent === 'key:crm'))
    daemon.clock.advance(3601)
    await ticketFor('201')
    t.match(
      await end('--user', '201'),
      { out: '3 sessions ended' },
      'a new one where the old is too short',
    )
  },
)

for (const [title, act] of [
  [
    'the user logs out',
    async ({ daemon }, own) => {
      await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(own) })
    },
  ],
  [
    'the user logs out everywhere',
    async ({ daemon }, own) => {
      await daemon.ask(`${V1}/auth/logout?all=true`, { method: 'POST', headers: bearer(own) })
    },
  ],
  [
    'the operator ends the user’s sessions',
    async ({ end }) => {
      await end('--user', '201')
    },
  ],
  [
    'the operator ends all sessions',
    async ({ end }) => {
      await end('--all')
    },
  ],
  [
    'the key is removed',
    async ({ machineKey }) => {
      await machineKey('remove', 'crm')
    },
  ],
  [
    'the user is disabled',
    async ({ daemon }) => {
      daemon.place.users(`201:!${HASH}:user:Anna`, ...USERS.slice(1))
      await daemon.control('/users/reload', { method: 'POST' })
    },
  ],
  [
    'the user is removed',
    async ({ daemon }) => {
      daemon.place.users(...USERS.slice(1))
      await daemon.control('/users/reload', { method: 'POST' })
    },
  ],
  [
    'the user has another role',
    async ({ daemon }) => {
      daemon.place.users(`201:${HASH}:guest:Anna`, ...USERS.slice(1))
      await daemon.control('/users/reload', { method: 'POST' })
    },
  ],
  [
    'the role may do less',
    async ({ daemon }) => {
      await daemon.reload({ 'roles.user': 'grants = ["write:x"]' })
    },
  ],
] as const satisfies readonly (readonly [
  string,
  (rig: Awaited<ReturnType<typeof setUp>>, own: string) => Promise<void>,
])[]) {
  void t.test(`it ends when ${title}`, async (t) => {
    const rig = await setUp(t)
    const { daemon, ticketFor, use } = rig
    const own = await daemon.softphone('201')
    const ticket = await ticketFor('201')
    const other = await ticketFor('202', { action: 'read', resource: 'recordings/202.wav' })
    const toListen = await ticketFor('201', LISTEN)
    const opened = await daemon.check('', {
      Authorization: [],
      'X-Auth-Accept': 'ticket',
      'X-Auth-Action': 'subscribe',
      'X-Original-URI': `/x?ticket=${toListen}`,
      resource: LISTEN.resource,
    })
    const kick = opened.header('x-auth-kick') ?? ''
    t.equal(await use(ticket), 'allowed')
    await daemon.restart()
    t.equal(await use(ticket), 'allowed', 'a restart ends nothing')
    t.notOk(daemon.kicked.includes(kick))
    await act(rig, own.access)
    t.not(await use(ticket), 'allowed')
    await until('its stream is closed', () => daemon.kicked.includes(kick))
    await daemon.restart()
    t.not(await use(ticket), 'allowed', 'nor after a restart')
    const isForAll = /all sessions|the key|less/.test(title)
    const others = await use(other, { action: 'read', resource: 'recordings/202.wav' })
    t.equal(others === 'allowed', !isForAll, 'another user’s is another matter')
  })
}

void t.test('a ticket never outlives the key', async (t) => {
  const { daemon, ask, ticketFor, use } = await setUp(t, 'ticket:*', '--expires', '1m')
  const answer = await ask({ user: '201', ...READ, ttl: 600 })
  t.equal(answer.json()['expires_in'], 60)
  const listening = await ticketFor('201', LISTEN)
  daemon.clock.advance(60)
  t.equal(await use(String(answer.json()['ticket'])), 'expired')
  t.equal(await use(listening, LISTEN), 'expired')
})

void t.test('whose source is away gets none, and nothing is opened', async (t) => {
  const machine = parseMachineGrants(['ticket:*'])
  if ('problem' in machine) throw new Error(machine.problem)
  const never = async (): Promise<never> => {
    throw new Error('asked')
  }
  const actFor = createActFor({
    users: { lookup: async () => ({ unavailable: 'source_away' }), peek: () => undefined },
    store: { identify: never, listSessions: never, openSession: never },
    sessions: { end: never },
    accessTtl: 60,
    clock: createTestClock(),
  })
  const holder = { claims: { machine, exp: NOW + 60 }, role: '' } as unknown as Identity
  t.same(await actFor(holder, '201', ''), { unavailable: 'source_away' })
  t.same(
    await actFor(
      { ...holder, claims: { ...holder.claims, machine: undefined } } as never,
      '201',
      '',
    ),
    {
      refused: 'no_grant',
    },
  )
})

void t.test('whose password changes while it is made gets none', async (t) => {
  const { daemon, ask } = await setUp(t)
  const claims = { machine: parseMachineGrants(['ticket:*']), sid: 'key_0123456789abcdef' }
  const user = { name: '201', role: 'user', displayName: '', credential: 'old' }
  let today = user
  const ended: string[][] = []
  const actFor = createActFor({
    users: { lookup: async () => ({ user }), peek: () => ({ user: today }) },
    sessions: {
      async end(...asked) {
        ended.push(asked)
        return undefined
      },
    },
    store: {
      identify: async () => 1,
      listSessions: async () => [],
      async openSession() {
        today = { ...user, credential: 'new' }
        return []
      },
    },
    accessTtl: 60,
    clock: createTestClock(),
  })
  const holder = { claims: { ...claims, exp: NOW + 60 }, role: '' } as unknown as Identity
  const both = await Promise.all([actFor(holder, '201', ''), actFor(holder, '201', '')])
  t.same(
    both,
    [{ unavailable: 'source_away' }, { unavailable: 'source_away' }],
    'it is asked again',
  )
  t.match(ended, [[/^key_0123456789abcdef-/, 'password_changed']], 'and no session is left behind')
  t.equal(ended.length, 1)
  t.equal((await ask({ user: '201', ...READ })).status, 200)
  daemon.place.users(`201:!${HASH}:user:Anna`, ...USERS.slice(1))
  const [, ...answers] = await Promise.all([
    daemon.control('/users/reload', { method: 'POST' }),
    ...Array.from({ length: 20 }, () => ask({ user: '201', ...READ })),
  ])
  const tickets = answers.filter(({ status }) => status === 200)
  for (const ticket of tickets) {
    const shown = await daemon.check('', {
      Authorization: [],
      'X-Auth-Accept': 'ticket',
      'X-Original-URI': `/x?ticket=${String(ticket.json()['ticket'])}`,
      resource: READ.resource,
    })
    t.equal(shown.status, 401)
  }
})

void t.test('while a service of users is away the answer is a 503', async (t) => {
  const daemon = await startTestDaemon(t, {
    sections: {
      http_users:
        'login_url = "http://127.0.0.1:9/login"\nlookup_url = "http://127.0.0.1:9/lookup"',
    },
  })
  writeFileSync(daemon.place.config, readUsers(daemon.place.text()))
  await daemon.restart()
  const config = ['--config', daemon.place.config]
  const command = createMachineKeyCommand(daemon.clock.now)
  const { out } = await runCommand(command, ['add', 'crm', '--grants', 'ticket:*', ...config])
  const answer = await daemon.ask(`${V1}/auth/ticket`, {
    headers: { ...JSON_TYPE, ...bearer(out) },
    body: JSON.stringify({ user: 'anna', ...READ }),
  })
  t.equal(answer.status, 503)
  t.equal(answer.header('retry-after'), '1')
})

/** With a service beside the file. */
const readUsers = (text: string): string => text.replace('[users]', '[users]\nsources = ["http"]')
