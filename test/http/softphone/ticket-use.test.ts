// What a ticket, a cookie and an own channel are worth at the check: exactly what they say, and for no longer.

import t from 'tap'

import { bearer, JSON_TYPE, startTestDaemon, V1 } from '../../fixtures/daemon.ts'
import { checkPath } from '../../fixtures/postern.ts'

const daemon = await startTestDaemon(t)
const PATH = `${V1}/auth/ticket`
let requests = 0

const request = (token: string, body: unknown) =>
  daemon.ask(PATH, {
    headers: { ...JSON_TYPE, ...bearer(token) },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
const get = async (token: string, body: Record<string, unknown>): Promise<string> => {
  const answer = await request(token, body)
  t.equal(answer.status, 200, answer.body)
  return (answer.json() as { ticket: string }).ticket
}
/** The check's answer to `?ticket=…` for this action and resource: its status and reason. */
const use = async (
  ticket: string,
  action: string,
  resource: string,
  headers: Record<string, string> = {},
): Promise<string> => {
  const answer = await daemon.ask(checkPath(resource), {
    headers: {
      'X-Auth-Action': action,
      'X-Auth-Accept': 'header query ticket cookie',
      'X-Original-URI': `/x?ticket=${ticket}`,
      'X-Request-ID': `request-${requests++}`,
      ...headers,
    },
  })
  return [answer.status, answer.header('x-auth-reason')].filter(Boolean).join(' ')
}
const RECORDING = 'recordings/2026/a.mp3'

void t.test('a ticket is given in seconds, within bounds', async (t) => {
  const { access } = await daemon.softphone()
  const good = { action: 'read', resource: RECORDING }
  t.match((await request(access, good)).json(), { success: true, ticket: /^eyJ/, expires_in: 30 })
  t.match((await request(access, { ...good, ttl: 600 })).json(), { expires_in: 600 })
  for (const [body, error] of [
    [{ ...good, ttl: 601 }, /from 1 to 600/],
    [{ ...good, ttl: 0 }, /from 1 to 600/],
    [{ ...good, ttl: '30' }, /number of seconds/],
    [{ action: 'read' }, /action and resource/],
    [{ resource: RECORDING }, /action and resource/],
    [{ action: 'eat', resource: RECORDING }, /action must be/],
    ['[]', /action and resource/],
    ['{', /action and resource/],
  ] as const) {
    const answer = await request(access, body)
    t.equal(answer.status, 400)
    t.match(answer.json(), { success: false, error })
  }
  t.equal((await request(access, 'x'.repeat(9000))).status, 413)
  t.equal((await request('x', good)).status, 401)
  const denied = await request(access, { action: 'publish', resource: 'users-state' })
  t.equal(denied.status, 403)
  t.match(denied.header('www-authenticate'), /insufficient_scope/)
  t.ok((await daemon.metric('postern_tickets_total{result="no_grant"}')) > 0)
})

void t.test('for one recording it opens that one, as often as it is asked', async (t) => {
  const { access } = await daemon.softphone()
  const ticket = await get(access, { action: 'read', resource: RECORDING })
  for (let range = 0; range < 3; range++) t.equal(await use(ticket, 'read', RECORDING), '204')
  t.equal(await use(ticket, 'read', 'recordings/2026/b.mp3'), '401 ticket_mismatch')
  t.equal(await use(ticket, 'subscribe', 'users-state'), '401 ticket_mismatch')
  t.equal(await use(ticket, 'connect', 'sip'), '401 ticket_mismatch')
  daemon.clock.advance(30)
  t.equal(await use(ticket, 'read', RECORDING), '401 expired')

  const folder = await get(access, { action: 'read', resource: 'recordings/2026/*' })
  t.equal(await use(folder, 'read', RECORDING), '204')
  t.equal(await use(folder, 'read', 'recordings/2026/11/a.mp3'), '401 ticket_mismatch')
  t.equal(await use(folder, 'read', 'recordings/2025/a.mp3'), '401 ticket_mismatch')
})

void t.test('for a channel it is good once, also across a restart', async (t) => {
  const { access } = await daemon.softphone()
  const channel = { action: 'subscribe', resource: 'users-state' }
  const ticket = await get(access, channel)
  const id = { 'X-Request-ID': 'the-same' }
  t.equal(
    await use(ticket, 'subscribe', 'contacts'),
    '401 ticket_mismatch',
    'and is not spent by it',
  )
  t.equal(await use(ticket, 'subscribe', 'users-state', id), '204')
  t.equal(await use(ticket, 'subscribe', 'users-state', id), '204', 'nginx asks twice')
  t.equal(await use(ticket, 'subscribe', 'users-state'), '401 ticket_used')
  await daemon.restart()
  t.equal(await use(ticket, 'subscribe', 'users-state'), '401 ticket_used')
  daemon.clock.advance(6)
  t.equal(await use(ticket, 'subscribe', 'users-state', id), '401 ticket_used', 'not much later')

  const unnamed = await get(access, channel)
  const none = {
    'X-Auth-Accept': 'header',
    'X-Auth-Action': 'subscribe',
  }
  const statuses = []
  for (let at = 0; at < 2; at++) {
    const headers = {
      ...none,
      'X-Auth-Accept': 'ticket',
      'X-Original-URI': `/x?ticket=${unnamed}`,
    }
    statuses.push((await daemon.ask(checkPath('users-state'), { headers })).status)
  }
  t.same(statuses, [204, 401], 'two requests without an id are two')
})

void t.test('it is nothing but a ticket, and dies with its session', async (t) => {
  const { access } = await daemon.softphone()
  const ticket = await get(access, { action: 'read', resource: RECORDING, ttl: 600 })
  t.equal((await daemon.ask(`${V1}/profile`, { headers: bearer(ticket) })).status, 403)
  t.equal((await daemon.check(ticket)).status, 401)
  t.equal(await use(access, 'read', RECORDING), '401 wrong_type', 'nor is a token a ticket')
  const logout = (token: string) =>
    daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(token) })
  t.equal((await logout(ticket)).status, 401)
  t.equal(await use(ticket, 'read', RECORDING), '204')
  t.equal(
    await use(ticket, 'read', RECORDING, bearer(access)),
    '401 invalid_request',
    'two at once',
  )
  t.equal((await logout(access)).status, 200)
  t.equal(await use(ticket, 'read', RECORDING), '401 session_ended')
})

