// The HTTP source against real servers, well-behaved and not.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigError } from '../../src/config/config-error.ts'
import { openHttpUsers, type HttpUsersOptions } from '../../src/users/http.ts'
import {
  answer,
  createCertificate,
  findClosedPort,
  needsOpenssl,
  openCannedServer,
  silent,
  type Canned,
} from '../fixtures/canned-server.ts'

const PASSWORD = 'p"&%+ü#'
const AWAY = { unavailable: 'source_away' }
const LATER = { unavailable: 'source_away', retryAfter: 2 }
const alice = { name: 'alice', role: 'user' }

const openSource = (t: Test, port: number, options: Partial<HttpUsersOptions> = {}) => {
  const problems: string[] = []
  let hashed = 0
  const source = openHttpUsers({
    loginUrl: `http://127.0.0.1:${port}/login`,
    lookupUrl: `http://127.0.0.1:${port}/lookup`,
    timeout: 5,
    hashDecoy: async () => void hashed++,
    onProblem: (problem) => void problems.push(problem),
    ...options,
  })
  t.teardown(() => source.close())
  return { source, problems, hashed: () => hashed }
}

const open = async (t: Test, answers: Canned[], options: Partial<HttpUsersOptions> = {}) => {
  const server = await openCannedServer(t, answers)
  return { server, ...openSource(t, server.port, options) }
}

void t.test('a login asks with name and password and takes the user from the answer', async (t) => {
  const body = { ...alice, display_name: 'Alice Ä', credential: 'v7', more: [1] }
  const { server, source, problems } = await open(t, [answer(200, body)], { token: 'let-me-in' })
  const answered = await source.authenticate('alice', PASSWORD)
  t.match(answered, {
    user: { name: 'alice', role: 'user', displayName: 'Alice Ä', credential: /^[0-9a-f]{16}$/ },
  })
  const [head = '', sent = ''] = (server.requests[0] ?? '').split('\r\n\r\n')
  t.match(head, /^POST \/login HTTP\/1\.1\r\n/)
  t.match(head, /content-type: application\/json/i)
  t.match(head, /authorization: Bearer let-me-in/i)
  t.same(JSON.parse(sent), { username: 'alice', password: PASSWORD })
  t.same(await source.lookup('alice'), answered, 'the same mark at a look-up')
  t.same(JSON.parse((server.requests[1] ?? '').split('\r\n\r\n')[1] ?? ''), { username: 'alice' })
  t.same(problems, [])
})

void t.test('name and role are enough', async (t) => {
  const { server, source } = await open(t, [answer(200, alice)])
  const user = { name: 'alice', role: 'user', displayName: 'alice', credential: '' }
  t.same(await source.authenticate('alice', PASSWORD), { user })
  t.notMatch(server.requests[0], /authorization/i)
})

void t.test('a number is what the answer says, else the name where that is one', async (t) => {
  const named = { name: '201', role: 'user' }
  const cases: [object, string | undefined][] = [
    [{}, '201'],
    [{ number: '301' }, '301'],
    // Said, and no number: the name is not taken in its place. A service of today may say anything there.
    ...['', ' 301', '3-1', '٣٠١', 301, null, ['301']].map((number): [object, undefined] => [
      { number },
      undefined,
    ]),
  ]
  for (const [said, number] of cases) {
    const { source } = await open(t, [answer(200, { ...named, ...said })])
    const found = await source.lookup('201')
    t.equal('user' in found && found.user.number, number, JSON.stringify(said))
  }
})

void t.test(
  '401 is a wrong password where the look-up knows the name, and costs a hash',
  async (t) => {
    const { server, source, hashed } = await open(t, [answer(401, ''), answer(200, alice)])
    t.same(await source.authenticate('alice', PASSWORD), { refused: 'wrong_password' })
    t.match(server.requests[1], /^POST \/lookup /)
    t.notMatch(server.requests[1], /password/)
    t.equal(hashed(), 1)
  },
)

void t.test(
  '401 is an unknown user where the look-up says gone: the next source may know',
  async (t) => {
    const { source, hashed } = await open(t, [answer(401, '{}'), answer(404, '{}')])
    t.same(await source.authenticate('alice', PASSWORD), { refused: 'unknown_user' })
    t.equal(hashed(), 0, 'the directory pays for that one')
  },
)

void t.test('401 counts as a wrong password also where the look-up is away', async (t) => {
  const { source } = await open(t, [answer(401, ''), answer(500, '')])
  t.same(await source.authenticate('alice', PASSWORD), { refused: 'wrong_password' })
})

void t.test('a look-up says who is there and who is gone', async (t) => {
  const { source } = await open(t, [answer(200, alice), answer(404, ''), answer(404, '{"a":1}')])
  t.match(await source.lookup('alice'), { user: alice })
  t.same(await source.lookup('alice'), { refused: 'unknown_user' })
  t.same(await source.lookup('alice'), { refused: 'unknown_user' })
})

