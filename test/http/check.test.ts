// GET /check against the real daemon: what nginx reads off the answer, byte for byte, and that nothing but a
// good credential with a grant ever gets a 204.

import t from 'tap'

import type { CheckRequest, Decision } from '../../src/auth/check.ts'
import { refuse } from '../../src/auth/decision.ts'
import type { Claims } from '../../src/auth/token.ts'
import { parseGrant } from '../../src/auth/grants.ts'
import { createCheckHandlers } from '../../src/http/check.ts'
import { readResource } from '../../src/http/resource.ts'
import type { Reply } from '../../src/http/reply.ts'
import type { Request } from '../../src/http/request.ts'
import { createSite } from '../../src/http/site.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import {
  type Answer,
  bearer,
  bytesOf,
  type CheckHeaders,
  HASH,
  JSON_TYPE,
  requestOf,
  startTestDaemon,
  V1,
} from '../fixtures/daemon.ts'
import { CHECK, checkPath } from '../fixtures/postern.ts'

const ODD = ['Jürgen', '２０１', 'a b', 'x,admin', '100%', 'á', 'a\u0301', 'ж'.repeat(32)]
const daemon = await startTestDaemon(t, {
  users: [`ghost:${HASH}:nobody-knows`, ...ODD.map((name) => `${name}:${HASH}:user`)],
})
const user = await daemon.softphone('201')
const admin = await daemon.softphone('900')

const ask = ({ resource = '', ...headers }: CheckHeaders = {}, path?: string): Promise<Answer> =>
  daemon.ask(path ?? checkPath(resource), { headers })
