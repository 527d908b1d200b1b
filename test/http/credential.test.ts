// Which credential a request shows: every way, every pair of ways, every odd spelling.

import t from 'tap'

import {
  accessCookieName,
  readAccessCookie,
  readBearer,
  readCredential,
  readHolder,
} from '../../src/http/credential.ts'
import { readHeaders } from '../../src/http/headers.ts'
import { createSite } from '../../src/http/site.ts'

const A = 'aaa.bbb.ccc'
const B = 'xxx.yyy.zzz'
const ACCESS = { token: A, type: 'access' }
const IN_HEADER = { ...ACCESS, inHeader: true }
const NONE = { refused: 'no_credential' }
const BAD = { refused: 'malformed_token' }
const TWO = { refused: 'invalid_request' }

const bearer = (...values: string[]): string[] =>
  values.flatMap((value) => ['Authorization', value])

const siteOf = (secure: boolean) => createSite([], secure ? 'always' : 'auto')

interface Asked {
  lines?: string[]
  uri?: string
  accept?: string
  secure?: boolean
  isWebSocket?: boolean
}
const read = ({ lines = [], uri = '', accept = 'header', ...asked }: Asked) =>
  readCredential({
    headers: readHeaders(lines),
    uri,
    accept,
    site: siteOf(asked.secure ?? false),
    isWebSocket: asked.isWebSocket ?? false,
  })

void t.test('a # ends the target, as it does for nginx', (t) => {
  const rows: [uri: string, due: unknown][] = [
    [`/x#?token=${A}`, NONE],
    [`/x?a=1#&token=${A}`, NONE],
    [`/x#token=${A}`, NONE],
    [`/x?token=${A}#`, ACCESS],
    [`/x?token=${A}#&token=${B}`, ACCESS],
    [`/x?token=${A}#?y`, ACCESS],
    [`/x?token=#${A}`, BAD],
    [`/x?token=${A}%23`, { token: `${A}#`, type: 'access' }],
  ]
  for (const [uri, due] of rows) t.same(read({ uri, accept: 'query' }), due, uri)
  t.same(read({ uri: `/x#?ticket=${A}`, accept: 'ticket' }), NONE)
  t.same(read({ uri: `/x?ticket=${A}#x`, accept: 'ticket' }), { token: A, type: 'ticket' })
  t.end()
})

void t.test('the scheme knows no case, and one or more spaces follow it', (t) => {
  for (const value of [`Bearer ${A}`, `bearer ${A}`, `BEARER ${A}`, `Bearer  ${A}`]) {
    t.same(readBearer(readHeaders(bearer(value))), IN_HEADER, value)
  }
  t.end()
})

void t.test('another scheme is no credential of ours', (t) => {
  // What a browser sends everywhere once a site has asked it for a name and a password.
  const others = [
    'Basic dTpw',
    'basic dTpw==',
    'Basic  dTpw',
    'Token aaa.bbb',
    'Negotiate YIIZZ+/==',
    'AWS4-HMAC-SHA256 Credential=x/y',
    'Bearers x',
    'Basic x;Bearer',
  ]
  const cookie = ['Cookie', `postern=${A}`]
  for (const value of others) {
    const lines = bearer(value)
    t.same(readBearer(readHeaders(lines)), NONE, value)
    for (const accept of ['header cookie', 'header ticket cookie', 'cookie']) {
      t.same(read({ lines: [...lines, ...cookie], accept }), ACCESS, `${value}: ${accept}`)
    }
    const ticket = { token: B, type: 'ticket' }
    t.same(read({ lines, uri: `/x?ticket=${B}`, accept: 'header ticket' }), ticket, value)
    t.same(read({ lines, uri: `/x?token=${A}`, accept: 'header query' }), ACCESS, value)
    t.same(readHolder(readHeaders([...lines, ...cookie]), siteOf(false)), ACCESS, value)
  }
  t.end()
})

void t.test('whatever else stands there is a bad token, not none', (t) => {
  for (const value of [
    `Bearer\t${A}`,
    `Bearer ${A} ${B}`,
    `Bearer ${A},Bearer ${B}`,
    `Bearer ${A}, Basic x`,
    `Basic x, Bearer ${A}`,
    'Bearer',
    'Bearer ',
    'bearer',
    A,
    '',
    `Bearer: ${A}`,
    `Basic x Bearer ${A}`,
    `Basic x,Bearer ${A}`,
    'Digest username="u", realm="r"',
    'Basic',
    'Basic x y',
    'Basic\tx',
    `Bas(ic ${A}`,
    `Bearer\u00a0${A}`,
    'Basic x\u00a0y',
    `Bearer ${A}\u00a0x`,
  ]) {
    t.same(readBearer(readHeaders(bearer(value))), BAD, value)
  }
  t.same(readBearer(readHeaders([])), NONE)
  t.end()
})

