// What an operator does to a running daemon, where the daemon's own tests do not look: streams without a
// session, tickets under inspection, an old token after everything.

import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'

import { askDaemon } from '../../src/cli/control-client.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createOperations } from '../../src/daemon/operations.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { createLog } from '../../src/log.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { bearer, JSON_TYPE, startTestDaemon, V1 } from '../fixtures/daemon.ts'
import {
  CHEAP,
  check,
  HASH,
  login,
  makePlace,
  post,
  run,
  serve,
  until,
} from '../fixtures/postern.ts'
import { hashPassword } from '../../src/passwords/hash.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'

const subscribe = (more: Record<string, string> = {}) => ({
  'X-Auth-Action': 'subscribe',
  resource: 'users-state',
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
    t.equal(await daemon.metric('postern_config_last_reload_successful'), 1, 'as it started')
    daemon.place.users('201:not-a-hash:user')
    const told = await askDaemon(daemon.controlSocket, 'POST', '/reload')
    t.match(told, { status: 409 })
    t.equal(await daemon.metric('postern_config_last_reload_successful'), 0)
    t.equal((await daemon.check(access)).status, 204, 'the last good users stay')
  },
)

void t.test('a socket of an unknown name is none of ours', async (t) => {
  const place = makePlace(t)
  place.configure()
  place.users(`201:${HASH}:user`)
  const log = createLog('silent', { write: () => {} })
  const parts = {
    log,
    clock: createTestClock(),
    sockets: new Map([
      ['notify', 3], // systemd's own, which is none of the listeners
      ['odd', 4],
    ]),
  }
  await t.rejects(startDaemon(loadConfig(place.config), parts), /a socket named odd/)
})

void t.test(
  'a stream of a session that ended while the daemon was down is kicked at start',
  async (t) => {
    const daemon = await startTestDaemon(t)
    const { access } = await daemon.softphone()
    t.equal((await daemon.check(access, subscribe())).status, 204)
    await daemon.stop()
    const db = new DatabaseSync(daemon.place.at('state', 'store.db'))
    db.exec("UPDATE sessions SET ended_at = seen_at, cause = 'operator'")
    db.close()
    await daemon.start()
    t.equal(await daemon.metric('postern_subscriptions'), 0)
  },
)

