// A right that ends while a stream is being let in: the check takes its word back.

import t from 'tap'

import type { Decision, Identity } from '../../src/auth/check.ts'
import { type Reason, type Refusal, refuse } from '../../src/auth/decision.ts'
import { parseGrant } from '../../src/auth/grants.ts'
import type { Claims } from '../../src/auth/token.ts'
import { createCheckHandlers } from '../../src/http/check.ts'
import { readResource } from '../../src/http/resource.ts'
import { readHeaders } from '../../src/http/headers.ts'
import { createSite } from '../../src/http/site.ts'
import { NOW } from '../fixtures/clock.ts'
import { requestOf } from '../fixtures/daemon.ts'

const claims: Claims = {
  type: 'access',
  sub: '7',
  username: '201',
  role: 'user',
  sid: 's1',
  jti: 'j1',
  iat: NOW,
  nbf: NOW,
  exp: NOW + 60,
  kid: 'k1',
}

const setUp = (second: Decision, admit = () => 'kick-x') => {
  const answers: Decision[] = [{ claims, role: 'user' }, second]
  const kicked: string[] = []
  const observed: unknown[] = []
  const redeemed = Promise.withResolvers<undefined>()
  const guard = {
    allows: () => true,
    identify: async () => refuse('no_credential'),
    checkRemembered: () => undefined,
    check: async () => answers.shift() ?? refuse('no_credential'),
  }
  const { handler } = createCheckHandlers({
    guard,
    today: () => guard,
    tickets: { redeem: () => redeemed.promise },
    admissions: {
      areCut: () => true,
      find: async () => undefined,
      lookAgain: async () => undefined,
      obstacle: () => undefined,
      hasRoom: () => true,
      admit,
      async kickSession(sid) {
        kicked.push(sid)
        return 1
      },
      keeps: async () => true,
      createKickId: () => 'kick-x',
    },
    site: createSite([], 'auto'),
    resourceOf: readResource,
    observe: ({ decision }) => void observed.push(decision),
    monotonic: () => 0,
  })
  const headers = readHeaders([
    'Authorization',
    'Bearer x',
    'X-Auth-Accept',
    'header',
    'X-Auth-Action',
    'subscribe',
  ])
  const reply = handler({
    method: 'GET',
    headers,
    id: 'users-state',
    query: '',
    address: 'unknown',
    body: () => Promise.reject(new Error('nobody reads it')),
  })
  return { reply, redeemed, kicked, observed }
}

void t.test(
  'whatever ended meanwhile is refused, and only an ended session is kicked',
  async (t) => {
    const rows: [reason: Reason, status: number, kicked: string[]][] = [
      ['session_ended', 401, ['s1']],
      ['user_disabled', 401, ['s1']],
      ['no_grant', 403, ['s1']],
      ['expired', 401, []], // a refreshed token may hold other streams
    ]
    for (const [reason, status, kicked] of rows) {
      const check = setUp(refuse(reason))
      check.redeemed.resolve(undefined)
      const reply = await check.reply
      t.match(reply, { status, reason })
      t.notOk(reply.headers.includes('X-Auth-Kick'), 'no id leaves')
      t.same(check.kicked, kicked, reason)
      t.same(check.observed, [{ refused: reason }])
    }
  },
)

void t.test('a ticket for SIP waits for word of its session, and is judged again', async (t) => {
  const grant = parseGrant('connect:sip')
  if ('problem' in grant) throw new Error(grant.problem)
  const ticket = { action: grant.action, pattern: grant, until: NOW + 60 }
  const shown: Identity = { claims: { ...claims, type: 'ticket', ticket }, role: 'user' }
  const sip = (spent: Refusal | undefined, second: Decision) => {
    const observed: unknown[] = []
    const guard = {
      identify: async () => refuse('no_credential'),
      checkRemembered: () => shown,
      check: async () => shown,
    }
    const { atOnce, handler } = createCheckHandlers({
      guard,
      today: () => ({ check: async () => second }),
      tickets: { redeem: async () => spent },
      admissions: {
        areCut: () => true,
        find: async () => undefined,
        lookAgain: async () => undefined,
        obstacle: () => undefined,
        hasRoom: () => false,
        admit: () => undefined,
        kickSession: async () => 0,
        keeps: async () => false,
        createKickId: () => 'kick-x',
      },
      site: createSite([], 'auto'),
      resourceOf: readResource,
      observe: ({ decision }) => void observed.push(decision),
      monotonic: () => 0,
    })
    const lines = [
      'X-Original-URI',
      '/x?ticket=x',
      'X-Auth-Accept',
      'ticket',
      'X-Auth-Action',
      'connect',
    ]
    const request = { ...requestOf(lines), id: 'sip' }
    t.equal(atOnce?.(request), undefined, 'memory alone does not decide')
    return { reply: handler(request), observed }
  }
  const rows: [spent: Refusal | undefined, second: Decision, status: number][] = [
    [undefined, shown, 204],
    [refuse('session_ended'), shown, 401],
    [undefined, refuse('session_ended'), 401],
    [refuse('no_grant'), shown, 403],
  ]
  for (const [spent, second, status] of rows) {
    const { reply, observed } = sip(spent, second)
    t.match(await reply, { status })
    t.same(observed, [spent ?? second], 'counted once')
  }
})

void t.test('what still holds passes, with its id', async (t) => {
  const check = setUp({ claims, role: 'user' })
  check.redeemed.resolve(undefined)
  const { status, headers } = await check.reply
  t.equal(status, 204)
  t.same(headers.slice(-4), ['X-Auth-Channel', 'users-state', 'X-Auth-Kick', 'kick-x'])
  t.same(check.kicked, [])
})

void t.test('an id that cannot be written is a fault, and nobody passes', async (t) => {
  const check = setUp({ claims, role: 'user' }, () => {
    throw new Error('disk full')
  })
  check.redeemed.resolve(undefined)
  await t.rejects(Promise.resolve(check.reply), /disk full/)
})
