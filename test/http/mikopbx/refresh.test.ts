// POST /auth:refresh of the mikopbx dialect, against the real daemon: parallel refreshes all succeed and end
// on one live token; a copied one ends the session.

import t from 'tap'

import { createRefreshHandler } from '../../../src/http/mikopbx/refresh.ts'
import { createSite } from '../../../src/http/site.ts'
import { NOW } from '../../fixtures/clock.ts'
import {
  type Answer,
  type Ask,
  bearer,
  JSON_TYPE,
  requestOf,
  startTestDaemon,
  type TestDaemon,
  V3,
} from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const PATH = `${V3}/auth:refresh`
const MONTH = 30 * 86_400
const refresh = (
  token: string,
  headers: Ask['headers'] = {},
  on: TestDaemon = daemon,
): Promise<Answer> =>
  on.ask(PATH, { method: 'POST', headers: { Cookie: `refreshToken=${token}`, ...headers } })
const nextOf = (answer: Answer): string =>
  /^refreshToken=([^;]*)/.exec(answer.header('set-cookie') ?? '')?.[1] ?? 'no cookie'
const accessOf = (answer: Answer): string =>
  (answer.json() as { data: { accessToken: string } }).data.accessToken

void t.test('the cookie gives a new access token and the next cookie', async (t) => {
  const { access, refresh: first } = await daemon.mikopbx()
  let token = first
  for (let round = 0; round < 2; round++) {
    daemon.clock.advance(1)
    const answer = await refresh(token)
    t.equal(answer.status, 200)
    t.same(answer.json(), {
      result: true,
      data: { accessToken: accessOf(answer), tokenType: 'Bearer', expiresIn: 900 },
      messages: {},
    })
    t.not(accessOf(answer), access)
    t.match(nextOf(answer), /^[0-9a-f]{64}$/)
    t.not(nextOf(answer), token)
    t.equal((await daemon.check(accessOf(answer))).status, 204)
    token = nextOf(answer)
  }
  const bodies: Ask[] = [
    { headers: JSON_TYPE, body: '{}' },
    { headers: { 'Content-Type': 'application/x-www-form-urlencoded' }, body: '' },
  ]
  for (const { headers, body = '' } of bodies) {
    const answer = await daemon.ask(PATH, {
      headers: { ...headers, Cookie: `refreshToken=${token}` },
      body,
    })
    t.equal(answer.status, 200)
    t.equal(answer.header('connection'), 'keep-alive', 'the body was read')
    token = nextOf(answer)
  }
})

void t.test(
  'the rotated cookie keeps the choice of the login, and the end of its session',
  async (t) => {
    const secure = { 'X-Forwarded-Proto': 'https' }
    const kept = await daemon.mikopbx('201', { rememberMe: true })
    daemon.clock.advance(100)
    const answer = await refresh(kept.refresh, secure)
    t.equal(
      answer.header('set-cookie'),
      `refreshToken=${nextOf(answer)}; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=${MONTH - 100}`,
    )
    const brief = await refresh((await daemon.mikopbx()).refresh)
    t.equal(
      brief.header('set-cookie'),
      `refreshToken=${nextOf(brief)}; Path=/; HttpOnly; SameSite=Strict`,
    )
  },
)

void t.test('a cookie that is no good is a 401 and is cleared', async (t) => {
  const { access, refresh: token } = await daemon.mikopbx()
  const [ended, late] = [await daemon.mikopbx(), await daemon.softphone()]
  await daemon.ask(`${V3}/auth:logout`, { method: 'POST', headers: bearer(ended.access) })
  const CLEARED = 'refreshToken=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0'
  const rows: Record<string, string> = {
    unknown: 'a'.repeat(64),
    'upper case': token.toUpperCase(),
    'one digit short': token.slice(1),
    'with a tail': `${token}0`,
    ended: ended.refresh,
    'an access token': access,
    'of the other dialect': late.refresh,
  }
  for (const [what, value] of Object.entries(rows)) {
    const answer = await refresh(value)
    t.equal(answer.status, 401, what)
    t.equal(answer.header('set-cookie'), CLEARED, what)
    t.match(answer.json(), { result: false, data: {}, messages: { error: [String] } }, what)
    t.match(answer.header('www-authenticate'), /^Bearer /)
  }
  const https = await refresh('a'.repeat(64), { 'X-Forwarded-Proto': 'https' })
  t.match(https.header('set-cookie'), /SameSite=Strict; Secure; Max-Age=0$/)
  t.equal((await refresh(token)).status, 200, 'the good one was touched by none of it')
})

