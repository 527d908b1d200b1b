// POST /auth/ticket, against the real daemon: never more than whoever asks may do, and never for longer.

import t from 'tap'

import { NOW } from '../../fixtures/clock.ts'
import {
  type Answer,
  type Ask,
  bearer,
  JSON_TYPE,
  startTestDaemon,
  V1,
} from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const user = await daemon.softphone('201')
const PATH = `${V1}/auth/ticket`
const order = (body: unknown, headers: Ask['headers'] = bearer(user.access)): Promise<Answer> =>
  daemon.ask(PATH, {
    headers: { ...JSON_TYPE, ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

void t.test('a ticket names its one action and resource and dies with its token', async (t) => {
  const answer = await order({ action: 'read', resource: 'recordings/2026/**' })
  t.equal(answer.status, 200)
  t.same(Object.keys(answer.json()), ['success', 'ticket', 'expires_in'])
  t.match(answer.json(), { success: true, expires_in: 30 })
  t.match(daemon.claimsOf(String(answer.json()['ticket'])), {
    type: 'ticket',
    username: '201',
    sid: daemon.claimsOf(user.access)['sid'],
    action: 'read',
    resource: 'recordings/2026/**',
    exp: NOW + 30,
  })
  const file = { action: 'read', resource: 'recordings/a.wav', ttl: 600 }
  t.match((await order(file)).json(), { expires_in: 600 })
  daemon.clock.advance(3590)
  t.match((await order(file)).json(), { expires_in: 10 })
  const sip = { action: 'connect', resource: 'sip' }
  t.match((await order(sip)).json(), { expires_in: 43_200 }, 'with its session instead')
  t.match((await order({ ...sip, ttl: 600 })).json(), { expires_in: 600 })
  daemon.clock.advance(-3590)
})

void t.test('what is no order is a 400', async (t) => {
  const rows: Record<string, unknown> = {
    'no JSON': 'action=read',
    nothing: '',
    'an array': [],
    'no action': { resource: 'x' },
    'no resource': { action: 'read' },
    'a number as resource': { action: 'read', resource: 5 },
    'an unknown action': { action: 'delete', resource: 'x' },
    'a climbing resource': { action: 'read', resource: '../x' },
    'a placeholder': { action: 'read', resource: 'recordings/{username}/**' },
    'a life as text': { action: 'connect', resource: 'sip', ttl: '30' },
    'no life': { action: 'connect', resource: 'sip', ttl: 0 },
    'half a second': { action: 'connect', resource: 'sip', ttl: 0.5 },
    'too long a life': { action: 'read', resource: 'recordings/a.wav', ttl: 601 },
    'too long a life for SIP': { action: 'connect', resource: 'sip', ttl: 43_201 },
  }
  for (const [what, body] of Object.entries(rows)) {
    const answer = await order(body)
    t.equal(answer.status, 400, what)
    t.match(answer.json(), { success: false, error: String })
  }
  const typed = await order(
    { action: 'connect', resource: 'sip' },
    { ...bearer(user.access), 'Content-Type': 'text/plain' },
  )
  t.equal(typed.status, 400)
  t.equal((await order('x'.repeat(9000))).status, 413)
})

void t.test('nobody gets a ticket for what they may not do', async (t) => {
  for (const body of [
    { action: 'publish', resource: 'users-state' },
    { action: 'read', resource: '**' },
    { action: 'read', resource: 'other/x' },
    { action: 'subscribe', resource: '*' },
  ]) {
    const answer = await order(body)
    t.equal(answer.status, 403, JSON.stringify(body))
    t.equal(answer.header('www-authenticate'), 'Bearer realm="postern", error="insufficient_scope"')
  }
})

void t.test('nor without a good access token', async (t) => {
  const body = { action: 'connect', resource: 'sip' }
  t.equal((await order(body, {})).status, 401)
  t.equal((await order(body, bearer('x'))).status, 401)
  t.equal((await order(body, bearer(user.refresh))).status, 403)
  const { ticket } = (await order(body)).json()
  t.equal((await order(body, bearer(String(ticket)))).status, 403, 'a ticket buys no ticket')
  const cookie = { Cookie: `postern=${user.access}` }
  t.equal((await order(body, cookie)).status, 200)
  t.equal(
    (await order(body, { ...cookie, 'Sec-Fetch-Site': 'cross-site' })).status,
    403,
    'from another site',
  )
})

void t.test('no password, token or ticket stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