void t.test('for SIP it is shown again and again, until its session ends', async (t) => {
  const { access } = await daemon.softphone()
  const ticket = await get(access, { action: 'connect', resource: 'sip' })
  const connect = (): Promise<string> => use(ticket, 'connect', 'sip')
  t.equal(await connect(), '204')
  t.equal(await use(ticket, 'connect', 'door'), '401 ticket_mismatch')
  daemon.clock.advance(11 * 3600)
  t.equal(await connect(), '204', 'long after its access token')
  await daemon.restart()
  t.equal(await connect(), '204')
  t.equal(await connect(), '204')
  const logout = { method: 'POST', headers: bearer(access) }
  t.equal((await daemon.ask(`${V1}/auth/logout`, logout)).status, 200)
  t.equal(await connect(), '401 session_ended')
  await daemon.restart()
  t.equal(await connect(), '401 session_ended')
  t.equal(await connect(), '401 session_ended')
})

void t.test('what it was given for may be taken away', async (t) => {
  const { access } = await daemon.softphone()
  const ticket = await get(access, { action: 'read', resource: RECORDING, ttl: 600 })
  await daemon.reload({ 'roles.user': 'grants = ["subscribe:users-state"]' })
  t.equal(await use(ticket, 'read', RECORDING), '403 no_grant')
  await daemon.reload({})
  t.equal(await use(ticket, 'read', RECORDING), '204')
})

void t.test('at the check a cookie must come from a page of ours', async (t) => {
  const { access } = await daemon.softphone()
  const check = async (resource: string, headers: Record<string, string>): Promise<string> => {
    const answer = await daemon.ask(checkPath(resource), {
      headers: {
        'X-Auth-Action': resource === 'sip' ? 'connect' : 'subscribe',
        'X-Auth-Accept': 'header query ticket cookie',
        'X-Original-URI': '/x',
        'X-Forwarded-Proto': 'https',
        'X-Forwarded-Host': 'pbx.test',
        Cookie: `__Host-postern=${access}`,
        ...headers,
      },
    })
    return [answer.status, answer.header('x-auth-reason')].filter(Boolean).join(' ')
  }
  const ws = { 'X-Original-Upgrade': 'WebSocket' }
  const ours = { Origin: 'https://pbx.test' }
  const foreign = { Origin: 'https://evil.test' }
  const rows: [what: string, resource: string, headers: Record<string, string>, status: string][] =
    [
      ['EventSource of our page', 'users-state', {}, '204'],
      ['EventSource of another', 'users-state', foreign, '403 cross_site'],
      ['by Sec-Fetch-Site', 'users-state', { 'Sec-Fetch-Site': 'cross-site' }, '403 cross_site'],
      ['WebSocket of our page', 'users-state', { ...ws, ...ours }, '204'],
      ['WebSocket of another', 'users-state', { ...ws, ...foreign }, '403 cross_site'],
      ['WebSocket that does not say', 'users-state', ws, '403 cross_site'],
      ['SIP that does not say', 'sip', {}, '403 cross_site'],
      ['SIP of our page', 'sip', ours, '204'],
      ['an explicit one beats it', 'users-state', { ...foreign, ...bearer(access) }, '204'],
      ['a bad one does not fall back', 'users-state', bearer('x'), '401 malformed_token'],
      [
        'where it does not count',
        'users-state',
        { 'X-Auth-Accept': 'header' },
        '401 no_credential',
      ],
      ['nothing in it', 'users-state', { Cookie: '__Host-postern=' }, '401 no_credential'],
      [
        'two',
        'users-state',
        { Cookie: '__Host-postern=a; __Host-postern=b' },
        '401 invalid_request',
      ],
    ]
  for (const [what, resource, headers, status] of rows) {
    t.equal(await check(resource, headers), status, what)
  }
})

void t.test('the own channel is named by the daemon', async (t) => {
  const { access } = await daemon.softphone()
  const own = {
    'X-Auth-Accept': 'header',
    'X-Auth-Action': 'subscribe',
    resource: 'me/users-state',
  }
  const answer = await daemon.check(access, own)
  t.equal(answer.status, 204)
  t.match(answer.header('x-auth-channel'), /^users-state-user-\d+$/)
  t.match(answer.header('x-auth-kick'), /^kick-[\w-]{22}$/)
  const again = await daemon.check(access, own)
  t.equal(again.header('x-auth-kick'), answer.header('x-auth-kick'), 'shared')
  const alone = { ...own, 'X-Original-Upgrade': 'websocket' }
  const first = (await daemon.check(access, alone)).header('x-auth-kick')
  const second = (await daemon.check(access, alone)).header('x-auth-kick')
  t.equal(new Set([first, second, again.header('x-auth-kick')]).size, 3, 'a WebSocket has its own')

  const admin = await daemon.softphone('900')
  for (const resource of [
    'recordings/a.mp3',
    'kick-abc',
    'Users',
    'me/a/b',
    `me/${'a'.repeat(41)}`,
  ]) {
    const refused = await daemon.check(admin.access, { ...own, resource })
    t.equal(refused.header('x-auth-reason'), 'bad_resource', resource)
  }
})