const half = 'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"name":"alice","role":"user"}'
const json = (value: unknown): string => answer(200, JSON.stringify(value))

const away: [string, Canned, RegExp][] = [
  ['a server error', answer(500, ''), /answered 500/],
  ['an overloaded server', answer(503, '', { 'Retry-After': '1' }), /answered 503/],
  ['a redirect', answer(302, '', { Location: '/elsewhere' }), /answered 302.*not followed/],
  ['forbidden', answer(403, '{}'), /answered 403/],
  ['another success', answer(201, alice), /answered 201/],
  ['silence', silent, /no complete answer \(TIMEOUT\)/],
  ['a closed connection', '', /no complete answer \(CLOSED\)/],
  ['half an answer', half, /no complete answer \(HALF_ANSWER\)/],
  ['an endless answer', answer(200, `{"name":"${'a'.repeat(20_000)}"}`), /\(TOO_LARGE\)/],
  ['HTML', answer(200, '<html>'), /answered 200 without/],
  ['nothing', answer(200, ''), /answered 200 without/],
  ['a list', json([alice]), /answered 200 without/],
  ['null', json(null), /answered 200 without/],
  ['no name', json({ role: 'user' }), /answered 200 without/],
  ['another name', json({ ...alice, name: 'bob' }), /answered 200 without/],
  ['the name in capitals', json({ ...alice, name: 'Alice' }), /answered 200 without/],
  ['the name with a blank', json({ ...alice, name: 'alice ' }), /answered 200 without/],
  ['no role', json({ name: 'alice' }), /answered 200 without/],
  ['an empty role', json({ ...alice, role: '' }), /answered 200 without/],
  ['a list of roles', json({ ...alice, role: ['user'] }), /answered 200 without/],
  ['a role with a line feed', json({ ...alice, role: 'user\nadmin' }), /answered 200 without/],
  ['a role too long', json({ ...alice, role: 'r'.repeat(65) }), /answered 200 without/],
  ['a display name of the wrong kind', json({ ...alice, display_name: 5 }), /answered 200 without/],
  [
    'a display name too long',
    json({ ...alice, display_name: 'x'.repeat(257) }),
    /answered 200 without/,
  ],
  ['a credential of the wrong kind', json({ ...alice, credential: 7 }), /answered 200 without/],
]

