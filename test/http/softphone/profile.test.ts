// GET /profile of the softphone dialect, against the real daemon.

import t from 'tap'

import {
  type Answer,
  bearer,
  bytesOf,
  HASH,
  startTestDaemon,
  USERS,
  V1,
} from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t, { users: [`Jürgen:${HASH}:user`, `300:${HASH}:user`] })
const PATH = `${V1}/profile`
const profile = (headers: Record<string, string | string[]>): Promise<Answer> =>
  daemon.ask(PATH, { headers })

void t.test('it says who the token stands for, by a number that never changes', async (t) => {
  const ids = new Map<string, unknown>()
  for (const [username, role] of [
    ['201', 'user'],
    ['900', 'admin'],
    ['Jürgen', 'user'],
  ] as const) {
    const { access } = await daemon.softphone(username)
    const answer = await profile(bearer(access))
    t.equal(answer.status, 200)
    const { user } = answer.json() as { user: { id: number } }
    t.same(answer.json(), { success: true, user: { id: user.id, username, role } })
    t.ok(Number.isSafeInteger(user.id) && user.id > 0)
    ids.set(username, user.id)
  }
  t.equal(new Set(ids.values()).size, 3)
  await daemon.restart()
  const { access } = await daemon.softphone('201')
  t.match((await profile(bearer(access))).json(), { user: { id: ids.get('201') } })
})

void t.test('a token of the other dialect is as good, and its role is ours', async (t) => {
  const { access } = await daemon.mikopbx('900')
  t.match(daemon.claimsOf(access), { role: 'admins' })
  t.match((await profile(bearer(access))).json(), { user: { username: '900', role: 'admin' } })
})

void t.test('a refresh token is told that it is one, also after its end', async (t) => {
  const { access, refresh } = await daemon.softphone()
  const live = await profile(bearer(refresh))
  t.equal(live.status, 403)
  t.match(live.json(), { success: false, error: /access token is required/ })
  t.equal(live.header('www-authenticate'), 'Bearer realm="postern", error="insufficient_scope"')
  await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(access) })
  t.equal((await profile(bearer(refresh))).status, 403)
})

void t.test('a bad, late, ended or foreign token reads the same', async (t) => {
  const { access } = await daemon.softphone()
  const gone = await daemon.softphone('300')
  const claims = daemon.claimsOf(access)
  const [head, payload] = access.split('.')
  const ended = await daemon.softphone()
  await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(ended.access) })
  daemon.place.users(...USERS, `Jürgen:${HASH}:user`)
  await daemon.reload({})
  const rows = {
    'a bad signature': `${head}.${payload}.${'A'.repeat(43)}`,
    expired: daemon.forge({ ...claims, iat: 1000, nbf: 1000, exp: 2000 }),
    ended: ended.access,
    'wrong audience': daemon.forge({ ...claims, aud: 'x' }),
    'unknown key': daemon.forge(claims, { kid: 'x' }),
    'user removed': gone.access,
    garbage: 'null',
  }
  const answers = new Set<string>()
  for (const [what, token] of Object.entries(rows)) {
    const answer = await profile(bearer(token))
    t.equal(answer.status, 401, what)
    answers.add(bytesOf(answer))
  }
  t.equal(answers.size, 1)
  t.match(
    [...answers][0],
    /WWW-Authenticate: Bearer realm="postern", error="invalid_token"\n[^]*"error":"Invalid or expired token: log in, or renew it"/,
  )
})

void t.test('without a token there is no error code', async (t) => {
  const answer = await profile({})
  t.equal(answer.status, 401)
  t.equal(answer.header('www-authenticate'), 'Bearer realm="postern"')
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