void t.test('nothing but the one cookie is a credential here', async (t) => {
  const { access, refresh: token } = await daemon.mikopbx()
  const rows: Record<string, Ask> = {
    nothing: {},
    'the access token': { headers: bearer(access) },
    'as Bearer': { headers: bearer(token) },
    'as Basic': { headers: { Authorization: `Basic ${token}` } },
    'another case of the name': { headers: { Cookie: `refreshtoken=${token}` } },
    'a prefixed name': { headers: { Cookie: `__Host-refreshToken=${token}` } },
    'a longer name': { headers: { Cookie: `xrefreshToken=${token}` } },
    'an empty value': { headers: { Cookie: 'refreshToken=' } },
    'a name without a value': { headers: { Cookie: 'refreshToken' } },
    'in the body': { headers: JSON_TYPE, body: JSON.stringify({ refreshToken: token }) },
  }
  for (const [what, asked] of Object.entries(rows)) {
    const answer = await daemon.ask(PATH, { method: 'POST', ...asked })
    t.equal(answer.status, 401, what)
    t.same(answer.all('set-cookie'), [], 'there is nothing to clear')
  }
  t.equal((await daemon.ask(`${PATH}?refreshToken=${token}`, { method: 'POST' })).status, 401)
  const both = await refresh(token, bearer('a.b.c'))
  t.equal(both.status, 200, 'an Authorization header is not looked at')
})

void t.test('two values under one name are refused and cleared', async (t) => {
  const { refresh: token } = await daemon.mikopbx()
  const other = 'b'.repeat(64)
  for (const Cookie of [
    `refreshToken=${token}; refreshToken=${other}`,
    `refreshToken=${other}; refreshToken=${token}`,
    [`refreshToken=${token}`, `refreshToken=${other}`],
  ]) {
    const answer = await daemon.ask(PATH, { method: 'POST', headers: { Cookie } })
    t.equal(answer.status, 401)
    t.match(answer.header('set-cookie'), /^refreshToken=; .*Max-Age=0$/)
  }
  const many = Array.from({ length: 60 }, (_, n) => `c${n}=${n}`).join(';')
  let last = token
  for (const line of [
    `a=1;refreshToken=${token}`,
    `refreshToken="TOKEN"`,
    `${many};refreshToken=TOKEN; refreshToken=TOKEN`,
    `fill=${'x'.repeat(8000)}; refreshToken=TOKEN`,
    ['a=1', 'refreshToken=TOKEN'],
  ]) {
    const Cookie = [line].flat().map((text) => text.replaceAll('TOKEN', last))
    const answer = await daemon.ask(PATH, { method: 'POST', headers: { Cookie } })
    t.equal(answer.status, 200, 'among any other cookies')
    last = nextOf(answer)
  }
})

void t.test('another site’s page cannot rotate the cookie', async (t) => {
  const { refresh: token } = await daemon.mikopbx()
  const here = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'pbx.example' }
  for (const headers of [
    { ...here, Origin: 'https://evil.example' },
    { ...here, Origin: 'null' },
    { 'Sec-Fetch-Site': 'cross-site' },
    { 'Sec-Fetch-Site': 'same-site' },
    { 'Content-Type': 'text/plain' },
    { 'Content-Type': 'text/plain; charset=utf-8', 'Sec-Fetch-Site': 'same-origin' },
  ]) {
    const answer = await refresh(token, headers)
    t.equal(answer.status, 403, JSON.stringify(headers))
    t.same(answer.all('set-cookie'), [])
    t.match(answer.json(), { result: false, messages: { error: [/Cross-site/] } })
  }
  daemon.clock.advance(31)
  const own = { ...here, Origin: 'https://pbx.example', 'Sec-Fetch-Site': 'same-origin' }
  t.equal((await refresh(token, own)).status, 200, 'it was never traded: no grace was needed')
})

void t.test('what a body asks for is not given', async (t) => {
  const { refresh: token } = await daemon.mikopbx()
  const answer = await daemon.ask(PATH, {
    headers: { ...JSON_TYPE, Cookie: `refreshToken=${token}` },
    body: JSON.stringify({ role: 'admins', userId: '900', exp: 9e9, rememberMe: true }),
  })
  t.equal(answer.status, 200)
  t.match(daemon.claimsOf(accessOf(answer)), { role: 'user', userId: '201' })
  t.notMatch(answer.header('set-cookie'), 'Max-Age')
})

void t.test('a body over the limit is a 413 and rotates nothing', async (t) => {
  const { refresh: token } = await daemon.mikopbx()
  const answer = await daemon.ask(PATH, {
    headers: { ...JSON_TYPE, Cookie: `refreshToken=${token}` },
    body: 'x'.repeat(8193),
  })
  t.equal(answer.status, 413)
  daemon.clock.advance(31)
  t.equal((await refresh(token)).status, 200)
})

