// POST /auth/refresh of the softphone dialect, against the real daemon, without rotation (as its clients
// expect) and with it.

import t from 'tap'

import { createRefreshHandler } from '../../../src/http/softphone/refresh.ts'
import { createSite } from '../../../src/http/site.ts'
import { NOW } from '../../fixtures/clock.ts'
import {
  type Answer,
  bearer,
  HASH,
  requestOf,
  startTestDaemon,
  type TestDaemon,
  USERS,
  V1,
} from '../../fixtures/daemon.ts'

const PATH = `${V1}/auth/refresh`
const daemon = await startTestDaemon(t)
const refresh = (token: string, on: TestDaemon = daemon): Promise<Answer> =>
  on.ask(PATH, { method: 'POST', headers: bearer(token) })

void t.test('the refresh token gives a new access token and stays what it is', async (t) => {
  const { access, refresh: token } = await daemon.softphone()
  daemon.clock.advance(10)
  for (let round = 0; round < 2; round++) {
    const answer = await refresh(token)
    t.equal(answer.status, 200)
    t.same(Object.keys(answer.json()), ['success', 'access_token', 'token_type', 'expires_in'])
    t.match(answer.json(), { success: true, token_type: 'Bearer', expires_in: 3600 })
    const renewed = String(answer.json()['access_token'])
    t.not(renewed, access)
    t.equal((await daemon.check(renewed)).status, 204)
    const [old, fresh] = [daemon.claimsOf(access), daemon.claimsOf(renewed)]
    t.equal(fresh['sid'], old['sid'], 'the same session')
    t.equal(Number(fresh['exp']), Number(old['exp']) + 10)
  }
  t.equal((await daemon.check(access)).status, 204, 'the first one lives out its time')
})

void t.test('a page’s cookie is renewed where it is of the same session', async (t) => {
  const [own, other] = [await daemon.softphone(), await daemon.softphone('202')]
  const https = { 'X-Forwarded-Proto': 'https' }
  const rows: [what: string, headers: Record<string, string>, isRenewed: boolean][] = [
    ['its own', { Cookie: `__Host-postern=${own.access}` }, true],
    ['another session’s', { Cookie: `__Host-postern=${other.access}` }, false],
    ['junk', { Cookie: '__Host-postern=junk' }, false],
    ['none', {}, false],
    [
      'from another site',
      { Cookie: `__Host-postern=${own.access}`, 'Sec-Fetch-Site': 'cross-site' },
      false,
    ],
  ]
  for (const [what, headers, isRenewed] of rows) {
    const answer = await daemon.ask(PATH, {
      method: 'POST',
      headers: { ...bearer(own.refresh), ...https, ...headers },
    })
    t.equal(answer.status, 200, what)
    const token = String(answer.json()['access_token'])
    t.equal(
      answer.header('set-cookie'),
      isRenewed
        ? `__Host-postern=${token}; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=3600`
        : undefined,
      what,
    )
  }
})

void t.test('an access token is told that it is none, and nothing comes of it', async (t) => {
  const { access } = await daemon.softphone()
  const sessions = await daemon.metric('postern_sessions')
  const answer = await refresh(access)
  t.equal(answer.status, 403)
  t.match(answer.json(), { success: false, error: /refresh token is required/ })
  t.equal((await daemon.check(access)).status, 204, 'it keeps working')
  t.equal(await daemon.metric('postern_sessions'), sessions)
})