void t.test('users of a service: kept over a restart, counted while it is away', async (t) => {
  const server = createServer((_, response) => {
    response.setHeader('Content-Type', 'application/json')
    response.end(JSON.stringify({ name: 'remote', role: 'user' }))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const url = `http://127.0.0.1:${port}`
  const daemon = await startTestDaemon(t, {
    sections: {
      users: 'sources = ["file", "http"]',
      http_users: `login_url = "${url}/l"\nlookup_url = "${url}/u"`,
    },
  })
  const { access } = await daemon.softphone('remote', 'any')
  await daemon.restart()
  t.equal((await daemon.check(access)).status, 204)
  server.close()
  server.closeAllConnections()
  const body = JSON.stringify({ username: 'remote', password: 'any' })
  const answer = await daemon.ask(`${V1}/auth/login`, { headers: JSON_TYPE, body })
  t.equal(answer.status, 503)
  t.equal(await daemon.metric('postern_faults_total{kind="user_source_away"}'), 1)
})

void t.test('what is refused over and over fills no log', async (t) => {
  const daemon = await startTestDaemon(t)
  const forged = daemon.forge({ iss: 'another' })
  for (let time = 0; time < 50; time++) await daemon.check(forged)
  const denied = daemon.log().filter(({ event }) => event === 'MEDIA_ACCESS_DENIED')
  t.equal(denied.length, 20)
  const written = async (): Promise<string[]> =>
    (await daemon.securityLog())
      .trimEnd()
      .replaceAll(/ \| Time: \S+$/gm, '')
      .split('\n')
  const denial = '[MEDIA_ACCESS_DENIED] wrong_issuer | From: 192.0.2.1 | User: -'
  t.same(await written(), Array(20).fill(denial), 'more than a jail waits for')
  for (let n = 0; n < 30; n++) {
    await daemon.check(forged, { 'X-Real-IP': `2001:db8:0:1::${n}` })
  }
  await daemon.check('junk')
  await daemon.check(forged, { 'X-Real-IP': '192.0.2.2' })
  await daemon.stop()
  t.same((await written()).slice(20), [
    ...Array.from({ length: 20 }, (_, n) => denial.replace('192.0.2.1', `2001:db8:0:1::${n}`)),
    denial.replace('wrong_issuer', 'malformed_token'),
    denial.replace('192.0.2.1', '192.0.2.2'),
    '[LEFT_OUT] 30 more: MEDIA_ACCESS_DENIED wrong_issuer | From: 192.0.2.1 | User: -',
    '[LEFT_OUT] 10 more: MEDIA_ACCESS_DENIED wrong_issuer | From: 2001:db8:0:1::/64 | User: -',
  ])
})

void t.test('who was let in stands in the security log, however many they are', async (t) => {
  const daemon = await startTestDaemon(t)
  for (let time = 0; time < 24; time++) await daemon.softphone('201')
  await daemon.softphone('202')
  t.equal((await daemon.securityLog()).match(/^\[AUTH_SUCCESS\] .* User: 201 /gm)?.length, 24)
  t.match(await daemon.securityLog(), /^\[AUTH_SUCCESS\] .* User: 202 /m)
})

void t.test(
  'the numbers of 1,000 users are asked for together, and share their commits',
  async (t) => {
    let [asking, most] = [0, 0]
    const operations = createOperations({
      cdr: {},
      users: { names: () => Array.from({ length: 1000 }, (_, n) => `user-${n}`) },
      store: {
        async identify(name: string) {
          most = Math.max(most, ++asking)
          await Promise.resolve()
          asking--
          return Number(name.slice('user-'.length))
        },
      },
    } as unknown as Parameters<typeof createOperations>[0])
    const ids = await operations.userIds()
    t.equal(Object.keys(ids).length, 1000)
    t.equal(ids['user-999'], 999)
    t.equal(most, 256)
  },
)

void t.test(
  'what is to end while Redis is away is over here at once, and is written once it is back',
  { ...NEEDS_REDIS, timeout: 180_000 },
  async (t) => {
    const redis = await startRedis(t)
    const place = makePlace(t, {
      store: `url = "${redis.socketUrl}"\ntimeout = 0.5\nstale_seconds = 600`,
    })
    const lines = ['201', '202', '203', '204', '205', '900'].map((name) => `${name}:${HASH}:user`)
    place.users(...lines)
    await serve(t, place)
    const enter = (name: string) => login(place.ask, name)
    const sidOf = (token: string): string =>
      String(JSON.parse(String(Buffer.from(String(token.split('.')[1]), 'base64url')))['sid'])
    const byId = await enter('201')
    const byUser = await enter('202')
    const everywhere = [await enter('203'), await enter('203')] as const
    const byList = [await enter('204'), await enter('204')] as const
    const changed = await enter('205')
    const [other, all] = [await enter('900'), await enter('900')]
    const holds = async (token: string, how: string) =>
      t.equal(await check(place, token), '401 session_ended', how)
    const control = async (query: string) => {
      const told = await askDaemon(place.at('control.sock'), 'POST', `/sessions/end?${query}`)
      t.match(told, { status: 503, body: { error: /What was to end is refused by this daemon/ } })
    }

    redis.signal('SIGSTOP')
    const ending = run(t, ['session', 'end', sidOf(byId.access), '--config', place.config])
    t.match(await ending.ended, { code: 74 })
    t.match(ending.err(), /does not answer.*refused by this daemon at once/s)
    await holds(byId.access, 'session end ID')
    await control('user=202')
    await holds(byUser.access, 'session end --user')
    t.equal(await post(place, '/auth/logout?all=true', everywhere[0].access), 503)
    await holds(everywhere[1].access, 'logout everywhere')
    const leave = (by: string, sid: string) =>
      place.ask(`${V1}/auth/sessions/${sid}`, { method: 'DELETE', headers: bearer(by) })
    t.equal((await leave(byList[0].access, sidOf(byList[1].access))).status, 503)
    await holds(byList[1].access, 'one of the own list')
    t.equal((await leave(byList[0].access, sidOf(other.access))).status, 503)
    t.equal(await check(place, other.access), '204', 'and nobody else’s')
    t.equal(await check(place, byList[0].access), '204')
    place.users(...lines.with(4, `205:${hashPassword('another', CHEAP)}:user`))
    await until('the password is another', async () =>
      /session_ended/.test(await check(place, changed.access)),
    )

    redis.signal('SIGCONT')
    const isOver = ({ refresh }: { refresh: string }) =>
      until('it is written', async () => (await post(place, '/auth/refresh', refresh)) === 401)
    for (const tokens of [byId, byUser, ...everywhere, byList[1], changed]) await isOver(tokens)
    t.equal(await post(place, '/auth/refresh', other.refresh), 200, 'it was not theirs to end')
    t.equal(await post(place, '/auth/refresh', byList[0].refresh), 200)

    redis.signal('SIGSTOP')
    await control('all=true')
    await holds(all.access, 'session end --all')
    redis.signal('SIGCONT')
    for (const tokens of [other, all, byList[0]]) await isOver(tokens)
    await until(
      'who logs in again is in',
      async () => (await check(place, (await enter('900')).access)) === '204',
    )
  },
)

void t.test('a command is told what is wrong with the store', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t)
  const daemon = await startTestDaemon(t, {
    sections: { store: `url = "${redis.socketUrl}"\ntimeout = 0.5\nstale_seconds = 600` },
  })
  const orderKey = (what: string, asked: object) =>
    askDaemon(daemon.controlSocket, 'POST', `/machine-keys/${what}`, undefined, { ...asked })
  await orderKey('add', { name: 'board', hash: 'x', grants: ['read:x'], from: [] })
  redis.signal('SIGSTOP')
  t.teardown(() => redis.signal('SIGCONT'))
  const removed = await orderKey('remove', { which: 'board' })
  t.match(JSON.stringify(removed), /is refused by this daemon at once/)
  const told = await askDaemon(daemon.controlSocket, 'POST', '/sessions/end?id=nobodys')
  t.match(JSON.stringify(told), /is refused by this daemon at once/)
  redis.signal('SIGCONT')
  await t.rejects(
    createOperations({
      inForce: { reload: () => Promise.reject(new Error('a bug')) },
      workers: {},
      cdr: {},
    } as unknown as Parameters<typeof createOperations>[0]).reload(true),
    { message: 'a bug' },
  )
})
