// A ticket gives no more than its holder has, for no longer, and where it must be, once.

import t from 'tap'
import { createStillGranted, type Identity } from '../../src/auth/check.ts'
import { createPolicy } from '../../src/auth/grants.ts'
import { createTickets } from '../../src/auth/ticket.ts'
import { NOW } from '../fixtures/clock.ts'
import { token } from '../fixtures/tokens.ts'
import { enter, openRig, SOFTPHONE } from './rig.ts'

const HOUR = 3600
const SIP = { action: 'connect', resource: 'sip' }

const setUp = async (
  t: Parameters<typeof openRig>[0],
  { idleTtl = 0, isInMemory = true }: { idleTtl?: number; isInMemory?: boolean } = {},
) => {
  const rig = await openRig(t)
  const { tokens, store, clock, guard } = rig
  const policy = createPolicy(
    new Map([
      ['user', ['read:recordings/{username}/**', 'subscribe:users-state', 'connect:*']],
      ['guest', ['subscribe:users-state']],
    ]),
  )
  const peek = isInMemory ? rig.users.peek : () => undefined
  const stillGranted = createStillGranted({ policy, peek, isForeign: () => false })
  const limits = { maxTtl: 300, connectTtl: 12 * HOUR, idleTtl }
  const tickets = createTickets({ tokens, store, policy, stillGranted, clock, ...limits })
  const holder = await guard.identify(token())
  if ('refused' in holder) throw new Error(holder.refused)
  const holderOf = async (ticket: string): Promise<Identity> => {
    const found = await guard.identify(ticket, 'ticket')
    if ('refused' in found) throw new Error(found.refused)
    return found
  }
  /** A login, and what its ticket for SIP says. */
  const enterSip = async (terms = SOFTPHONE) => {
    const issued = await enter(rig.login(terms))
    const found = await guard.identify(issued.accessToken)
    if ('refused' in found) throw new Error(found.refused)
    const given = await tickets.issue(found, SIP)
    if (!('ticket' in given)) throw new Error('no ticket')
    return { ...issued, ...given, identity: await holderOf(given.ticket) }
  }
  return { ...rig, tickets, holder, holderOf, enterSip }
}

void t.test('a ticket is given for what its holder may do', async (t) => {
  const { tickets, holder, holderOf } = await setUp(t)
  for (const [action, resource] of [
    ['read', 'recordings/201/a.mp3'],
    ['read', 'recordings/201/**'],
    ['read', 'recordings/201/2026/*'],
    ['subscribe', 'users-state'],
  ] as const) {
    const found = await tickets.issue(holder, { action, resource })
    if (!('ticket' in found)) throw new Error(`no ticket for ${resource}`)
    t.equal(found.expiresIn, 30)
    const { claims, role } = await holderOf(found.ticket)
    t.equal(role, 'user')
    t.match(claims, { sid: 'session-1', username: '201', sub: '7', exp: NOW + 30 })
    t.match(claims.ticket, { action, pattern: { text: `${action}:${resource}` }, until: NOW + 900 })
  }
})

void t.test('not for more than that', async (t) => {
  const { tickets, holder } = await setUp(t)
  for (const [action, resource] of [
    ['read', 'recordings/202/a.mp3'],
    ['read', 'recordings/**'],
    ['read', 'recordings/*/a.mp3'],
    ['read', '**'],
    ['subscribe', 'contacts'],
    ['publish', 'users-state'],
  ] as const) {
    t.same(await tickets.issue(holder, { action, resource }), { refused: 'no_grant' }, resource)
  }
  const stranger = { ...holder, role: 'no such role' }
  const request = { action: 'subscribe', resource: 'users-state' }
  t.same(await tickets.issue(stranger, request), { refused: 'no_grant' })
})

void t.test('nor for longer than the token it was got with', async (t) => {
  const { tickets, holder, clock } = await setUp(t)
  const request = { action: 'subscribe', resource: 'users-state' }
  t.match(await tickets.issue(holder, { ...request, ttl: 300 }), { expiresIn: 300 })
  clock.advance(890)
  t.match(await tickets.issue(holder, request), { expiresIn: 10 })
})

void t.test('what cannot be asked for is said', async (t) => {
  const { tickets, holder } = await setUp(t)
  const good = { action: 'read', resource: 'recordings/201/a.mp3' }
  for (const [changes, problem] of [
    [{ action: 'delete' }, /^action must be/],
    [{ action: '' }, /^action must be/],
    [{ resource: '' }, /^resource must be/],
    [{ resource: 'a/../b' }, /^resource must be/],
    [{ resource: 'recordings/{username}/a' }, /^resource must be/],
    [{ resource: 'a\nb' }, /^resource must be/],
    [{ resource: '100%' }, /^resource must be .* as %2A, %25, %7B and %7D$/],
    [{ resource: 'a{b}' }, /^resource must be/],
    [{ resource: 'recordings/201/**/a/**' }, /^resource must have \*\* once at most$/],
    [{ ttl: 0 }, /^ttl must be a whole number of seconds from 1 to 300$/],
    [{ ttl: 301 }, /^ttl must be/],
    [{ ttl: 1.5 }, /^ttl must be/],
    [{ ttl: Number.NaN }, /^ttl must be/],
  ] as const) {
    const found = await tickets.issue(holder, { ...good, ...changes })
    t.match(found, { refused: 'bad_request', problem }, JSON.stringify(changes))
  }
})

