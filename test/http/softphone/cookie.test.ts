// Cookies of a page, from the login that sets one to the logout that clears it: at each of our own endpoints
// under the same rule.

import t from 'tap'

import { bearer, JSON_TYPE, PASSWORD, startTestDaemon, V1 } from '../../fixtures/daemon.ts'
import { checkPath } from '../../fixtures/postern.ts'

const daemon = await startTestDaemon(t)
const HTTPS = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'pbx.test' }
const LOCAL = { 'X-Forwarded-Proto': 'http', 'X-Forwarded-Host': 'localhost:8080' }
const profile = async (headers: Record<string, string>): Promise<number> =>
  (await daemon.ask(`${V1}/profile`, { headers })).status
const enter = (headers: Record<string, string>, cookie: unknown = true) =>
  daemon.ask(`${V1}/auth/login`, {
    headers: { ...JSON_TYPE, ...headers },
    body: JSON.stringify({ username: '201', password: PASSWORD, cookie }),
  })

void t.test('a login with a cookie sets one, for as long as the token lives', async (t) => {
  const secure = await enter(HTTPS)
  t.equal(secure.status, 200)
  t.match(
    secure.header('set-cookie'),
    /^__Host-postern=eyJ[^;]+; Path=\/; HttpOnly; SameSite=Strict; Secure; Max-Age=3600$/,
  )
  for (const host of ['localhost', 'localhost:8080', '127.0.0.1:80', '[::1]', '[::1]:8080']) {
    const plain = await enter({ ...LOCAL, 'X-Forwarded-Host': host })
    t.match(
      plain.header('set-cookie'),
      /^postern=eyJ[^;]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=3600$/,
      host,
    )
  }
  for (const cookie of [false, 'true', 1, null]) {
    t.same((await enter(HTTPS, cookie)).all('set-cookie'), [], String(cookie))
  }
})

void t.test('on other http there is no cookie, and the cure is said', async (t) => {
  for (const host of ['pbx.test', 'localhost.evil.test', '127.0.0.1.evil.test', '10.0.0.1', '']) {
    const answer = await enter({ ...LOCAL, 'X-Forwarded-Host': host })
    t.equal(answer.status, 400, host)
    t.match(answer.json(), { error: /needs https/ })
    t.same(answer.all('set-cookie'), [])
  }
  await daemon.reload({ cookies: 'secure = "always"' })
  const answer = await enter({ ...LOCAL, 'X-Forwarded-Host': 'pbx.test' })
  t.match(answer.header('set-cookie'), /^__Host-postern=.*Secure/, 'TLS ended elsewhere')
  await daemon.reload({})
})

void t.test("another site's page logs nobody in", async (t) => {
  for (const headers of [{ 'Sec-Fetch-Site': 'cross-site' }, { Origin: 'https://evil.test' }]) {
    const answer = await enter({ ...HTTPS, ...headers })
    t.equal(answer.status, 403)
    t.same(answer.all('set-cookie'), [])
  }
  t.equal((await enter({ ...HTTPS, Origin: 'https://pbx.test' })).status, 200)
})

void t.test('behind what ends the TLS the listed origin counts', async (t) => {
  const before = daemon.log().length
  // As the inner nginx sees a browser at https://pbx.test:8443: plain http, and a Host that lost its port.
  const inner = { 'X-Forwarded-Proto': 'http', 'X-Forwarded-Host': 'pbx.test' }
  const page = { ...inner, Origin: 'https://pbx.test:8443' }
  const browser = { ...page, 'Sec-Fetch-Site': 'same-origin' }
  const socket = (origin: string, token: string) =>
    daemon.ask(checkPath('sip'), {
      headers: {
        ...inner,
        'X-Auth-Action': 'connect',
        'X-Auth-Accept': 'cookie',
        Cookie: `__Host-postern=${token}`,
        Origin: origin,
      },
    })
  t.match((await enter(browser)).json(), { error: /needs https.*site\.origins/ })
  const refused = await enter(page)
  t.equal(refused.status, 403)
  t.match(refused.json(), { error: /^Cross-site login.*site\.origins/ })

  await daemon.reload({ site: 'origins = ["https://pbx.test:8443"]' })
  for (const headers of [browser, page]) {
    const answer = await enter(headers)
    t.equal(answer.status, 200)
    t.match(answer.header('set-cookie'), /^__Host-postern=.*; Secure/)
  }
  t.equal((await enter({ ...page, Origin: 'https://pbx.test' })).status, 403, 'no other')
  const [, token = ''] = /=([^;]*)/.exec((await enter(page)).header('set-cookie') ?? '') ?? []
  t.equal((await socket('https://pbx.test:8443', token)).status, 204)
  const stranger = await socket('https://evil.test', token)
  t.match([stranger.status, stranger.header('x-auth-reason')], [403, 'cross_site'])

  const lines = daemon
    .log()
    .slice(before)
    .filter(({ reason }) => reason === 'cross_site')
  t.match(lines, [
    { route: 'login', status: 403, origin: 'https://pbx.test:8443', own: 'http://pbx.test' },
    { route: 'login', origin: 'https://pbx.test', own: 'https://pbx.test:8443' },
    { route: 'check', origin: 'https://evil.test', own: 'https://pbx.test:8443' },
  ])
  for (const { msg } of lines) t.match(msg, /site\.origins/)
  await daemon.reload({})
})