const HEADER = { 'X-Auth-Accept': 'header' }
const READ = { ...HEADER, 'X-Auth-Action': 'read', resource: 'recordings/a.wav' }
const SUBSCRIBE = { ...HEADER, 'X-Auth-Action': 'subscribe', resource: 'users-state' }
/** As a location that forgot which credentials count. */
const RAW = { 'X-Auth-Action': 'read', resource: 'recordings/a.wav' }
const get = (path: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nX-Auth-Action: read\r\nX-Auth-Accept: header\r\nAuthorization: Bearer ${user.access}\r\n\r\n`
const ANY = { 'X-Auth-Accept': 'header cookie ticket query' }
const reasonOf = (answer: Answer): string =>
  `${answer.status} ${answer.header('x-auth-reason') ?? ''}`.trim()

/** The lines without the moment. */
const linesOf = ({ lines }: Answer): string[] => lines.filter((line) => !line.startsWith('Date: '))
const TAIL = ['Connection: keep-alive', 'Keep-Alive: timeout=75']
const HEAD = ['Cache-Control: no-store', 'X-Content-Type-Options: nosniff']

void t.test('a read that is granted is a 204 with exactly these headers', async (t) => {
  const { sid } = daemon.claimsOf(user.access)
  const answer = await ask({ ...READ, ...bearer(user.access) })
  t.equal(answer.status, 204)
  t.equal(answer.body, '')
  t.same(linesOf(answer), [
    ...HEAD,
    'X-Auth-User: 201',
    'X-Auth-Role: user',
    `X-Auth-Session: ${String(sid)}`,
    `X-Auth-Expires: ${NOW + 3600}`,
    ...TAIL,
  ])
})

void t.test('a subscribe that is granted names the channel and the kick id as well', async (t) => {
  const { sid, sub } = daemon.claimsOf(user.access)
  const answer = await ask({ ...SUBSCRIBE, ...bearer(user.access) })
  t.equal(answer.status, 204)
  const kick = answer.header('x-auth-kick')
  t.match(kick, /^kick-[A-Za-z0-9_-]{22}$/)
  t.same(linesOf(answer), [
    ...HEAD,
    'X-Auth-User: 201',
    'X-Auth-Role: user',
    `X-Auth-Session: ${String(sid)}`,
    `X-Auth-Expires: ${NOW + 3600}`,
    `X-Auth-Channels: users-state,${kick}`,
    'X-Auth-Channel: users-state',
    `X-Auth-Kick: ${kick}`,
    ...TAIL,
  ])
  const again = await ask({ ...SUBSCRIBE, ...bearer(user.access) })
  t.equal(again.header('x-auth-kick'), kick, 'one session and one channel have one kick id')
  const other = await ask({ ...SUBSCRIBE, ...bearer(admin.access) })
  t.not(other.header('x-auth-kick'), kick)
  const own = await ask({
    ...SUBSCRIBE,
    resource: 'me/active-calls',
    ...bearer(user.access),
  })
  t.equal(own.header('x-auth-channel'), `active-calls-user-${String(sub)}`)
})

void t.test(
  'no channel of ours to end streams by, and none that nginx could not have named',
  async (t) => {
    for (const resource of [
      'kick-AAAAAAAAAAAAAAAAAAAAAA',
      'Users-State',
      'users_state',
      'a'.repeat(65),
      'a/b',
      'a,b',
      'me/kick/x',
      'me/',
      'me/X',
      `me/${'a'.repeat(41)}`,
      '*',
      '**',
      'users-state ',
      ' users-state',
    ]) {
      const answer = await ask({
        ...SUBSCRIBE,
        resource,
        ...bearer(admin.access),
      })
      t.equal(reasonOf(answer), '403 bad_resource', resource)
      t.equal(answer.header('x-auth-channel'), undefined)
    }
  },
)

void t.test('a refusal is empty, says why to nginx, and keeps the connection', async (t) => {
  const none = await ask(READ)
  t.equal(none.status, 401)
  t.equal(none.body, '')
  t.same(linesOf(none), [
    ...HEAD,
    'WWW-Authenticate: Bearer realm="postern"',
    'X-Auth-Reason: no_credential',
    'Content-Length: 0',
    ...TAIL,
  ])
  const bad = await ask({ ...READ, ...bearer('a.b.c') })
  t.same(linesOf(bad).slice(2, -3), [
    'WWW-Authenticate: Bearer realm="postern", error="invalid_token"',
    'X-Auth-Reason: malformed_token',
  ])
  const denied = await ask({ ...READ, resource: 'other/x', ...bearer(user.access) })
  t.equal(denied.status, 403)
  t.same(linesOf(denied).slice(2), [
    'WWW-Authenticate: Bearer realm="postern", error="insufficient_scope"',
    'X-Auth-Reason: no_grant',
    'Content-Length: 0',
    ...TAIL,
  ])
})

void t.test(
  'every reason, by a request that has it; none of them carries an identity',
  async (t) => {
    const claims = daemon.claimsOf(user.access)
    const [head, payload] = user.access.split('.')
    const forged = (changes: object, header = {}): Record<string, string> =>
      bearer(daemon.forge({ ...claims, ...changes }, header))
    const ended = await daemon.softphone('201')
    await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(ended.access) })
    const ghost = await daemon.softphone('ghost')
    const good = bearer(user.access)
    const rows: Record<string, [status: 401 | 403, headers: CheckHeaders]> = {
      no_credential: [401, READ],
      invalid_request: [401, { ...READ, Authorization: [`Bearer ${user.access}`, 'Bearer x'] }],
      malformed_token: [401, { ...READ, ...bearer('null') }],
      unknown_key: [401, { ...READ, ...forged({}, { kid: 'another' }) }],
      bad_signature: [401, { ...READ, ...bearer(`${head}.${payload}.${'A'.repeat(43)}`) }],
      wrong_type: [401, { ...READ, ...bearer(user.refresh) }],
      bad_claims: [401, { ...READ, ...forged({ sub: null }) }],
      wrong_issuer: [401, { ...READ, ...forged({ iss: 'postern.evil' }) }],
      wrong_audience: [401, { ...READ, ...forged({ aud: [] }) }],
      not_yet_valid: [401, { ...READ, ...forged({ nbf: NOW + 6 }) }],
      expired: [401, { ...READ, ...forged({ iat: NOW - 9, nbf: NOW - 9, exp: NOW }) }],
      session_ended: [401, { ...READ, ...bearer(ended.access) }],
      user_removed: [401, { ...READ, ...forged({ username: 'nobody' }) }],
      user_disabled: [401, { ...READ, ...forged({ username: '203' }) }],
      unknown_role: [403, { ...READ, ...bearer(ghost.access) }],
      bad_action: [403, { ...READ, 'X-Auth-Action': 'delete', ...good }],
      bad_resource: [403, { ...READ, resource: 'a//x', ...good }],
      no_grant: [403, { ...READ, resource: 'other/x', ...good }],
      cross_site: [
        403,
        { ...READ, ...ANY, Cookie: `postern=${user.access}`, 'Sec-Fetch-Site': 'cross-site' },
      ],
    }
    for (const [reason, [status, headers]] of Object.entries(rows)) {
      const answer = await ask(headers)
      t.equal(reasonOf(answer), `${status} ${reason}`)
      t.match(answer.header('www-authenticate'), /^Bearer realm="postern"/)
      t.equal(answer.header('content-length'), '0')
      const named = answer.lines.filter((line) => /^x-auth-(?!reason)/i.test(line))
      t.same(named, [], 'I3')
    }
  },
)

void t.test('a missing, repeated or unknown action or resource is refused', async (t) => {
  const good = bearer(user.access)
  const { 'X-Auth-Action': _action, ...noAction } = READ
  const { resource: _resource, ...noResource } = READ
  const rows: [due: string, headers: CheckHeaders][] = [
    ['403 bad_action', { ...HEADER, ...good }],
    ['403 bad_action', { ...noAction, ...good }],
    ['403 bad_resource', { ...noResource, ...good }],
    ['403 bad_action', { ...READ, 'X-Auth-Action': ['read', 'read'], ...good }],
    ['403 bad_action', { ...READ, 'X-Auth-Action': ['read', 'subscribe'], ...good }],
    ['403 bad_action', { ...READ, 'X-Auth-Action': '', ...good }],
    ['403 bad_action', { ...READ, 'X-Auth-Action': 'Read', ...good }],
    ['403 bad_action', { ...READ, 'X-Auth-Action': 'read,subscribe', ...good }],
    ['403 bad_action', { ...READ, 'X-Auth-Action': '__proto__', ...good }],
    ['403 bad_resource', { ...READ, resource: '', ...good }],
    ['403 bad_resource', { ...SUBSCRIBE, resource: '', ...good }],
  ]
  for (const [due, headers] of rows) {
    t.equal(reasonOf(await ask(headers)), due, JSON.stringify({ ...headers, Authorization: '' }))
  }
})

void t.test('no spelling of a resource climbs, decodes or folds', async (t) => {
  const rows = [
    'recordings/../other/a.mp3',
    'recordings/./a',
    'recordings//a',
    '/recordings/a',
    'recordings/',
    'recordings',
    'Recordings/a.wav',
    'recordings%2fa.wav',
    '..;/x',
    'recordings\\..\\other',
    'recordings/../../etc/passwd',
    'recordings/a\tb',
    '.',
    '..',
    `recordings/${'a'.repeat(1100)}`,
  ]
  for (const resource of rows) {
    const answer = await ask({ ...READ, resource, ...bearer(user.access) })
    const climbs = /(?:^|\/)\.\.?(?:\/|$)/.test(resource) // nginx resolves it before it asks
    t.equal(answer.status, climbs ? 404 : 403, resource.slice(0, 40))
  }
  const literal = { ...READ, resource: 'recordings/%2e%2e/a', ...bearer(user.access) }
  t.equal((await ask(literal)).status, 204, 'what nginx left encoded is a name like any other')
})

void t.test('the resource is the rest of the path, decoded once and as UTF-8 alone', async (t) => {
  const rows: [path: string, due: string][] = [
    ['recordings/a%20b.wav', '204'],
    ['recordings/%20a.wav%20', '204'],
    ['recordings/%D0%98.wav', '204'],
    ['recordings/%d0%98.wav', '204'],
    ['recordings/%F0%9F%98%80.wav', '204'],
    ['recordings/%EF%BB%BF.wav', '204'],
    ['recordings/*', '204'],
    ['recordings/**', '204'],
    ['recordings/a%252fb', '204'],
    ['recordings/a%2fb', '204'],
    ['recordings%2Fa', '204'],
    ['**', '403 no_grant'],
    ['*/a', '403 no_grant'],
    ['recordings%252fa', '403 no_grant'],
    ['recordings/%2e%2e/a', '404'],
    ['recordings/..%2fa', '404'],
    ['recordings/a%2f', '403 bad_resource'],
    ['recordings/a%00', '403 bad_resource'],
    ['recordings/a%0d%0aX-Auth-Action:%20write', '403 bad_resource'],
    ['recordings/a%7f', '403 bad_resource'],
    ['recordings/%C2%85', '403 bad_resource'],
    ['recordings/%D0', '403 bad_resource'],
    ['recordings/%D0a.wav', '403 bad_resource'],
    ['recordings/%FF.wav', '403 bad_resource'],
    ['recordings/%C0%AE%C0%AE/a', '403 bad_resource'],
    ['recordings/%ED%A0%80', '403 bad_resource'],
    ['recordings/%', '403 bad_resource'],
    ['recordings/%2', '403 bad_resource'],
    ['recordings/%zz', '403 bad_resource'],
    [`recordings/${'%D0%98'.repeat(1100)}`, '403 bad_resource'],
    [`recordings/${'%D0%98'.repeat(1000)}`, '204'],
  ]
  for (const [path, due] of rows) {
    const answer = await ask({ ...RAW, ...HEADER, ...bearer(user.access) }, `/check/${path}`)
    t.equal(reasonOf(answer), due, path.slice(0, 60))
  }
  for (let byte = 0x80; byte < 0x100; byte++) {
    const bytes = get(`/check/recordings/${String.fromCharCode(byte)}`)
    const [answer] = await daemon.raw(Buffer.from(bytes, 'latin1'))
    t.equal(answer?.status, 400, 'nginx escapes it')
  }
})

void t.test('the credential, over the wire', async (t) => {
  const { access } = user
  const query = (text: string): CheckHeaders => ({
    ...READ,
    ...ANY,
    'X-Original-URI': `/rec/a.mp3?${text}`,
  })
  const header = (value: string): CheckHeaders => ({ ...READ, ...ANY, Authorization: value })
  const rows: [id: string, due: string, headers: CheckHeaders][] = [
    ['lower case', '204', header(`bearer ${access}`)],
    ['upper case', '204', header(`BEARER ${access}`)],
    ['two spaces', '204', header(`Bearer  ${access}`)],
    ['space in front', '204', header(` Bearer ${access}`)],
    ['tab', '401 malformed_token', header(`Bearer\t${access}`)],
    ['two words', '401 malformed_token', header(`Bearer ${access} ${access}`)],
    ['a list', '401 malformed_token', header(`Bearer ${access},Bearer ${access}`)],
    ['Basic first', '401 malformed_token', header(`Basic x, Bearer ${access}`)],
    ['a parameter', '401 malformed_token', header(`Bearer token=${access}`)],
    ['trailing =', '401 malformed_token', header(`Bearer ${access}=`)],
    ['trailing dot', '401 malformed_token', header(`Bearer ${access}.`)],
    ['trailing space', '204', header(`Bearer ${access} `)],
    ['huge', '401 malformed_token', header(`Bearer ${'a'.repeat(15_000)}`)],
    ['dots', '401 malformed_token', header(`Bearer ${'.'.repeat(14_000)}`)],
    ['JSON', '401 malformed_token', header('Bearer {"payload":"x","signatures":[]}')],
    [
      'good first',
      '401 invalid_request',
      { ...READ, Authorization: [`Bearer ${access}`, 'Bearer x'] },
    ],
    [
      'bad first',
      '401 invalid_request',
      { ...READ, Authorization: ['Bearer x', `Bearer ${access}`] },
    ],
    ['Basic', '401 invalid_request', { ...READ, Authorization: [`Bearer ${access}`, 'Basic x'] }],
    ['query and header', '401 invalid_request', { ...query(`token=${access}`), ...bearer(access) }],
    [
      'a bad header beside a good cookie',
      '401 malformed_token',
      { ...header('Bearer bad'), Cookie: `postern=${access}` },
    ],
    [
      'a query where only the header counts',
      '401 no_credential',
      { ...query(`token=${access}`), 'X-Auth-Accept': 'header' },
    ],
    [
      'unsaid',
      '401 no_credential',
      { ...RAW, ...bearer(access), 'X-Original-URI': `/?token=${access}` },
    ],
    ['unsaid, with a header', '401 no_credential', { ...RAW, ...bearer(access) }],
    ['empty', '401 no_credential', { ...RAW, 'X-Auth-Accept': '', ...bearer(access) }],
    [
      'a header where the way is said twice',
      '401 no_credential',
      { ...RAW, 'X-Auth-Accept': ['header', 'header'], ...bearer(access) },
    ],
    [
      'an unknown way',
      '401 no_credential',
      { ...RAW, 'X-Auth-Accept': 'Header', ...bearer(access) },
    ],
    [
      'said twice',
      '401 no_credential',
      { ...query(`token=${access}`), 'X-Auth-Accept': ['query', 'query'] },
    ],
    ['in the query', '204', query(`token=${access}`)],
    ['escaped name', '204', query(`to%6ben=${access}`)],
    ['case', '401 no_credential', query(`TOKEN=${access}`)],
    ['list', '401 no_credential', query(`token[]=${access}`)],
    ['semicolon', '401 malformed_token', query(`token=${access};x=1`)],
    ['NUL', '401 malformed_token', query(`token=${access}%00`)],
    ['space', '401 malformed_token', query(`token=%20${access}`)],
    [
      'two names in one query',
      '401 invalid_request',
      query(`authorization=${access}&token=${access}`),
    ],
    ['%20', '204', query(`authorization=Bearer%20${access}`)],
    ['+', '204', query(`authorization=Bearer+${access}`)],
    ['refresh in the query', '401 wrong_type', query(`token=${user.refresh}`)],
    ['refresh as cookie', '401 wrong_type', { ...READ, ...ANY, Cookie: `postern=${user.refresh}` }],
    ['Proxy', '401 no_credential', { ...READ, ...ANY, 'Proxy-Authorization': `Bearer ${access}` }],
    ['X-', '401 no_credential', { ...READ, ...ANY, 'X-Access-Token': access }],
    ['cookie', '204', { ...READ, ...ANY, Cookie: `postern=${access}` }],
    ['cookie not accepted', '401 no_credential', { ...READ, Cookie: `postern=${access}` }],
    [
      'the refresh cookie',
      '401 no_credential',
      { ...READ, ...ANY, Cookie: `refreshToken=${access}` },
    ],
    [
      'two values',
      '401 invalid_request',
      { ...READ, ...ANY, Cookie: `postern=${access}; postern=x` },
    ],
    ['no space', '204', { ...READ, ...ANY, Cookie: `a=1;postern="${access}"` }],
    [
      'over https the plain name is nobody’s',
      '401 no_credential',
      { ...READ, ...ANY, Cookie: `postern=${access}`, 'X-Forwarded-Proto': 'https' },
    ],
    [
      'over https',
      '204',
      { ...READ, ...ANY, Cookie: `__Host-postern=${access}`, 'X-Forwarded-Proto': 'https' },
    ],
    [
      'a probe’s headers',
      '401 no_credential',
      { ...READ, 'User-Agent': 'kube-probe/1.0', 'X-Health-Check': '1' },
    ],
    [
      'a local address that the client claims',
      '401 no_credential',
      { ...READ, 'X-Real-IP': "'", 'X-Forwarded-For': '127.0.0.1' },
    ],
  ]
  for (const [id, due, headers] of rows) t.equal(reasonOf(await ask(headers)), due, id)
  const body = { method: 'GET', headers: { ...READ, ...JSON_TYPE } }
  const bodied = await daemon.ask(CHECK, {
    ...body,
    body: JSON.stringify({ access_token: access }),
  })
  t.equal(reasonOf(bodied), '401 no_credential', 'never from a body')
  t.equal(bodied.header('connection'), 'close', 'its body is not read')
  t.equal(
    reasonOf(await ask(READ, `${CHECK}?token=${access}`)),
    '401 no_credential',
    'not its own query',
  )
})

void t.test('what the original request was decides nothing', async (t) => {
  for (const uri of [
    'http://[',
    '//',
    '%',
    '/%zz',
    '/\xff',
    `/${'x'.repeat(8000)}`,
    '',
    '?',
    '/a?%',
  ]) {
    const headers = { ...READ, ...ANY, 'X-Original-URI': uri }
    t.equal(reasonOf(await ask({ ...headers, ...bearer(user.access) })), '204', uri.slice(0, 20))
    t.equal(reasonOf(await ask(headers)), '401 no_credential')
    const other = { ...headers, resource: 'other/x', ...bearer(user.access) }
    t.equal((await ask(other)).status, 403)
  }
  const twice = { ...READ, ...ANY, 'X-Original-URI': [`/?token=${user.access}`, '/'] }
  t.equal(reasonOf(await ask(twice)), '401 no_credential')
})

void t.test('the check has one spelling', async (t) => {
  const headers = { ...READ, ...bearer(user.access) }
  t.equal((await ask(headers, `${CHECK}?x=1`)).status, 204)
  for (const path of [
    '//evil/check',
    'http://x/check',
    '/CHECK',
    '/%63heck',
    '/check;x',
    '/check/../metrics',
    `/check/..${V1}/health`,
    `/check/%2e%2e${V1}/health`,
    '/metrics',
    '/healthz',
    '/users/ids',
    '/check#f',
    '/check%20',
    '/checks',
  ]) {
    const answer = await ask(headers, path)
    t.equal(answer.status, 404, path)
    t.notMatch(answer.lines.join('\n'), /^x-auth/im)
  }
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE']) {
    const answer = await daemon.ask(CHECK, { method, headers: bearer(user.access) })
    t.equal(answer.status, 405, method)
    t.equal(answer.header('allow'), 'GET, HEAD')
    t.notMatch(answer.lines.join('\n'), /^x-auth/im)
  }
})

void t.test('a check as 0.1.0’s nginx files ask it is answered, and told of', async (t) => {
  const byHeader = (resource: string | string[], headers: CheckHeaders = {}): Promise<Answer> =>
    daemon.ask('/check', { headers: { ...RAW, ...headers, 'X-Auth-Resource': resource } })
  const good = { ...HEADER, ...bearer(user.access) }
  const told = () =>
    daemon.log().filter(({ msg }) => /nginx asks by files of 0\.1\.0/.test(String(msg)))
  const namesInHeader = async (): Promise<unknown> =>
    (await daemon.control('/ready')).json()['nginx']
  t.match(await namesInHeader(), { namesInHeader: false })
  t.same(told(), [])
  t.equal(reasonOf(await byHeader('recordings/2026-11/A_b.wav', good)), '204')
  const colon = { ...good, ...bearer(admin.access), 'X-Auth-Action': 'write' }
  t.equal(reasonOf(await byHeader('api/v3/extensions:getRecord', colon)), '204')
  t.equal(reasonOf(await byHeader('other/x', good)), '403 no_grant')
  t.equal(reasonOf(await byHeader('recordings/a.wav')), '401 no_credential')
  for (const resource of [
    '',
    'recordings/../a',
    'recordings/a+b',
    'recordings/a%20b',
    'recordings/a*',
    Buffer.from('recordings/ü').toString('latin1'),
    ['recordings/a', 'recordings/a'],
  ]) {
    t.equal(reasonOf(await byHeader(resource, good)), '403 bad_resource', String(resource))
  }
  const listens = { ...good, 'X-Auth-Action': 'subscribe' }
  t.match((await byHeader('users-state', listens)).header('x-auth-channels'), /^users-state,kick-/)
  t.match(await namesInHeader(), { namesInHeader: true })
  t.equal(told().length, 1, 'once')
  t.ok(
    (await daemon.metric('postern_http_requests_total{route="check_by_header",status="204"}')) >= 3,
  )

  const inBoth = { ...READ, ...good, 'X-Auth-Resource': 'recordings/a.wav', resource: 'other/x' }
  t.equal(reasonOf(await ask(inBoth)), '403 no_grant', 'beside a path a header says nothing')
  t.equal(reasonOf(await ask({ ...inBoth, resource: '' })), '403 bad_resource', 'nor an empty one')
  t.match(await namesInHeader(), { namesInHeader: false }, 'nginx was reloaded')
})

void t.test('a name is one header line, and can be told from every other', async (t) => {
  const seen = new Set<string>()
  for (const name of ODD) {
    const { access } = await daemon.softphone(name)
    const answer = await ask({ ...READ, ...bearer(access) })
    const value = answer.header('x-auth-user') ?? ''
    t.match(value, /^[!-+\--~]+$/, 'plain ASCII without a comma')
    t.equal(decodeURIComponent(value), name)
    seen.add(value)
  }
  t.equal(seen.size, ODD.length, 'nothing is folded')
  const claims = daemon.claimsOf(user.access)
  for (const username of [
    '201\r\nX-Admin: 1',
    '201\0',
    '201\tx',
    ' 201',
    '201 ',
    '201\u202e',
    '',
    null,
  ]) {
    const answer = await ask({ ...READ, ...bearer(daemon.forge({ ...claims, username })) })
    t.equal(reasonOf(answer), '401 bad_claims', JSON.stringify(username))
  }
})

type Guard = Parameters<typeof createCheckHandlers>[0]['guard']
type Admissions = Parameters<typeof createCheckHandlers>[0]['admissions']

/** The handler under rules that say what a test wants them to: names that no users file could hold, races. */
const handlerUnder = (
  check: (request: CheckRequest) => Decision,
  admissions: Partial<Admissions> = {},
  redeem: () => undefined = () => undefined,
) => {
  const guard: Guard = {
    identify: async () => refuse('no_grant'),
    checkRemembered: () => undefined,
    check: async (request) => check(request),
  }
  const { handler } = createCheckHandlers({
    guard,
    today: () => guard,
    tickets: { redeem },
    admissions: {
      areCut: () => true,
      find: async () => undefined,
      lookAgain: async () => undefined,
      obstacle: () => undefined,
      hasRoom: () => true,
      admit: () => 'kick-x',
      kickSession: async () => 0,
      keeps: async () => true,
      createKickId: () => 'kick-x',
      ...admissions,
    },
    site: createSite([], 'auto'),
    resourceOf: readResource,
    observe: () => undefined,
    monotonic: () => 0,
  })
  return handler
}
const CLAIMS: Claims = {
  type: 'access',
  sub: '1',
  username: '201',
  role: 'user',
  sid: 's',
  jti: 'j',
  iat: 1,
  nbf: 1,
  exp: 5,
  kid: 'k',
}

const answerTo = async (username: string, role: string): Promise<Reply> => {
  const handler = handlerUnder(() => ({ claims: { ...CLAIMS, username }, role }))
  return handler(
    requestOf([
      'Authorization',
      'Bearer a.b.c',
      'X-Auth-Accept',
      'header',
      'X-Auth-Action',
      'read',
    ]),
  )
}

void t.test('a role or name of any text stays in its own header', async (t) => {
  const hostile = [
    'a\r\nX-Admin: 1',
    'a\0b',
    'a\tb',
    'x,admin',
    ' a',
    'a ',
    'a,b',
    '%0d%0a',
    'я'.repeat(256),
  ]
  for (const text of hostile) {
    const { status, headers } = await answerTo(text, text)
    t.equal(status, 204)
    for (const at of [0, 2]) {
      const value = headers[at + 1] ?? ''
      t.match(value, /^[!-$%-+\--~]+$/, JSON.stringify(text).slice(0, 30))
      t.equal(decodeURIComponent(value), text)
    }
    t.ok(headers.join('').length < 4096, 'nginx reads 4 KiB of headers')
  }
  t.same((await answerTo('201', 'user')).headers.slice(0, 4), [
    'X-Auth-User',
    '201',
    'X-Auth-Role',
    'user',
  ])
})

const ASKED = [
  'Authorization',
  'Bearer a.b.c',
  'X-Auth-Accept',
  'header',
  'X-Auth-Action',
  'subscribe',
]
const asking = (resource: string, more: readonly string[] = []): Request => ({
  ...requestOf([...ASKED, ...more]),
  id: resource,
})

void t.test('a right that ends while the stream is let in is no right', async (t) => {
  for (const reason of ['session_ended', 'expired'] as const) {
    const kicked: string[] = []
    let asked = 0
    const handler = handlerUnder(
      () => (asked++ === 0 ? { claims: CLAIMS, role: 'user' } : refuse(reason)),
      {
        admit: () => 'kick-x',
        kickSession: async (sid) => {
          kicked.push(sid)
          return 1
        },
      },
    )
    const reply = await handler(asking('users-state'))
    t.equal(reply.status, 401)
    t.notMatch(reply.headers.join(' '), /X-Auth-(?!Reason)/)
    t.same(kicked, reason === 'expired' ? [] : ['s'], 'a late token is not the end of its session')
  }
})

const FOLLOWED = ['X-Original-Connection', 'HTTP/1.1 192.0.2.1 4 192.0.2.2 443 192.0.2.1 4']
const CUT = { connection: '192.0.2.1 4 192.0.2.2 443', cookie: 'c0' }

void t.test('a subscription that will be cut has one channel, and needs no nginx', async (t) => {
  const seen: unknown[] = []
  const handler = handlerUnder(() => ({ claims: CLAIMS, role: 'user' }), {
    obstacle: () => new Error('nginx is away'),
    find: async (at) => {
      seen.push(at)
      return CUT
    },
    admit: (admission) => {
      seen.push(admission)
      return 'kick-x'
    },
  })
  const { status, headers } = await handler(asking('me/users-state', FOLLOWED))
  t.equal(status, 204)
  t.same(headers.slice(8), ['X-Auth-Channels', 'users-state-user-1', 'X-Auth-Kick', 'kick-x'])
  const back = await handler(
    asking('users-state', [...FOLLOWED, 'X-Original-Resume', '||1795815721:[3],-']),
  )
  t.same(back.headers.slice(-2), ['X-Auth-Resume', '1795815721:3'], 'in the form of one channel')
  t.match(seen.slice(0, 2), [
    { connection: CUT.connection },
    { ...CUT, action: 'subscribe', resource: 'me/users-state', until: 5 },
  ])
})

void t.test('before a cut stream is one too many, the kernel is asked who is left', async (t) => {
  const roomAfter = async (looked: boolean, claims = CLAIMS): Promise<number> => {
    let room = false
    const handler = handlerUnder(() => ({ claims, role: 'user' }), {
      find: async () => CUT,
      hasRoom: () => room,
      lookAgain: async (sid) => {
        t.equal(sid, 's')
        room = looked
      },
      admit: () => (room ? 'kick-x' : undefined),
    })
    return (await handler(asking('users-state', FOLLOWED))).status
  }
  const pattern = parseGrant('subscribe:users-state')
  if ('problem' in pattern) throw new Error(pattern.problem)
  const ticket = { action: 'subscribe' as const, pattern, until: 3 }
  for (const claims of [CLAIMS, { ...CLAIMS, ticket }]) {
    t.equal(await roomAfter(true, claims), 204)
    t.equal(await roomAfter(false, claims), 403)
  }
})

void t.test('what else is followed is let in as what it is, and judged again', async (t) => {
  const cases: [Partial<Admissions>, Decision, number, string[]][] = [
    [{ find: async () => CUT }, { claims: CLAIMS, role: 'user' }, 204, ['admit']],
    [{}, { claims: CLAIMS, role: 'user' }, 204, []],
    [{ find: async () => CUT }, refuse('session_ended'), 401, ['admit', 'kick s']],
    [{ find: async () => CUT }, refuse('expired'), 401, ['admit']],
    [{}, refuse('session_ended'), 401, ['kick s']],
    [{ areCut: () => false }, refuse('session_ended'), 204, []],
  ]
  for (const [admissions, second, status, expected] of cases) {
    const seen: string[] = []
    let asked = 0
    const handler = handlerUnder(
      () => (asked++ === 0 ? { claims: CLAIMS, role: 'user' } : second),
      {
        admit: ({ action, resource, cookie }) => {
          t.same([action, resource, cookie], ['connect', 'sip', 'c0'])
          seen.push('admit')
          return 'kick-x'
        },
        kickSession: async (sid) => {
          seen.push(`kick ${sid}`)
          return 1
        },
        ...admissions,
      },
    )
    const lines = ASKED.with(5, 'connect')
    const reply = await handler({ ...requestOf([...lines, ...FOLLOWED]), id: 'sip' })
    t.equal(reply.status, status)
    t.same(seen, expected)
    t.notMatch(reply.headers.join(' '), /X-Auth-(?:Channels|Kick)/)
  }
})

void t.test('a stream by a ticket for SIP lives as long as the ticket', async (t) => {
  const untilOf = async (resource: string): Promise<number | undefined> => {
    let until: number | undefined
    const pattern = parseGrant(`connect:${resource}`)
    if ('problem' in pattern) throw new Error(pattern.problem)
    const ticket = { action: 'connect' as const, pattern, until: 3 }
    const handler = handlerUnder(() => ({ claims: { ...CLAIMS, ticket }, role: 'user' }), {
      find: async () => CUT,
      admit: (admission) => {
        until = admission.until
        return 'kick-x'
      },
    })
    const lines = ASKED.with(5, 'connect')
    await handler({ ...requestOf([...lines, ...FOLLOWED]), id: resource })
    return until
  }
  t.equal(await untilOf('sip'), 5)
  t.equal(await untilOf('app'), 3, 'any other as long as the token that it was issued for')
})

void t.test('one stream too many is refused', async (t) => {
  const handler = handlerUnder(() => ({ claims: CLAIMS, role: 'user' }), {
    admit: () => undefined,
  })
  const reply = await handler(asking('users-state'))
  t.match(reply, { status: 403, reason: 'limit' })
  t.notMatch(reply.headers.join(' '), /X-Auth-(?!Reason)/)
})

void t.test('only what Nchan may take for a WebSocket has an id of its own', async (t) => {
  for (const [upgrade, expected] of [
    [[], false],
    [['X-Original-Upgrade', 'h2c'], false],
    [['X-Original-Upgrade', 'websocket'], true],
    [['X-Original-Upgrade', 'WebSocket'], true],
    [['X-Original-Upgrade', 'h2c, websocket'], true],
  ] as const) {
    let seen: boolean | undefined
    const handler = handlerUnder(() => ({ claims: CLAIMS, role: 'user' }), {
      admit({ exclusive }) {
        seen = exclusive
        return 'kick-x'
      },
    })
    await handler(asking('users-state', upgrade))
    t.equal(seen, expected, upgrade.join(': '))
  }
})

void t.test('the handler refuses by itself what is refused at once', async (t) => {
  const handler = handlerUnder(() => ({ claims: CLAIMS, role: 'user' }))
  t.match(await handler(requestOf(['X-Auth-Action', 'read'])), {
    status: 401,
    reason: 'no_credential',
  })
})

void t.test(
  'where a client goes on from is vetted: right in form, and the channel keeps something',
  async (t) => {
    const asked: string[] = []
    const resumeOf = async (more: readonly string[], kept = true): Promise<string | undefined> => {
      const handler = handlerUnder(() => ({ claims: CLAIMS, role: 'user' }), {
        keeps: async (channel) => {
          asked.push(channel)
          return kept
        },
      })
      const { headers } = await handler(asking('me/users-state', more))
      const at = headers.indexOf('X-Auth-Resume')
      return at < 0 ? undefined : headers[at + 1]
    }
    const id = '1795815721:[0],-'
    t.equal(await resumeOf(['X-Original-Resume', `||${id}`]), id)
    t.same(asked, ['users-state-user-1'], 'the channel that is listened to')
    t.equal(await resumeOf(['X-Original-Resume', `||${id}`], false), undefined, 'nothing is kept')
    const uri = ['X-Original-URI', `/sub/x?a=b&last_event_id=${encodeURIComponent(id)}`]
    t.equal(await resumeOf(uri), id, 'a query, and nginx files that say nothing of it')
    asked.length = 0
    for (const more of [[], ['X-Original-Resume', '||0:-1'], ['X-Original-URI', '/sub/x']]) {
      t.equal(await resumeOf(more), undefined)
    }
    t.same(asked, [], 'nginx is not asked for nothing')
  },
)

void t.test('even where rules allowed it, no resource has no channel', async (t) => {
  const reply = await handlerUnder(() => ({ claims: CLAIMS, role: 'user' }))(requestOf(ASKED))
  t.match(reply, { status: 403, reason: 'bad_resource' })
})

void t.test('a stream that nothing could end is a fault, and spends no ticket', async (t) => {
  const fault = new Error('nginx is away')
  let redeemed = 0
  const handler = handlerUnder(
    () => ({ claims: CLAIMS, role: 'user' }),
    { obstacle: () => fault },
    () => void redeemed++,
  )
  const asked = handler(asking('users-state'))
  await t.rejects(Promise.resolve(asked), fault)
  t.equal(redeemed, 0)
  const read = ['Authorization', 'Bearer a.b.c', 'X-Auth-Accept', 'header', 'X-Auth-Action', 'read']
  t.match(await handler({ ...requestOf(read), id: 'recordings/a.wav' }), {
    status: 204,
  })
})

void t.test('a WebSocket shows by its Origin that a page of ours opened it', async (t) => {
  const cookie = { ...ANY, Cookie: `postern=${user.access}` }
  const here = { 'X-Forwarded-Proto': 'http', 'X-Forwarded-Host': 'pbx' }
  const rows: [what: string, due: string, headers: CheckHeaders][] = [
    ['an EventSource', '204', { ...SUBSCRIBE, ...cookie }],
    ['no Origin', '403 cross_site', { ...SUBSCRIBE, ...cookie, 'X-Original-Upgrade': 'WebSocket' }],
    [
      'ours',
      '204',
      { ...SUBSCRIBE, ...cookie, ...here, Origin: 'http://pbx', 'X-Original-Upgrade': 'websocket' },
    ],
    ...[['h2c', 'websocket'], ['websocket', 'websocket'], 'websocket, h2c', 'x,WebSocket'].map(
      (upgrade): [string, string, CheckHeaders] => [
        `two upgrades: ${String(upgrade)}`,
        '403 cross_site',
        { ...SUBSCRIBE, ...cookie, 'X-Original-Upgrade': upgrade },
      ],
    ),
    ['another upgrade', '204', { ...SUBSCRIBE, ...cookie, 'X-Original-Upgrade': 'h2c' }],
    ['SIP', '403 cross_site', { ...READ, ...cookie, 'X-Auth-Action': 'connect', resource: 'sip' }],
    [
      'SIP of ours',
      '204',
      {
        ...cookie,
        ...here,
        Origin: 'http://pbx',
        'X-Auth-Action': 'connect',
        resource: 'sip',
      },
    ],
  ]
  for (const [what, due, headers] of rows) t.equal(reasonOf(await ask(headers)), due, what)
})

void t.test('tickets: for exactly one action and resource, in a URL alone', async (t) => {
  const ticketFor = async (action: string, resource: string): Promise<string> => {
    const answer = await daemon.ask(`${V1}/auth/ticket`, {
      headers: { ...JSON_TYPE, ...bearer(user.access) },
      body: JSON.stringify({ action, resource }),
    })
    return String(answer.json()['ticket'])
  }
  const by = (
    ticket: string,
    headers: CheckHeaders,
    id = 'r0',
    accept = 'ticket',
  ): Promise<Answer> =>
    ask({
      'X-Original-URI': `/x?ticket=${ticket}`,
      'X-Request-ID': id,
      ...headers,
      'X-Auth-Accept': accept,
    })
  const read = await ticketFor('read', 'recordings/a.wav')
  t.equal(reasonOf(await by(read, READ)), '204')
  t.equal(reasonOf(await by(read, READ, 'r1')), '204', 'Range asks many times')
  t.equal(
    reasonOf(await by(read, { ...READ, resource: 'recordings/b.wav' })),
    '401 ticket_mismatch',
  )
  t.equal(reasonOf(await by(read, SUBSCRIBE)), '401 ticket_mismatch')
  t.equal(reasonOf(await by(user.access, READ)), '401 wrong_type', 'a token is no ticket')
  t.equal(
    reasonOf(await ask({ ...READ, ...bearer(read) })),
    '401 wrong_type',
    'nor a ticket a token',
  )
  t.equal(reasonOf(await by(read, READ, 'r2', 'header query')), '401 no_credential')

  const once = await ticketFor('subscribe', 'users-state')
  t.equal(reasonOf(await by(once, SUBSCRIBE, 'one')), '204')
  t.equal(reasonOf(await by(once, SUBSCRIBE, 'one')), '204', 'nginx may ask twice for one request')
  t.equal(reasonOf(await by(once, SUBSCRIBE, 'two')), '401 ticket_used')
  await daemon.restart()
  t.equal(
    reasonOf(await by(once, SUBSCRIBE, 'three')),
    '401 ticket_used',
    'the mark survives a restart',
  )
})

void t.test('a refused stream costs no ticket, and a used ticket ends no stream', async (t) => {
  const clock = createTestClock()
  const streams = 'per_session = 1\nstreams_per_session = 1'
  const daemon = await startTestDaemon(t, { clock, sections: { streams } })
  const { access } = await daemon.softphone('201')
  const by = async (ticket: string, resource: string): Promise<string> =>
    reasonOf(
      await daemon.check('', {
        ...SUBSCRIBE,
        resource,
        'X-Auth-Accept': 'ticket',
        'X-Original-URI': `/x?ticket=${ticket}`,
      }),
    )
  const ticketFor = async (resource: string): Promise<string> => {
    const answer = await daemon.ask(`${V1}/auth/ticket`, {
      headers: { ...JSON_TYPE, ...bearer(access) },
      body: JSON.stringify({ action: 'subscribe', resource, ttl: 600 }),
    })
    return String(answer.json()['ticket'])
  }
  const first = await ticketFor('users-state')
  const second = await ticketFor('contacts')
  t.equal(await by(first, 'users-state'), '204')
  t.equal(await by(second, 'contacts'), '403 limit')
  t.notMatch(await daemon.securityLog(), /limit/, 'no event')
  clock.advance(61)
  t.equal(await by(second, 'contacts'), '204', 'the same ticket, once there is room')
  clock.advance(61)
  t.equal(await by(first, 'users-state'), '401 ticket_used')
  const { body } = await daemon.ask(`${V1}/auth/sessions`, { headers: bearer(access) })
  t.match(body, /"resource":"contacts"/, 'it listens on')
})

void t.test('an Upgrade is a plain question', async (t) => {
  const text = `GET ${CHECK} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Auth-Action: read\r\nX-Auth-Accept: header\r\nAuthorization: Bearer ${user.access}\r\n\r\n`
  const [answer] = await daemon.raw(text, 1)
  t.equal(answer?.status, 204)
})

void t.test('pipelined questions are answered in order, each with its own identity', async (t) => {
  const question = (token: string): string =>
    `GET ${CHECK} HTTP/1.1\r\nHost: x\r\nX-Auth-Action: read\r\nX-Auth-Accept: header\r\nAuthorization: Bearer ${token}\r\n\r\n`
  // Tokens never seen before wait for their signature, known ones do not: the order holds all the same.
  const fresh = await Promise.all(['201', '202', '900'].map((name) => daemon.softphone(name)))
  const tokens = [
    fresh[0]?.access,
    'a.b.c',
    admin.access,
    fresh[1]?.access,
    user.access,
    user.refresh,
    fresh[2]?.access,
    'x',
    fresh[0]?.access,
    admin.access,
  ].map(String)
  const answers = await daemon.raw(tokens.map(question).join(''), tokens.length)
  t.same(
    answers.map((answer) => answer.header('x-auth-user') ?? answer.status),
    ['201', 401, '900', '202', '201', 401, '900', 401, '201', '900'],
  )
})

void t.test('a kept connection serves refusals and grants alike', async (t) => {
  const wire = daemon.wire()
  const question = (more: string): string =>
    `GET ${CHECK} HTTP/1.1\r\nHost: x\r\nX-Auth-Action: read\r\nX-Auth-Accept: header\r\n${more}\r\n`
  const rows = ['', 'Authorization: Bearer x\r\n', `Authorization: Bearer ${user.access}\r\n`]
  for (let round = 0; round < 30; round++) {
    wire.write(question(rows[round % 3] ?? ''))
    const answers = await wire.answers(round + 1)
    t.equal(answers[round]?.status, round % 3 === 2 ? 204 : 401)
  }
  wire.destroy()
})

void t.test(
  'bad signature, expired, ended, foreign: the same bytes but for the reason',
  async (t) => {
    const claims = daemon.claimsOf(user.access)
    const ended = await daemon.softphone('202')
    await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(ended.access) })
    const tokens = [
      `${user.access.slice(0, -43)}${'A'.repeat(43)}`,
      daemon.forge({ ...claims, iat: NOW - 9, nbf: NOW - 9, exp: NOW }),
      ended.access,
      daemon.forge({ ...claims, aud: 'other' }),
      daemon.forge(claims, { kid: 'other' }),
      'junk',
    ]
    const answers = await Promise.all(tokens.map((token) => ask({ ...READ, ...bearer(token) })))
    const bytes = answers.map((answer) => bytesOf(answer).replace(/X-Auth-Reason: .*\n/, ''))
    t.equal(new Set(bytes).size, 1)
  },
)

void t.test('an expired token is no attack', async (t) => {
  const claims = daemon.claimsOf(user.access)
  const before = (await daemon.securityLog()).length
  const late = daemon.forge({ ...claims, iat: NOW - 9, nbf: NOW - 9, exp: NOW })
  for (let n = 0; n < 200; n++) await ask({ ...READ, ...bearer(late) })
  await ask(READ)
  t.equal((await daemon.securityLog()).length, before, 'not a line')
  t.ok(
    (await daemon.metric(
      'postern_decisions_total{action="read",result="refused",reason="expired"}',
    )) >= 200,
  )
})

void t.test('what is denied is logged with its kind and address', async (t) => {
  const at = { 'X-Real-IP': '192.0.2.44' }
  await ask({ ...READ, ...at, ...bearer('x') })
  await ask({ ...SUBSCRIBE, ...at, resource: 'other', ...bearer(user.access) })
  await ask({ ...READ, ...at, 'X-Auth-Action': 'connect', ...bearer('x') })
  const lines = (await daemon.securityLog())
    .split('\n')
    .filter((line) => line.includes('192.0.2.44'))
    .map((line) => line.replace(/ \| Time.*/, ''))
  t.same(lines, [
    '[MEDIA_ACCESS_DENIED] malformed_token | From: 192.0.2.44 | User: -',
    '[SUBSCRIBE_DENIED] no_grant | From: 192.0.2.44 | User: -',
  ])
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})

void t.test('a location that needs no login of whoever comes from there', async (t) => {
  const GET = { 'X-Original-Method': 'GET', 'X-Auth-Exempt': 'office' }
  const from = (more: CheckHeaders, exempt = 'office'): Promise<Answer> =>
    ask({ ...READ, ...GET, 'X-Auth-Exempt': exempt, ...more })
  const nobody = [...HEAD, ...TAIL]
  t.same(linesOf(await from({})), [...HEAD, 'X-Auth-User: office', ...TAIL])
  t.same(linesOf(await from({}, '-')), nobody)
  t.same(linesOf(await from(bearer('a.b.c'), '-')), nobody, 'whatever is shown')
  const known = linesOf(await from(bearer(user.access)))
  t.same(known, linesOf(await ask({ ...READ, ...bearer(user.access) })))
  const other = { resource: 'other/x', ...bearer(user.access) }
  t.equal((await from(other)).header('x-auth-user'), 'office', 'a login shuts nobody out')
  t.equal(reasonOf(await from({}, '')), '401 no_credential')
  t.equal(reasonOf(await from({ 'X-Auth-Action': 'dance' })), '401 no_credential')

  const stream = { ...SUBSCRIBE, ...GET }
  const [first, second] = [await ask(stream), await ask(stream)]
  t.match(first.header('x-auth-channels'), /^users-state,kick-[A-Za-z0-9_-]{22}$/)
  t.not(first.header('x-auth-channels'), second.header('x-auth-channels'), 'of each its own')
  t.equal(first.header('x-auth-session'), undefined)
  t.equal(reasonOf(await ask({ ...stream, resource: 'a/b' })), '403 bad_resource')
  t.equal(reasonOf(await ask({ ...stream, resource: 'me/x' })), '401 no_credential')
  const mine = await ask({ ...stream, resource: 'me/x', ...bearer(user.access) })
  t.match(mine.header('x-auth-channel'), /^x-user-/)

  const { resource, ...lines } = { ...stream, 'X-Original-Resume': '||1795815721:[0],-' }
  const asked = { ...requestOf(Object.entries(lines).flat()), id: resource }
  const resumed = await handlerUnder(() => refuse('no_grant'))(asked)
  t.same(resumed.headers.slice(2), [
    'X-Auth-Channels',
    'users-state,kick-x',
    'X-Auth-Resume',
    '1795815721:[0],-',
  ])
})

void t.test('a stream of what has no name opens nothing, whatever the rules say', async (t) => {
  const handler = handlerUnder(() => ({ claims: CLAIMS, role: 'user' }))
  const lines = ['Authorization', 'Bearer a.b.c', 'X-Auth-Accept', 'header']
  const asked = requestOf([...lines, 'X-Auth-Action', 'subscribe'])
  t.match(await handler({ ...asked, id: 'users-state' }), { status: 204 })
  t.match(await handler({ ...asked, id: '%ff' }), { status: 403, reason: 'bad_resource' })
})
