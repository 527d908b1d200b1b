// What an operator does to a running daemon, where the daemon's own tests do not look: streams without a
// session, tickets under inspection, an old token after everything.

import t from 'tap'

import { bearer, startTestDaemon, V1 } from './fixtures/daemon.ts'
import { askDaemon } from '../src/cli/control-client.ts'

const subscribe = (more: Record<string, string> = {}) => ({
  'X-Auth-Action': 'subscribe',
  'X-Auth-Resource': 'users-state',
  ...more,
})

void t.test('streams with no session in the store are ended too', async (t) => {
  const daemon = await startTestDaemon(t)
  const { access } = await daemon.softphone()
  // As somebody with a leaked key would make it: no login stands behind it.
  const forged = daemon.forge({ ...daemon.claimsOf(access), sid: 'nobodys-session', jti: 'x' })
  t.equal((await daemon.check(forged, subscribe())).status, 204)
  t.equal((await daemon.check(access, subscribe())).status, 204)
  t.equal(await daemon.metric('postern_subscriptions'), 2)
  const ask = async (path: string) => {
    const told = await askDaemon(daemon.controlSocket, 'POST', path)
    return typeof told === 'object' && 'body' in told ? told.body : told
  }
  t.same(await ask('/sessions/kick?user=202'), { kicked: 0 })
  t.same(await ask('/sessions/kick?id=nobodys-session'), { kicked: 1 })
  t.equal((await daemon.check(forged, subscribe())).status, 204)
  t.same(await ask('/sessions/end?all=true'), { ended: 1 })
  t.equal(await daemon.metric('postern_subscriptions'), 0)
  t.equal((await daemon.check(forged)).header('x-auth-reason'), 'session_ended')
})

void t.test('a ticket under inspection is told from a token', async (t) => {
  const daemon = await startTestDaemon(t)
  const { access, refresh } = await daemon.softphone()
  const { ticket } = (
    await daemon.ask(`${V1}/auth/ticket`, {
      headers: { ...bearer(access), 'Content-Type': 'application/json' },
      body: JSON.stringify({ action: 'read', resource: 'recordings/a.wav' }),
    })
  ).json() as { ticket: string }
  const inspect = async (token: string, resource?: string) => {
    const asked = { token, ...(resource !== undefined && { action: 'read', resource }) }
    const told = await askDaemon(daemon.controlSocket, 'POST', '/tokens/inspect', undefined, asked)
    return typeof told === 'object' && 'body' in told ? told.body : told
  }
  t.match(await inspect(ticket), { status: 204 })
  t.match(await inspect(ticket, 'recordings/a.wav'), { status: 204 })
  t.match(await inspect(ticket, 'recordings/b.wav'), { answer: 'ticket_mismatch' })
  t.match(await inspect(refresh), { answer: 'wrong_type' })
  t.match(await inspect(access, 'recordings/b.wav'), { status: 204 })
})

void t.test('a refresh token long dead logs nobody else out', async (t) => {
  const daemon = await startTestDaemon(t)
  const old = await daemon.softphone()
  const leave = (token: string, query = '') =>
    daemon.ask(`${V1}/auth/logout${query}`, { method: 'POST', headers: bearer(token) })
  t.equal((await leave(old.refresh)).status, 200)
  daemon.clock.advance(2 * 3600)
  await daemon.operator('/metrics') // forgets what no access token needs any more
  const today = await daemon.softphone()
  t.equal((await leave(old.refresh, '?all=true')).status, 401)
  t.equal((await daemon.check(today.access)).status, 204)
  t.equal((await leave(today.refresh, '?all=true')).status, 200)
  t.equal((await daemon.check(today.access)).status, 401)
})

void t.test(
  'a broken users file stops a reload, and a name that is new ends what was under it',
  async (t) => {
    const daemon = await startTestDaemon(t)
    const { access } = await daemon.softphone()
    daemon.place.users('201:not-a-hash:user')
    const told = await askDaemon(daemon.controlSocket, 'POST', '/reload')
    t.match(told, { status: 409 })
    t.equal(await daemon.metric('postern_config_last_reload_successful'), 0)
    t.equal((await daemon.check(access)).status, 204, 'the last good users stay')
  },
)