void t.test('a ticket to subscribe is used once, but for nginx asking twice', async (t) => {
  const { tickets, holder, holderOf, clock } = await setUp(t)
  const issue = async (action: string, resource: string): Promise<Identity> => {
    const found = await tickets.issue(holder, { action, resource })
    if (!('ticket' in found)) throw new Error('no ticket')
    return holderOf(found.ticket)
  }
  const one = await issue('subscribe', 'users-state')
  t.equal(await tickets.redeem(one, 'request-1'), undefined)
  t.equal(await tickets.redeem(one, 'request-1'), undefined, 'the same request')
  t.same(await tickets.redeem(one, 'request-2'), { refused: 'ticket_used' })
  clock.advance(30)
  t.same(await tickets.redeem(one, 'request-1'), { refused: 'ticket_used' }, 'too late for that')
  t.equal(await tickets.redeem(await issue('subscribe', 'users-state'), 'request-2'), undefined)

  const another = await issue('subscribe', 'users-state')
  const requests = Array.from({ length: 50 }, async (_, i) => tickets.redeem(another, `race-${i}`))
  const all = await Promise.all(requests)
  t.equal(all.filter((found) => found === undefined).length, 1, 'fifty at once, one gets in')

  const file = await issue('read', 'recordings/201/a.mp3')
  for (let i = 0; i < 3; i++)
    t.equal(tickets.redeem(file, `range-${i}`), undefined, 'Range asks often')
})

void t.test(
  'who is another system’s gets no ticket: no session of ours would end it',
  async (t) => {
    const { tickets, holder } = await setUp(t)
    const foreign = true as const
    const theirs = { ...holder, claims: { ...holder.claims, foreign } }
    const asked = { action: 'read', resource: 'recordings/201/a.mp3' }
    t.same(await tickets.issue(theirs, asked), { refused: 'no_grant' })
  },
)

const ENDED = { refused: 'session_ended' }

void t.test('a ticket for SIP is shown again for half a day, without a refresh', async (t) => {
  const { tickets, enterSip, holderOf, guard, clock } = await setUp(t)
  const { ticket, expiresIn } = await enterSip()
  t.equal(expiresIn, 12 * HOUR)
  for (let hour = 0; hour < 12; hour++) {
    for (const request of ['one', 'two']) {
      t.equal(await tickets.redeem(await holderOf(ticket), request), undefined, `hour ${hour}`)
    }
    clock.advance(HOUR)
  }
  t.same(await guard.identify(ticket, 'ticket'), { refused: 'expired' })
})

void t.test('or as long as was asked for, and never longer than its session', async (t) => {
  const { tickets, holder, enterSip, clock, guard } = await setUp(t)
  const { accessToken } = await enterSip()
  const found = await guard.identify(accessToken)
  if ('refused' in found) throw new Error(found.refused)
  t.match(await tickets.issue(found, { ...SIP, ttl: 60 }), { expiresIn: 60 })
  t.match(await tickets.issue(found, { ...SIP, ttl: 12 * HOUR + 1 }), { refused: 'bad_request' })
  const short = { ...SOFTPHONE, refreshTtl: 2 * HOUR }
  t.equal((await enterSip(short)).expiresIn, 2 * HOUR)
  t.same(
    await tickets.issue(holder, SIP),
    { refused: 'no_grant' },
    'no session that the store knows',
  )
  t.match(await tickets.issue(found, { ...SIP, resource: '*' }), { expiresIn: 30 })
  clock.advance(HOUR - 10)
  t.match(await tickets.issue(found, { ...SIP, resource: 'door' }), { expiresIn: 10 })
})

void t.test('the end of its session ends it, also where that end was forgotten', async (t) => {
  const { tickets, enterSip, store, clock } = await setUp(t)
  const { identity, session } = await enterSip()
  const { identity: other } = await enterSip()
  await store.endSession(session.sid, 'logout', clock.now())
  t.same(await tickets.redeem(identity, 'one'), ENDED)
  t.equal(await store.prune(clock.now(), clock.now() + 2 * HOUR), 1)
  t.same(await store.listEnded(), [])
  t.same(await tickets.redeem(identity, 'two'), ENDED)
  t.equal(await tickets.redeem(other, 'three'), undefined, 'another session of the user goes on')
})

void t.test('a session that is idle or has run out ends it as well', async (t) => {
  const { tickets, enterSip, clock, refresh } = await setUp(t, { idleTtl: 2 * HOUR })
  const { identity, refreshToken } = await enterSip()
  const { identity: left } = await enterSip()
  const { identity: short } = await enterSip({ ...SOFTPHONE, refreshTtl: HOUR })
  clock.advance(HOUR)
  t.same(await tickets.redeem(short, 'run out'), ENDED)
  t.match(await refresh()(refreshToken), { outcome: 'renewed' })
  clock.advance(HOUR - 1)
  t.equal(await tickets.redeem(left, 'not idle yet'), undefined)
  clock.advance(1)
  t.same(await tickets.redeem(left, 'idle'), ENDED)
  t.equal(await tickets.redeem(identity, 'refreshed'), undefined)
})

void t.test('a role that changed at a refresh counts, not the one in the ticket', async (t) => {
  for (const isInMemory of [true, false]) {
    const { tickets, enterSip, refresh, users } = await setUp(t, { isInMemory })
    const { identity, refreshToken } = await enterSip()
    users.set('201', { role: 'guest' })
    if (!isInMemory) {
      t.equal(await tickets.redeem(identity, 'one'), undefined, 'nobody has heard of it')
      t.match(await refresh()(refreshToken), { outcome: 'renewed' })
    }
    t.same(await tickets.redeem(identity, 'two'), { refused: 'no_grant' })
  }
})

void t.test('a store that is away lets no ticket for SIP in', async (t) => {
  const { tickets, enterSip, store } = await setUp(t)
  const { identity } = await enterSip()
  await store.close()
  await t.rejects(async () => tickets.redeem(identity, 'one'), { name: 'StoreError' })
})
