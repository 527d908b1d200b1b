// POST /auth/logout of the softphone dialect, against the real daemon: after its answer nothing of the
// session opens anything.

import t from 'tap'

import { type Answer, bearer, startTestDaemon, V1 } from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const PATH = `${V1}/auth/logout`
const leave = (token: string, query = ''): Promise<Answer> =>
  daemon.ask(PATH + query, { method: 'POST', headers: bearer(token) })
const refresh = (token: string): Promise<Answer> =>
  daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(token) })

const LEFT = { success: true, message: 'Logged out successfully' }

void t.test('by the access token, by the refresh token, and again', async (t) => {
  for (const by of ['access', 'refresh'] as const) {
    const [session, other] = [await daemon.softphone(), await daemon.softphone()]
    t.equal((await daemon.check(session.access)).status, 204)
    for (let time = 0; time < 2; time++) {
      const answer = await leave(session[by])
      t.equal(answer.status, 200, by)
      t.same(answer.json(), LEFT)
    }
    t.equal((await daemon.check(session.access)).header('x-auth-reason'), 'session_ended')
    t.equal((await refresh(session.refresh)).status, 401)
    t.equal((await leave(session.refresh)).status, 200, 'also by the other one')
    t.equal((await daemon.check(other.access)).status, 204, 'nothing else of the user ends')
    t.equal((await refresh(other.refresh)).status, 200)
  }
})

void t.test('a page leaves by its cookie, which is cleared', async (t) => {
  const { access } = await daemon.softphone()
  const https = { 'X-Forwarded-Proto': 'https' }
  const cookie = { ...https, Cookie: `__Host-postern=${access}` }
  const foreign = await daemon.ask(PATH, {
    method: 'POST',
    headers: { ...cookie, 'Sec-Fetch-Site': 'cross-site' },
  })
  t.equal(foreign.status, 403, 'no logout from another site')
  t.same(foreign.all('set-cookie'), [])
  t.equal((await daemon.check(access)).status, 204)
  const answer = await daemon.ask(PATH, { method: 'POST', headers: cookie })
  t.equal(answer.status, 200)
  t.equal(
    answer.header('set-cookie'),
    '__Host-postern=; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=0',
  )
  t.equal((await daemon.check(access)).status, 401)
  const plain = await daemon.softphone()
  const both = { ...bearer(plain.access), Cookie: 'other=1' }
  t.match(
    (await daemon.ask(PATH, { method: 'POST', headers: both })).header('set-cookie'),
    /^postern=; /,
  )
})

void t.test('no spelling and no sibling of an ended token opens anything', async (t) => {
  const { access } = await daemon.softphone()
  const claims = daemon.claimsOf(access)
  await leave(access)
  const spellings = [
    access,
    `${access}=`,
    `${access}.`,
    `${access}%20`,
    daemon.forge(claims),
    daemon.forge({ ...claims, jti: 'another' }),
    daemon.forge(claims, { typ: 'AT+JWT' }),
  ]
  for (const token of spellings) t.equal((await daemon.check(token)).status, 401)
})

void t.test('an expired access token still ends its session', async (t) => {
  const { access, refresh: token } = await daemon.softphone()
  daemon.clock.advance(3600)
  t.equal((await daemon.check(access)).header('x-auth-reason'), 'expired')
  t.equal((await leave(access)).status, 200)
  t.equal((await refresh(token)).status, 401)
})

void t.test('without a token of ours it is a 401', async (t) => {
  const { access } = await daemon.softphone()
  const invalid = 'Bearer realm="postern", error="invalid_token"'
  const rows: Record<string, [headers: Record<string, string | string[]>, challenge: string]> = {
    nothing: [{}, 'Bearer realm="postern"'],
    'another scheme': [{ Authorization: `Basic ${access}` }, 'Bearer realm="postern"'],
    'two lines': [
      { Authorization: [`Bearer ${access}`, `Bearer ${access}`] },
      'Bearer realm="postern", error="invalid_request"',
    ],
    garbage: [bearer('a.b.c'), invalid],
    'a bad signature': [bearer(`${access.slice(0, -3)}AAA`), invalid],
  }
  for (const [what, [headers, challenge]] of Object.entries(rows)) {
    const answer = await daemon.ask(PATH, { method: 'POST', headers })
    t.equal(answer.status, 401, what)
    t.equal(answer.header('www-authenticate'), challenge, what)
    t.match(answer.json(), { success: false, error: 'Invalid or expired token', timestamp: Number })
  }
  t.equal((await daemon.check(access)).status, 204)
})

void t.test('all=true ends every session of the user, and needs a live token', async (t) => {
  const [one, two, three] = [
    await daemon.softphone('202'),
    await daemon.softphone('202'),
    await daemon.mikopbx('202'),
  ]
  const bystander = await daemon.softphone('201')
  await leave(two.access)
  t.equal((await leave(two.access, '?all=true')).status, 401, 'a dead one ends only itself')
  t.equal((await daemon.check(one.access)).status, 204)
  t.equal((await leave(one.access, '?all=false')).status, 200, 'only this one')
  t.equal((await daemon.check(three.access)).status, 204)
  const four = await daemon.softphone('202')
  t.equal((await leave(four.refresh, '?x=1&all=true')).status, 200)
  for (const { access } of [one, two, three, four]) {
    t.equal((await daemon.check(access)).header('x-auth-reason'), 'session_ended')
  }
  t.equal((await daemon.check(bystander.access)).status, 204)
})

void t.test('a refresh and a logout at once: after the logout nothing opens', async (t) => {
  for (let round = 0; round < 30; round++) {
    const { access, refresh: token } = await daemon.softphone('201')
    const racing = [refresh(token), refresh(token)]
    t.equal((await leave(access)).status, 200)
    for (const answer of await Promise.all(racing)) {
      if (answer.status !== 200) continue
      t.equal((await daemon.check(String(answer.json()['access_token']))).status, 401)
    }
    t.equal((await refresh(token)).status, 401)
  }
})

void t.test('it is logged with the address it came from', async (t) => {
  const { access } = await daemon.softphone('900')
  await daemon.ask(PATH, {
    method: 'POST',
    headers: { ...bearer(access), 'X-Real-IP': '2001:db8::9', 'X-Forwarded-For': '6.6.6.6' },
  })
  t.match(
    await daemon.securityLog(),
    /^\[LOGOUT\] logged out \| From: 2001:db8::9 \| User: 900 \|/m,
  )
  t.notMatch(await daemon.securityLog(), '6.6.6.6')
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