void t.test('the cookie counts where it belongs, and only for this site', async (t) => {
  const { access } = await daemon.softphone()
  const cookie = (name: string, value = access) => ({ Cookie: `${name}=${value}` })
  const rows: [what: string, headers: Record<string, string>, status: number][] = [
    ['on https', { ...HTTPS, ...cookie('__Host-postern') }, 200],
    ['on loopback', { ...LOCAL, ...cookie('postern') }, 200],
    ['the plain one on https', { ...HTTPS, ...cookie('postern') }, 401],
    ['the secure one on http', { ...LOCAL, ...cookie('__Host-postern') }, 401],
    ['in other letters', { ...HTTPS, ...cookie('__host-postern') }, 401],
    [
      'of our page',
      { ...HTTPS, ...cookie('__Host-postern'), 'Sec-Fetch-Site': 'same-origin' },
      200,
    ],
    ['of our Origin', { ...HTTPS, ...cookie('__Host-postern'), Origin: 'https://pbx.test' }, 200],
    [
      'of another site',
      { ...HTTPS, ...cookie('__Host-postern'), 'Sec-Fetch-Site': 'cross-site' },
      403,
    ],
    ['of a sibling', { ...HTTPS, ...cookie('__Host-postern'), 'Sec-Fetch-Site': 'same-site' }, 403],
    [
      'of another Origin',
      { ...HTTPS, ...cookie('__Host-postern'), Origin: 'https://evil.test' },
      403,
    ],
    [
      'of our host, but http',
      { ...HTTPS, ...cookie('__Host-postern'), Origin: 'http://pbx.test' },
      403,
    ],
    ['two that differ', { ...HTTPS, Cookie: `__Host-postern=${access}; __Host-postern=x` }, 401],
    [
      'twice the same',
      { ...HTTPS, Cookie: `__Host-postern=${access}; __Host-postern=${access}` },
      200,
    ],
    ['empty', { ...HTTPS, Cookie: '__Host-postern=' }, 401],
    // An explicit credential beats it, and a bad one does not fall back.
    [
      'a good token beats a bad cookie',
      { ...HTTPS, ...cookie('__Host-postern', 'x'), ...bearer(access) },
      200,
    ],
    [
      'a bad token does not fall back',
      { ...HTTPS, ...cookie('__Host-postern'), ...bearer('x') },
      401,
    ],
    ['a token needs no site', { ...bearer(access), Origin: 'https://evil.test' }, 200],
  ]
  for (const [what, headers, status] of rows) t.equal(await profile(headers), status, what)
})

void t.test('a refresh renews the cookie of its own session, and a logout clears it', async (t) => {
  const login = await enter(HTTPS)
  const [, token = ''] = /^__Host-postern=([^;]*)/.exec(login.header('set-cookie') ?? '') ?? []
  const { refresh_token: refresh } = login.json() as { refresh_token: string }
  const renew = (headers: Record<string, string>) =>
    daemon.ask(`${V1}/auth/refresh`, {
      method: 'POST',
      headers: { ...HTTPS, ...bearer(refresh), ...headers },
    })
  const renewed = await renew({ Cookie: `__Host-postern=${token}` })
  t.match(renewed.header('set-cookie'), /^__Host-postern=eyJ[^;]+;.*Max-Age=3600$/)
  t.same((await renew({})).all('set-cookie'), [], 'who has none gets none')
  const { access } = await daemon.softphone('202')
  t.same((await renew({ Cookie: `__Host-postern=${access}` })).all('set-cookie'), [], "another's")
  daemon.clock.advance(3601)
  const late = await renew({ Cookie: `__Host-postern=${token}` })
  t.match(late.header('set-cookie'), /^__Host-postern=eyJ/, 'a page that slept is let in again')

  const left = await daemon.ask(`${V1}/auth/logout`, {
    method: 'POST',
    headers: { ...HTTPS, Cookie: `__Host-postern=${token}` },
  })
  t.equal(left.status, 200)
  t.match(left.header('set-cookie'), /^__Host-postern=; .*Max-Age=0$/)
})