void t.test('two Authorization lines are two credentials', (t) => {
  t.same(readBearer(readHeaders(bearer(`Bearer ${A}`, `Bearer ${B}`))), TWO)
  t.same(readBearer(readHeaders(bearer(`Bearer ${A}`, `Bearer ${A}`))), TWO)
  t.same(readBearer(readHeaders(bearer(`Bearer ${A}`, 'Basic x'))), TWO)
  t.end()
})

void t.test('the query token counts under its two whole names, decoded once', (t) => {
  const rows: Record<string, object> = {
    [`/x?token=${A}`]: ACCESS,
    [`/x?authorization=${A}`]: ACCESS,
    [`/x?a=1&token=${A}&b=2`]: ACCESS,
    [`/x?to%6ben=${A}`]: ACCESS,
    [`/x?authorization=Bearer%20${A}`]: ACCESS,
    [`/x?authorization=Bearer+${A}`]: ACCESS,
    [`/x?token=bearer+${A}`]: ACCESS,
    [`/x?token=${A.replaceAll('.', '%2E')}`]: ACCESS,
    [`/x?TOKEN=${A}`]: NONE,
    [`/x?token[]=${A}`]: NONE,
    [`/x?x=1;token=${A}`]: NONE,
    [`/x?t%256fken=${A}`]: NONE,
    [`/x?%zz=1`]: NONE,
    [`/x?%zz=1&token=${A}`]: ACCESS,
    [`/x?token=${A};x=1`]: { token: `${A};x=1`, type: 'access' },
    [`/x?token=${A}%00`]: { token: `${A}\0`, type: 'access' },
    [`/x?token=%20${A}`]: { token: ` ${A}`, type: 'access' },
    '/x?token=': BAD,
    '/x?token': BAD,
    '/x?token=%zz': BAD,
    '/x': NONE,
    '': NONE,
    [`token=${A}`]: NONE,
    [`/x?token=${A}&token=${A}`]: TWO,
    [`/x?token=${A}&to%6ben=${B}`]: TWO,
    [`/x?authorization=${A}&token=${B}`]: TWO,
    [`/x?token=&token=${A}`]: TWO,
  }
  for (const [uri, due] of Object.entries(rows)) {
    t.same(read({ uri, accept: 'query' }), due, uri)
    t.same(read({ uri, accept: 'header query' }), due, uri)
  }
  t.end()
})

void t.test('what the location does not name is not looked at', (t) => {
  const lines = [...bearer(`Bearer ${A}`), 'Cookie', `postern=${A}`]
  const uri = `/x?token=${A}&ticket=${A}`
  const rows: Record<string, object> = {
    header: IN_HEADER,
    query: ACCESS,
    ticket: { token: A, type: 'ticket' },
    cookie: ACCESS,
    'header cookie': IN_HEADER,
    '': NONE,
    Header: NONE,
    'header,query': NONE,
    none: NONE,
    headers: NONE,
  }
  for (const [accept, due] of Object.entries(rows))
    t.same(read({ lines, uri, accept }), due, accept)
  t.same(read({ uri, accept: 'header' }), NONE)
  t.same(read({ lines: ['Cookie', `postern=${A}`], accept: 'header query ticket' }), NONE)
  t.end()
})

void t.test('two explicit credentials are refused, even where they agree', (t) => {
  const lines = bearer(`Bearer ${A}`)
  const accept = 'header cookie ticket query'
  for (const uri of [`/x?token=${A}`, `/x?ticket=${A}`, '/x?token=', `/x?authorization=${B}`]) {
    t.same(read({ lines, uri, accept }), TWO, uri)
  }
  t.same(read({ uri: `/x?token=${A}&ticket=${B}`, accept }), TWO)
  t.same(read({ lines: bearer('junk'), uri: `/x?token=${A}`, accept }), TWO)
  t.end()
})

