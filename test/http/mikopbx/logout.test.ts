// POST /auth:logout of the mikopbx dialect, against the real daemon: the access token dies too, and the
// cookie is cleared.

import t from 'tap'

import {
  type Answer,
  type Ask,
  bearer,
  FORM_TYPE,
  JSON_TYPE,
  startTestDaemon,
  V3,
} from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const PATH = `${V3}/auth:logout`
const leave = (headers: Ask['headers'] = {}, body?: string): Promise<Answer> =>
  daemon.ask(PATH, { method: 'POST', headers, ...(body !== undefined && { body }) })
const cookie = (token: string): Record<string, string> => ({ Cookie: `refreshToken=${token}` })
const refresh = (token: string): Promise<Answer> =>
  daemon.ask(`${V3}/auth:refresh`, { method: 'POST', headers: cookie(token) })

const CLEARED = 'refreshToken=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0'

void t.test(
  'by Bearer, by cookie, by both, twice: everything of the session is over',
  async (t) => {
    const ways: Record<string, (access: string, token: string) => Record<string, string>> = {
      'by Bearer': (access) => bearer(access),
      'by cookie': (_, token) => cookie(token),
      'by both': (access, token) => ({ ...bearer(access), ...cookie(token) }),
    }
    for (const [what, headersOf] of Object.entries(ways)) {
      const session = await daemon.mikopbx()
      const other = await daemon.mikopbx()
      const headers = headersOf(session.access, session.refresh)
      for (let time = 0; time < 2; time++) {
        const answer = await leave(headers)
        t.equal(answer.status, 200, what)
        t.same(answer.json(), {
          result: true,
          data: { message: 'Logged out successfully' },
          messages: {},
        })
        t.equal(answer.header('set-cookie'), CLEARED, 'the cookie goes')
      }
      t.equal((await daemon.check(session.access)).header('x-auth-reason'), 'session_ended', what)
      t.equal((await refresh(session.refresh)).status, 401, what)
      t.equal((await daemon.check(other.access)).status, 204, 'nothing else of the user ends')
      t.equal((await refresh(other.refresh)).status, 200)
    }
  },
)

void t.test('a late Bearer still leaves, and its cookie with it', async (t) => {
  const { access, refresh: token } = await daemon.mikopbx()
  daemon.clock.advance(900)
  t.equal((await daemon.check(access)).header('x-auth-reason'), 'expired')
  t.equal((await leave({ ...bearer(access), ...cookie(token) })).status, 200)
  t.equal((await refresh(token)).status, 401)
})

void t.test(
  'a bad Bearer beside a good cookie leaves by the cookie, and the other way round',
  async (t) => {
    const one = await daemon.mikopbx()
    t.equal((await leave({ ...bearer('a.b.c'), ...cookie(one.refresh) })).status, 200)
    t.equal((await daemon.check(one.access)).status, 401)
    const two = await daemon.mikopbx()
    t.equal((await leave({ ...bearer(two.access), ...cookie('f'.repeat(64)) })).status, 200)
    t.equal((await daemon.check(two.access)).status, 401)
    const three = await daemon.mikopbx()
    const tossed = `refreshToken=${three.refresh}; refreshToken=${'e'.repeat(64)}`
    t.equal((await leave({ ...bearer(three.access), Cookie: tossed })).status, 200)
    t.equal((await refresh(three.refresh)).status, 401)
  },
)

void t.test('neither is a 401, and a cookie that is no good is cleared', async (t) => {
  const rows: Record<string, [Ask['headers'], challenge: string, isCleared: boolean]> = {
    nothing: [{}, 'Bearer realm="postern"', false],
    'a bad Bearer': [bearer('a.b.c'), 'Bearer realm="postern", error="invalid_token"', false],
    'an unknown cookie': [cookie('d'.repeat(64)), 'Bearer realm="postern"', true],
    'two cookies': [{ Cookie: `refreshToken=1; refreshToken=2` }, 'Bearer realm="postern"', true],
    'both bad': [
      { ...bearer('a.b.c'), ...cookie('x') },
      'Bearer realm="postern", error="invalid_token"',
      true,
    ],
  }
  for (const [what, [headers, challenge, isCleared]] of Object.entries(rows)) {
    const answer = await leave(headers)
    t.equal(answer.status, 401, what)
    t.equal(answer.header('www-authenticate'), challenge, what)
    t.match(answer.json(), { result: false, data: {}, messages: { error: ['Unauthorized'] } })
    t.same(answer.all('set-cookie'), isCleared ? [CLEARED] : [], what)
  }
})