void t.test('without a good refresh token it is a 401 with a challenge', async (t) => {
  const { access, refresh: token } = await daemon.softphone()
  const claims = daemon.claimsOf(token)
  const header = { typ: 'rt+jwt' }
  const invalid = 'Bearer realm="postern", error="invalid_token"'
  const rows: Record<string, [headers: Record<string, string | string[]>, challenge: string]> = {
    nothing: [{}, 'Bearer realm="postern"'],
    'two lines': [
      { Authorization: [`Bearer ${token}`, `Bearer ${token}`] },
      'Bearer realm="postern", error="invalid_request"',
    ],
    Basic: [{ Authorization: `Basic ${token}` }, 'Bearer realm="postern"'],
    'in a cookie': [{ Cookie: `refreshToken=${token}` }, 'Bearer realm="postern"'],
    garbage: [bearer('a.b.c'), invalid],
    'a byte changed': [bearer(`${token.slice(0, -3)}AAA`), invalid],
    'expired, rightly signed': [
      bearer(daemon.forge({ ...claims, iat: 1000, nbf: 1000, exp: 2000 }, header)),
      invalid,
    ],
    'not yet valid': [
      bearer(daemon.forge({ ...claims, nbf: Number(claims['nbf']) + 100 }, header)),
      invalid,
    ],
    'rightly signed, of no session': [
      bearer(daemon.forge({ ...claims, jti: 'x' }, header)),
      invalid,
    ],
    'a kind of its own': [bearer(daemon.forge(claims, { typ: 'JWT' })), invalid],
  }
  for (const [what, [headers, challenge]] of Object.entries(rows)) {
    const answer = await daemon.ask(PATH, { method: 'POST', headers })
    t.equal(answer.status, 401, what)
    t.equal(answer.header('www-authenticate'), challenge, what)
    t.match(answer.json(), { success: false, error: String }, what)
  }
  t.equal(
    (await daemon.ask(`${PATH}?token=${token}`, { method: 'POST' })).status,
    401,
    'never from the query',
  )
  t.equal((await refresh(token)).status, 200, 'none of it ended the session')
  t.equal((await daemon.check(access)).status, 204)
})

void t.test('what a body asks for is not given', async (t) => {
  const { refresh: token } = await daemon.softphone()
  const answer = await daemon.ask(PATH, {
    headers: bearer(token),
    body: JSON.stringify({ role: 'admin', sub: '1', aud: 'x', exp: 9e9, scope: 'all' }),
  })
  t.equal(answer.status, 200)
  t.equal(answer.header('connection'), 'close', 'a body nobody reads ends the connection')
  const claims = daemon.claimsOf(String(answer.json()['access_token']))
  t.match(claims, { role: 'user', username: '201', aud: 'postern' })
})

void t.test('after the logout it is a 401', async (t) => {
  const { access, refresh: token } = await daemon.softphone()
  await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(access) })
  t.equal((await refresh(token)).status, 401)
})

void t.test('a user who is gone, disabled or has a new password is out at once', async (t) => {
  const own = await startTestDaemon(t, { users: [`300:${HASH}:user`] })
  const reload = (line: string): Promise<void> => {
    own.place.users(...USERS, line)
    return own.reload({})
  }
  const other = HASH.replace(/.{4}$/, 'AAAA') // another hash, so another password as far as anyone can tell
  for (const line of ['', `300:!${HASH}:user`, `300:${other}:user`]) {
    const { access, refresh: token } = await own.softphone('300')
    await reload(line)
    t.equal((await refresh(token, own)).status, 401, line)
    t.equal((await own.check(access)).status, 401, line)
    await reload(`300:${HASH}:user`)
    t.equal((await refresh(token, own)).status, 401, 'and stays out')
  }
})

void t.test(
  'a session ends thirty days after its login, however often it was refreshed',
  async (t) => {
    const own = await startTestDaemon(t)
    const { refresh: token } = await own.softphone()
    own.clock.advance(30 * 86_400 - 60)
    const last = await refresh(token, own)
    t.match(last.json(), { expires_in: 60 }, 'no access token outlives its session')
    own.clock.advance(60)
    t.equal((await refresh(token, own)).status, 401)
    t.equal((await own.check(String(last.json()['access_token']))).status, 401)
  },
)

