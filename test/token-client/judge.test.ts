import t from 'tap'
import { judge } from '../../src/token-client/judge.ts'
import { createToken } from '../fixtures/canned-server.ts'

const NOW = 1_700_000_000
const QUESTION = {
  url: new URL('https://pbx.example:8445/pbxcore/api/v3/auth:login'),
  login: 'admin',
  timeout: 7,
  now: NOW,
}
const token = createToken({ userId: 'admin', exp: NOW + 900 })
const login = (data: unknown): string => JSON.stringify({ result: true, data, messages: {} })

type Stage = 'connect' | 'answer' | 'body'
const failures: [string, Stage, 2 | 3, retried: boolean, RegExp][] = [
  // a person has to do something: trying again would only take time
  [
    'DEPTH_ZERO_SELF_SIGNED_CERT',
    'connect',
    2,
    false,
    /^SSL certificate problem at https:\/\/pbx\.example:8445: its certificate is self-signed: name .* in --cacert; .*update-ca-certificates\. --insecure/,
  ],
  ['CERT_HAS_EXPIRED', 'connect', 2, false, /its certificate has expired: renew it\./],
  [
    'ERR_TLS_CERT_ALTNAME_INVALID',
    'connect',
    2,
    false,
    /another name: use that name in the address/,
  ],
  ['EPROTO', 'connect', 2, false, /^No TLS .*use http:\/\//],
  ['ERR_SSL_WRONG_VERSION_NUMBER', 'connect', 2, false, /^No TLS /],
  ['HPE_INVALID_CONSTANT', 'answer', 2, false, /does not speak HTTP .*use https:\/\//],
  ['TOO_LARGE', 'body', 3, false, /^Unusable answer .*too large/],
  // may be over in a second
  [
    'ECONNREFUSED',
    'connect',
    2,
    true,
    /^Connection refused: .*Start MikoPBX .*or correct MIKOPBX_API_URL/,
  ],
  ['ENOTFOUND', 'connect', 2, true, /^Unknown host pbx\.example \(DNS: ENOTFOUND\)/],
  ['EAI_AGAIN', 'connect', 2, true, /^Unknown host /],
  ['TIMEOUT', 'connect', 2, true, /^Time-out after 7 s at .*: no connection came about/],
  ['TIMEOUT', 'answer', 2, true, /^Time-out after 7 s at .*: connected, but no answer/],
  ['TIMEOUT', 'body', 2, true, /^Time-out after 7 s at .*: the answer began/],
  ['CLOSED', 'answer', 2, true, /closed the connection without an answer/],
  ['HALF_ANSWER', 'body', 2, true, /^Only half an answer/],
  ['EHOSTUNREACH', 'connect', 2, true, /^No connection to .*\(EHOSTUNREACH\)/],
]

for (const [failed, stage, exit, retried, message] of failures) {
  void t.test(`${failed} while waiting for ${stage} → ${exit}`, (t) => {
    const verdict = judge({ failed, stage }, QUESTION)
    t.match(verdict, { exit, message })
    t.equal('retryAfter' in verdict, retried)
    t.end()
  })
}

type Headers = Record<string, string>
const answers: [string, number, Headers, string, 1 | 2 | 3, number | undefined, RegExp][] = [
  // refused
  [
    'wrong password',
    401,
    {},
    '',
    1,
    undefined,
    /^Invalid credentials: .*"admin".*Verify MIKOPBX_LOGIN and MIKOPBX_PASSWORD/,
  ],
  ['too many, seconds named', 429, { 'retry-after': '30' }, '', 1, 30, /Wait 30 s/],
  [
    'too many, date named',
    429,
    { 'retry-after': new Date((NOW + 45) * 1000).toUTCString() },
    '',
    1,
    45,
    /Wait 45 s/,
  ],
  [
    'too many, date gone by',
    429,
    { 'retry-after': new Date((NOW - 45) * 1000).toUTCString() },
    '',
    1,
    0,
    /Wait 0 s/,
  ],
  ['too many, nothing named', 429, {}, '', 1, undefined, /does not say how long/],
  [
    'too many, nonsense named',
    429,
    { 'retry-after': 'soon' },
    '',
    1,
    undefined,
    /does not say how long/,
  ],
  // the server is not well
  ['502', 502, {}, '', 2, 0, /is not ready \(502\).*does not say how long/],
  ['503', 503, { 'retry-after': '3' }, '', 2, 3, /is not ready \(503\).*Wait 3 s/],
  ['504', 504, {}, '', 2, 0, /is not ready \(504\)/],
  ['500', 500, {}, '', 2, undefined, /failed \(500\): look into its log/],
  // not the API
  [
    'a redirect',
    301,
    { location: 'https://other.example/x?p=1' },
    '',
    3,
    undefined,
    /redirects \(301\) to https:\/\/other\.example, which is not followed/,
  ],
  ['a redirect within', 302, { location: '/login' }, '', 3, undefined, /redirects \(302\), which/],
  ['a redirect to nowhere', 302, {}, '', 3, undefined, /redirects \(302\), which/],
  [
    'a redirect to nonsense',
    302,
    { location: 'http://[' },
    '',
    3,
    undefined,
    /redirects \(302\), which/,
  ],
  [
    'a redirect that repeats the password',
    302,
    { location: '/p&%25+%C3%BC%23' },
    '',
    3,
    undefined,
    /redirects \(302\), which/,
  ],
  [
    'a wrong path',
    404,
    {},
    '<html>',
    3,
    undefined,
    /answered 404\. .*ending in \/pbxcore\/api\/v3/,
  ],
  ['HTML', 200, {}, '<!doctype html>', 3, undefined, /no JSON object.*ending in/],
  ['nothing', 200, {}, '', 3, undefined, /no JSON object/],
  ['a JSON list', 200, {}, '[]', 3, undefined, /no JSON object/],
  ['JSON null', 200, {}, 'null', 3, undefined, /no JSON object/],
  [
    'a failure with 200',
    200,
    {},
    '{"result":false,"data":{},"messages":{"error":["x"]}}',
    3,
    undefined,
    /no data\.accessToken/,
  ],
  ['data of the wrong kind', 200, {}, login([]), 3, undefined, /no data\.accessToken/],
  ['an empty token', 200, {}, login({ accessToken: '' }), 3, undefined, /no data\.accessToken/],
  [
    'a token of the wrong kind',
    200,
    {},
    login({ accessToken: 5 }),
    3,
    undefined,
    /no data\.accessToken/,
  ],
  // not a usable token
  ['two parts', 200, {}, login({ accessToken: 'a.b' }), 3, undefined, /not the three parts/],
  ['an empty part', 200, {}, login({ accessToken: 'a.b.' }), 3, undefined, /not the three parts/],
  [
    'a token with a second line',
    200,
    {},
    login({ accessToken: `${token}\n` }),
    3,
    undefined,
    /not the three parts/,
  ],
  [
    'a payload that is not JSON',
    200,
    {},
    login({ accessToken: 'a.b.c' }),
    3,
    undefined,
    /no JWT with an expiry/,
  ],
  [
    'a token without expiry',
    200,
    {},
    login({ accessToken: createToken({}) }),
    3,
    undefined,
    /no JWT with an expiry/,
  ],
  [
    'a token that expires now',
    200,
    {},
    login({ accessToken: createToken({ exp: NOW }) }),
    3,
    undefined,
    /Token expired: 0 s/,
  ],
  [
    'an expired token',
    200,
    {},
    login({ accessToken: createToken({ exp: NOW - 30 }) }),
    3,
    undefined,
    /Token expired: 30 s .*Compare the clocks/,
  ],
]

for (const [name, status, headers, body, exit, retryAfter, message] of answers) {
  void t.test(`${name} → ${exit}`, (t) => {
    const verdict = judge({ status, headers, body }, QUESTION)
    t.match(verdict, { exit, message })
    t.equal('retryAfter' in verdict ? verdict.retryAfter : undefined, retryAfter)
    t.notMatch(verdict, { message: /p&%|C3%BC|p=1/ }, 'nothing that a redirect repeats')
    t.end()
  })
}

void t.test('a token with time left is the answer', (t) => {
  t.same(judge({ status: 200, headers: {}, body: login({ accessToken: token }) }, QUESTION), {
    token,
    secondsLeft: 900,
  })
  t.end()
})

void t.test('terminal escapes in a login are not passed on', (t) => {
  const verdict = judge({ status: 401, headers: {}, body: '' }, { ...QUESTION, login: '\u001B[2J' })
  t.match(verdict, { message: /"\?\[2J"/ })
  t.end()
})