void t.test('another site’s page logs nobody out', async (t) => {
  const { access, refresh: token } = await daemon.mikopbx()
  for (const headers of [
    { 'Sec-Fetch-Site': 'cross-site' },
    { Origin: 'https://evil.example' },
    { Origin: 'null' },
    { 'Content-Type': 'text/plain' },
  ]) {
    const answer = await leave({ ...cookie(token), ...headers })
    t.equal(answer.status, 403, JSON.stringify(headers))
    t.same(answer.all('set-cookie'), [])
  }
  const guessed = await leave({
    ...cookie(token),
    ...bearer('a.b.c'),
    'Sec-Fetch-Site': 'cross-site',
  })
  t.equal(guessed.status, 401, 'a Bearer that is no good does not open the cookie')
  t.same(guessed.all('set-cookie'), [])
  t.equal((await daemon.check(access)).status, 204)
  t.equal((await refresh(token)).status, 200)
  t.equal(
    (await leave({ ...bearer(access), Origin: 'https://evil.example' })).status,
    200,
    'who holds the token needs no cookie',
  )
})

void t.test('all ends every session of the user', async (t) => {
  const ways: [headers: Ask['headers'], body: string | undefined, query: string, due: boolean][] = [
    [JSON_TYPE, '{"all":true}', '', true],
    [JSON_TYPE, '{"all":"yes"}', '', false],
    [FORM_TYPE, 'all=true', '', true],
    [FORM_TYPE, 'all=1', '', true],
    [{}, undefined, '?all=true', true],
    [{}, undefined, '?all=false', false],
    [JSON_TYPE, '{"all":false}', '', false],
  ]
  for (const [headers, body, query, isDue] of ways) {
    for (const by of ['access', 'refresh'] as const) {
      const [one, two] = [await daemon.mikopbx('202'), await daemon.softphone('202')]
      const answer = await daemon.ask(PATH + query, {
        method: 'POST',
        headers: { ...headers, ...(by === 'access' ? bearer(one.access) : cookie(one.refresh)) },
        ...(body !== undefined && { body }),
      })
      t.equal(answer.status, 200)
      t.equal((await daemon.check(one.access)).status, 401)
      t.equal((await daemon.check(two.access)).status, isDue ? 401 : 204, `${body} ${query}`)
    }
  }
  const [dead, alive] = [await daemon.mikopbx('202'), await daemon.mikopbx('202')]
  await leave(bearer(dead.access))
  for (const headers of [bearer(dead.access), cookie(dead.refresh)]) {
    const answer = await daemon.ask(`${PATH}?all=true`, { method: 'POST', headers })
    t.equal(answer.status, 401, 'a dead token ends only itself')
  }
  t.equal((await daemon.check(alive.access)).status, 204)
})

void t.test('a body over the limit is a 413 and logs nobody out', async (t) => {
  const { access } = await daemon.mikopbx()
  t.equal((await leave({ ...bearer(access), ...JSON_TYPE }, 'x'.repeat(10_000))).status, 413)
  t.equal((await daemon.check(access)).status, 204)
})

void t.test('GET is a 405', async (t) => {
  const answer = await daemon.ask(PATH)
  t.equal(answer.status, 405)
  t.equal(answer.header('allow'), 'POST')
})

void t.test('no password and no token stands in a log', async (t) => {
  t.match(
    await daemon.securityLog(),
    /^\[LOGOUT\] logged out \| From: 192\.0\.2\.1 \| User: 201 \|/m,
  )
  t.same(await daemon.leaks(), [])
})