void t.test('an explicit credential beats the cookie and never falls back to it', (t) => {
  const cookie = ['Cookie', `postern=${B}`]
  const accept = 'header cookie ticket query'
  t.same(read({ lines: [...bearer(`Bearer ${A}`), ...cookie], accept }), IN_HEADER)
  t.same(read({ lines: [...bearer('junk'), ...cookie], accept }), BAD)
  t.same(read({ lines: [...bearer(A, B), ...cookie], accept }), TWO)
  t.same(read({ lines: cookie, uri: '/x?token=', accept }), BAD)
  t.same(read({ lines: cookie, uri: '/x?ticket=%zz', accept }), BAD)
  t.same(read({ lines: cookie, accept }), { token: B, type: 'access' })
  t.end()
})

void t.test('there are no other ways', (t) => {
  for (const name of ['Proxy-Authorization', 'X-Authorization', 'X-Access-Token', 'X-Auth-Token']) {
    const accept = 'header cookie ticket query'
    t.same(read({ lines: [name, `Bearer ${A}`], accept }), NONE, name)
  }
  t.end()
})

void t.test('the access cookie counts under the one name of its site', (t) => {
  t.equal(accessCookieName(true), '__Host-postern')
  t.equal(accessCookieName(false), 'postern')
  const rows: [secure: boolean, line: string, due: object][] = [
    [true, `__Host-postern=${A}`, ACCESS],
    [true, `__host-postern=${B}; __Host-postern=${A}`, ACCESS],
    [true, `__Host-postern="${A}"`, ACCESS],
    [true, `postern=${A}`, NONE],
    [true, `__Secure-postern=${A}`, NONE],
    [true, `refreshToken=${A}`, NONE],
    [true, `__Host-postern=${A}; __Host-postern=${B}`, TWO],
    [false, `postern=${A}`, ACCESS],
    [false, `__Host-postern=${A}`, NONE],
    [false, `postern=`, NONE],
  ]
  for (const [secure, line, due] of rows) {
    t.same(read({ lines: ['Cookie', line], accept: 'cookie', secure }), due, line)
  }
  t.end()
})

void t.test('the cookie does not count for another site’s page', (t) => {
  const HERE = ['X-Forwarded-Proto', 'http', 'X-Forwarded-Host', 'pbx']
  const CROSS = { refused: 'cross_site' }
  const rows: [what: string, lines: string[], isWebSocket: boolean, due: object][] = [
    ['an EventSource says nothing', [], false, ACCESS],
    ['same-origin', ['Sec-Fetch-Site', 'same-origin'], false, ACCESS],
    ['cross-site', ['Sec-Fetch-Site', 'cross-site'], false, CROSS],
    ['a foreign Origin', [...HERE, 'Origin', 'http://evil'], false, CROSS],
    ['a WebSocket of ours', [...HERE, 'Origin', 'http://pbx'], true, ACCESS],
    ['a WebSocket that does not say', HERE, true, CROSS],
    ['a WebSocket of others', [...HERE, 'Origin', 'http://evil'], true, CROSS],
  ]
  for (const [what, lines, isWebSocket, due] of rows) {
    const asked = {
      lines: ['Cookie', `postern=${A}`, ...lines],
      accept: 'header cookie',
      isWebSocket,
    }
    t.same(read(asked), due, what)
  }
  t.same(
    read({ accept: 'cookie', isWebSocket: true }),
    NONE,
    'where there is no cookie, none is abused',
  )
  const explicit = { lines: [...bearer(`Bearer ${A}`), 'Sec-Fetch-Site', 'cross-site'] }
  t.same(read({ ...explicit, accept: 'header cookie' }), IN_HEADER, 'a token needs no such rule')
  t.same(readAccessCookie(readHeaders([]), siteOf(true)), NONE)
  t.end()
})

void t.test('our own endpoints take the header, else the cookie', (t) => {
  const cookie = ['Cookie', `postern=${B}`]
  const holder = (lines: string[]) => readHolder(readHeaders(lines), siteOf(false))
  t.same(holder([...bearer(`Bearer ${A}`), ...cookie]), IN_HEADER)
  t.same(holder(cookie), { token: B, type: 'access' })
  t.same(holder([...bearer('junk'), ...cookie]), BAD)
  t.same(holder([]), NONE)
  t.same(holder([...cookie, 'Sec-Fetch-Site', 'cross-site']), { refused: 'cross_site' })
  t.end()
})