for (const [name, canned, problem] of away) {
  void t.test(`away, neither in nor out: ${name}`, async (t) => {
    const { source, problems } = await open(t, [canned], { timeout: 0.2 })
    t.same(await source.authenticate('alice', PASSWORD), LATER)
    t.same(await source.lookup('alice'), AWAY)
    t.match(problems, [problem, problem])
    t.match(problems, [/^login_url: /, /^lookup_url: /])
    t.notMatch(problems.join(), /p"&%|alice/, 'neither password nor name')
  })
}

void t.test(
  "a web server's own page means a wrong address, not that everybody is gone",
  async (t) => {
    const { source, problems } = await open(t, [answer(401, '<html>'), answer(404, '<html>')])
    t.same(await source.authenticate('alice', PASSWORD), LATER)
    t.same(await source.lookup('alice'), AWAY)
    t.match(problems, [
      /^login_url: answered 401 with a page/,
      /^lookup_url: answered 404 with a page/,
    ])
  },
)

void t.test('nothing listens: away', async (t) => {
  const { source, problems } = openSource(t, await findClosedPort())
  t.same(await source.lookup('alice'), AWAY)
  t.match(problems, [/ECONNREFUSED/])
})

void t.test('the same trouble is told once, and again after a good answer', async (t) => {
  const bad = answer(500, '')
  const { source, problems } = await open(t, [bad, bad, answer(404, ''), bad, answer(502, '')])
  for (let turn = 0; turn < 5; turn++) await source.lookup('alice')
  t.match(problems, [/answered 500/, /answered 500/, /answered 502/])
})

void t.test(
  'more than so many at once are told to come back, logins and look-ups apart',
  async (t) => {
    const held: (() => void)[] = []
    const hold: Canned = (socket) => void held.push(() => socket.end(answer(200, alice)))
    const { server, source } = await open(t, [hold])
    const asked = Array.from({ length: 32 }, () => source.authenticate('alice', 'x'))
    t.same(await source.authenticate('alice', 'z'), LATER)
    const looked = Array.from({ length: 32 }, () => source.lookup('alice'))
    t.same(await source.lookup('alice'), AWAY)
    while (held.length < 64) await new Promise((resolve) => setImmediate(resolve))
    for (const release of held) release()
    for (const one of [...asked, ...looked]) t.match(await one, { user: alice })
    t.equal(server.requests.length, 64)
    const after = source.lookup('alice')
    while (held.length < 65) await new Promise((resolve) => setImmediate(resolve))
    held[64]?.()
    t.match(await after, { user: alice }, 'room again')
  },
)

void t.test('nothing can be told without asking, and there is nothing to read again', async (t) => {
  const { server, source } = await open(t, [answer(200, alice)])
  t.equal(source.name, 'http')
  t.equal(source.peek('alice'), undefined)
  t.same(await source.reread(true), [])
  t.same([...source.names()], [])
  t.equal(server.requests.length, 0)
})

void t.test('close ends what is under way, in silence', async (t) => {
  const { source, problems } = await open(t, [silent])
  const asked = source.lookup('alice')
  source.close()
  t.same(await asked, AWAY)
  t.same(await source.authenticate('alice', PASSWORD), LATER)
  t.same(problems, [])
})

void t.test('a unix socket is spelled as nginx spells it', async (t) => {
  // Not t.testdir(): a socket's path has 107 bytes, and the tree may stand anywhere.
  const folder = mkdtempSync(join(tmpdir(), 'postern-u-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const path = join(folder, 'directory.sock')
  const server = await openCannedServer(t, [answer(200, alice)], { path })
  const { source } = openSource(t, 0, {
    loginUrl: `http://unix:${path}:/v1/login?x=1`,
    lookupUrl: `http://unix:${path}:/v1/lookup`,
  })
  t.match(await source.authenticate('alice', PASSWORD), { user: alice })
  t.match(await source.lookup('alice'), { user: alice })
  t.match(server.requests, [/^POST \/v1\/login\?x=1 /, /^POST \/v1\/lookup /])
})

void t.test('https trusts the CA file and nobody else', needsOpenssl, async (t) => {
  const certificate = createCertificate(t.testdir(), 'IP:127.0.0.1')
  const server = await openCannedServer(t, [answer(200, alice)], { tls: certificate })
  const urls = {
    loginUrl: `https://127.0.0.1:${server.port}/login`,
    lookupUrl: `https://127.0.0.1:${server.port}/lookup`,
  }
  const trusting = openSource(t, 0, { ...urls, ca: certificate.file })
  t.match(await trusting.source.authenticate('alice', PASSWORD), { user: alice })
  const strict = openSource(t, 0, urls)
  t.same(await strict.source.authenticate('alice', PASSWORD), LATER)
  t.match(strict.problems, [/DEPTH_ZERO_SELF_SIGNED_CERT.*name .* in http_users\.ca_file/])
  t.equal(server.requests.length, 1, 'the second password was not sent')
})

const addresses: [string, Partial<HttpUsersOptions>, RegExp | undefined][] = [
  ['https://pbx.example/login', {}, undefined],
  ['http://127.0.0.1:8080/login', {}, undefined],
  ['http://127.9.8.7/login', {}, undefined],
  ['http://localhost/login', {}, undefined],
  ['http://[::1]:8080/login', {}, undefined],
  ['http://unix:/run/x.sock:/login', {}, undefined],
  ['http://pbx.example/login', { allowPlain: true }, undefined],
  ['http://pbx.example/login', {}, /in the clear/],
  ['http://10.0.0.1/login', {}, /in the clear/],
  ['http://[2001:db8::1]/login', {}, /in the clear/],
  ['http://localhost.example/login', {}, /in the clear/],
  ['http://127.1/login', {}, undefined],
  ['http://127.0.0.1.example/login', {}, /in the clear/],
  ['http://[::ffff:10.0.0.1]/login', {}, /in the clear/],
  ['ftp://127.0.0.1/', {}, /no address/],
  ['login', {}, /no address/],
  ['https://me:secret@pbx.example/', {}, /holds a login/],
  ['https://:secret@pbx.example/', {}, /holds a login/],
]

for (const [loginUrl, options, problem] of addresses) {
  void t.test(`${loginUrl} is ${problem ? 'refused' : 'taken'}`, (t) => {
    if (problem === undefined) openSource(t, 1, { loginUrl, ...options })
    else {
      try {
        openSource(t, 1, { loginUrl, ...options })
        t.fail('it was taken')
      } catch (error) {
        t.type(error, ConfigError)
        t.match(error, { problems: [problem] })
        t.match(error, { problems: [/^http_users\.login_url: /] })
        t.notMatch(String(error), /secret/)
      }
    }
    t.end()
  })
}

void t.test('every problem is told at once', (t) => {
  try {
    openSource(t, 1, { loginUrl: '', lookupUrl: '', ca: '/nonexistent', token: 'a\r\nb' })
    t.fail('it was taken')
  } catch (error) {
    t.match(error, {
      problems: [
        /^http_users\.login_url: /,
        /^http_users\.lookup_url: /,
        /^http_users\.ca_file: /,
        /^http_users\.token_file: /,
      ],
    })
  }
  t.throws(() => openSource(t, 1, { ca: import.meta.filename }), /holds no PEM/)
  t.end()
})