void t.test('after the grace the session ends with everything of it, said once', async (t) => {
  const { access, refresh: first } = await daemon.mikopbx('202')
  const second = await refresh(first)
  t.equal((await daemon.check(accessOf(second))).status, 204)
  daemon.clock.advance(31)
  const reused = await refresh(first)
  t.equal(reused.status, 401)
  t.match(reused.header('set-cookie'), /^refreshToken=; .*Max-Age=0$/, 'the cookie goes')
  t.equal((await refresh(first)).status, 401)
  t.equal((await refresh(nextOf(second))).status, 401)
  for (const token of [access, accessOf(second)]) {
    t.equal((await daemon.check(token)).header('x-auth-reason'), 'session_ended')
  }
  const lines = (await daemon.securityLog()).split('\n')
  t.equal(lines.filter((line) => line.startsWith('[REFRESH_REUSED]')).length, 1)
})

void t.test('within the grace only the immediate predecessor counts', async (t) => {
  const { access, refresh: first } = await daemon.mikopbx()
  const second = nextOf(await refresh(first))
  t.equal(nextOf(await refresh(first)), second, 'the same successor again')
  const third = nextOf(await refresh(second))
  t.equal((await refresh(first)).status, 401, 'its successor was used: an older one is a copy')
  t.equal((await refresh(third)).status, 401)
  t.equal((await daemon.check(access)).status, 401)
})

void t.test('five rotations within one second keep their order', async (t) => {
  const tokens = [(await daemon.mikopbx()).refresh]
  for (let round = 0; round < 5; round++) {
    tokens.push(nextOf(await refresh(tokens.at(-1) ?? '')))
  }
  t.equal(new Set(tokens).size, 6)
  t.equal((await refresh(tokens[2] ?? '')).status, 401)
})

void t.test('a restart between the rotation and what comes after changes nothing', async (t) => {
  const [lost, copied] = [await daemon.mikopbx(), await daemon.mikopbx()]
  const [after, used] = [nextOf(await refresh(lost.refresh)), await refresh(copied.refresh)]
  const next = nextOf(used)
  t.equal((await daemon.check(accessOf(used))).status, 204)
  await daemon.restart()
  t.equal(nextOf(await refresh(lost.refresh)), after, 'the lost answer comes again')
  t.equal((await refresh(after)).status, 200)
  daemon.clock.advance(31)
  t.equal((await refresh(copied.refresh)).status, 401, 'reuse is known for what it is')
  await daemon.restart()
  t.equal((await refresh(next)).status, 401)
  t.equal((await daemon.check(copied.access)).header('x-auth-reason'), 'session_ended')
})

void t.test('an answer that was lost is found again, hours later and over restarts', async (t) => {
  for (const after of [600, 36_000]) {
    const found = 'postern_refreshes_total{dialect="mikopbx",outcome="recovered"}'
    const { refresh: first } = await daemon.mikopbx()
    const lost = await refresh(first)
    daemon.clock.advance(after)
    await daemon.restart()
    const again = await refresh(first)
    t.equal(again.status, 200, `after ${after} s`)
    t.equal(nextOf(again), nextOf(lost))
    t.equal(await daemon.metric(found), 1)
    t.equal((await daemon.check(accessOf(again))).status, 204)
    await daemon.restart()
    t.equal(
      (await refresh(first)).status,
      401,
      'it has arrived: who comes with the older one now has copied it',
    )
    t.equal((await refresh(nextOf(again))).status, 401)
  }
})

void t.test('what lets an answer be found again ends with its setting', async (t) => {
  const { refresh: first } = await daemon.mikopbx()
  await refresh(first)
  daemon.clock.advance(600)
  await daemon.reload({ refresh: 'unseen_grace = 0' })
  t.equal((await refresh(first)).status, 401)
  await daemon.reload({})
})

void t.test('with rotation off the cookie stays, and lives as long as its session', async (t) => {
  const still = await startTestDaemon(t, { sections: { mikopbx: 'rotate = false' } })
  const { refresh: token } = await still.mikopbx('201', { rememberMe: true })
  still.clock.advance(60)
  const answer = await refresh(token, {}, still)
  t.equal(nextOf(answer), token)
  t.match(answer.header('set-cookie'), `Max-Age=${MONTH - 60}`)
  still.clock.advance(MONTH)
  t.equal((await refresh(token, {}, still)).status, 401)
})

void t.test('a user source that is away is a 503 and clears nothing', async (t) => {
  const handler = createRefreshHandler({
    refresh: async () => ({ unavailable: 'source_away', retryAfter: 5 }),
    site: createSite([], 'auto'),
    now: () => NOW,
    observe: { refresh: () => undefined },
  })
  const reply = await handler(requestOf(['Cookie', `refreshToken=${'a'.repeat(64)}`]))
  t.equal(reply.status, 503)
  t.same(reply.headers.slice(-2), ['Retry-After', '5'])
  t.notOk(reply.headers.includes('Set-Cookie'))
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