void t.test('with rotation', async (t) => {
  const rotating = await startTestDaemon(t, { sections: { softphone: 'rotate = true' } })
  const turn = async (token: string): Promise<{ access: string; refresh: string }> => {
    const answer = await refresh(token, rotating)
    t.equal(answer.status, 200)
    const { access_token: access, refresh_token: next } = answer.json()
    return { access: String(access), refresh: String(next) }
  }

  await t.test('each refresh gives the next refresh token', async (t) => {
    const { refresh: first } = await rotating.softphone()
    const second = await turn(first)
    t.not(second.refresh, first)
    t.match(rotating.claimsOf(second.refresh), { type: 'refresh', exp: NOW + 30 * 86_400 })
    const third = await turn(second.refresh)
    t.not(third.refresh, second.refresh)
    t.equal((await rotating.check(third.access)).status, 204)
  })

  await t.test('within the grace the same successor, and no fork', async (t) => {
    const { refresh: first } = await rotating.softphone()
    const [one, two] = await Promise.all([turn(first), turn(first)])
    t.equal(one.refresh, two.refresh)
    const [three, four] = [await turn(one.refresh), await turn(two.refresh)]
    t.equal(three.refresh, four.refresh)
  })

  await t.test('after the grace the session ends, once and said', async (t) => {
    const { refresh: first } = await rotating.softphone()
    const second = await turn(first)
    t.equal((await rotating.check(second.access)).status, 204)
    rotating.clock.advance(31)
    for (const token of [first, first, second.refresh]) {
      const answer = await refresh(token, rotating)
      t.equal(answer.status, 401)
      t.match(answer.json(), { error: 'Invalid or expired refresh token' })
    }
    t.equal((await rotating.check(second.access)).header('x-auth-reason'), 'session_ended')
    const sid = String(rotating.claimsOf(first)['sid'])
    const lines = (await rotating.securityLog())
      .split('\n')
      .filter((line) => line.startsWith('[REFRESH_REUSED]') && line.includes(sid))
    t.equal(lines.length, 1)
    t.match(lines[0], /\| From: 192\.0\.2\.1 \| User: 201 \|/)
  })

  await t.test('its access token is seen at every door', async (t) => {
    const subscribe = { 'X-Auth-Action': 'subscribe', 'X-Auth-Resource': 'users-state' }
    const cookie = (access: string) => ({
      Authorization: '',
      Cookie: `__Host-postern=${access}`,
      'X-Forwarded-Proto': 'https',
      'X-Auth-Accept': 'cookie',
    })
    const ticket = { action: 'read', resource: 'recordings/a.wav' }
    const doors: Record<string, (access: string) => Promise<Answer>> = {
      'a check': (access) => rotating.check(access),
      'one that is refused': (access) => rotating.check(access, { 'X-Auth-Action': 'write' }),
      'a stream': (access) => rotating.check(access, subscribe),
      'a stream by cookie': (access) => rotating.check(access, { ...subscribe, ...cookie(access) }),
      'its own list of sessions': (access) =>
        rotating.ask(`${V1}/auth/sessions`, { headers: bearer(access) }),
      'a ticket': (access) =>
        rotating.ask(`${V1}/auth/ticket`, {
          headers: { ...bearer(access), 'Content-Type': 'application/json' },
          body: JSON.stringify(ticket),
        }),
      'a refresh, by mistake': (access) => refresh(access, rotating),
    }
    for (const [what, show] of Object.entries(doors)) {
      const { refresh: first } = await rotating.softphone()
      const { access, refresh: second } = await turn(first)
      rotating.clock.advance(31)
      t.equal((await turn(first)).refresh, second, `${what}: unseen`)
      const { status } = await show(access)
      t.equal((await refresh(first, rotating)).status, 401, `${what}: ${status}`)
    }
  })

  await t.test('no token stands in a log', async (t) => {
    t.same(await rotating.leaks(), [])
  })
})

void t.test('a user source that is away is a 503 and ends nothing', async (t) => {
  const seen: unknown[] = []
  const handler = createRefreshHandler({
    refresh: async () => ({ unavailable: 'source_away', retryAfter: 5 }),
    tokens: { verify: async () => ({ refused: 'malformed_token' }) },
    site: createSite([], 'auto'),
    observe: { refresh: (result) => void seen.push(result) },
  })
  const reply = await handler(requestOf(['Authorization', 'Bearer a.b.c']))
  t.equal(reply.status, 503)
  t.match(reply, { headers: ['Retry-After', '5'], error: 'Try again later' })
  t.equal(seen.length, 1)
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
