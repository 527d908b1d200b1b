// Which requests are our own pages’, and which another site’s: a table of what browsers send, by what nginx says and by
// what the operator lists.

import t from 'tap'

import { readHeaders } from '../../src/http/headers.ts'
import { createSite } from '../../src/http/site.ts'

const forwarded = (proto: string, host: string): string[] => [
  'X-Forwarded-Proto',
  proto,
  'X-Forwarded-Host',
  host,
]
const HERE = forwarded('https', 'pbx.example')
const origin = (value: string, here = HERE): string[] => [...here, 'Origin', value]
const plain = createSite([], 'auto')

void t.test('our own pages, and what no page can make a browser send', (t) => {
  const rows: Record<string, string[]> = {
    'neither header: curl, scripts': [],
    'a same-origin fetch': ['Sec-Fetch-Site', 'same-origin'],
    'typed into the address bar': ['Sec-Fetch-Site', 'none'],
    'our origin': origin('https://pbx.example'),
    both: [...origin('https://pbx.example'), 'Sec-Fetch-Site', 'same-origin'],
    'our origin with its port': origin(
      'http://localhost:8080',
      forwarded('http', 'localhost:8080'),
    ),
    'the port that https has anyway': origin(
      'https://pbx.example',
      forwarded('https', 'pbx.example:443'),
    ),
    'the port that http has anyway': origin('http://pbx', forwarded('http', 'pbx:80')),
    'an address of IPv6': origin('https://[::1]', forwarded('https', '[::1]:443')),
    'a Host in capitals, as a proxy may write it': origin(
      'https://pbx.example',
      forwarded('https', 'PBX.example'),
    ),
    // Chromium, of a page with Referrer-Policy: no-referrer.
    'a form of our own page without referrers': [
      ...origin('null'),
      'Sec-Fetch-Site',
      'same-origin',
    ],
    // A front that ends TLS: this nginx says http, and the browser what it knows.
    'a fetch through a proxy in front': [
      ...origin('https://pbx.example', forwarded('http', 'pbx.example')),
      'Sec-Fetch-Site',
      'same-origin',
    ],
  }
  for (const [what, lines] of Object.entries(rows)) {
    t.notOk(plain.isCrossSite(readHeaders(lines)), what)
  }
  t.end()
})

void t.test('everything else is another site', (t) => {
  const rows: Record<string, string[]> = {
    'cross-site': ['Sec-Fetch-Site', 'cross-site'],
    'another host of the same site': ['Sec-Fetch-Site', 'same-site'],
    'our Origin does not outweigh it': [
      ...origin('https://pbx.example'),
      'Sec-Fetch-Site',
      'cross-site',
    ],
    'a word of tomorrow': ['Sec-Fetch-Site', 'same-party'],
    'another case': ['Sec-Fetch-Site', 'Same-Origin'],
    empty: ['Sec-Fetch-Site', ''],
    'said twice': ['Sec-Fetch-Site', 'none', 'Sec-Fetch-Site', 'none'],
    null: origin('null'),
    'another scheme': origin('http://pbx.example'),
    'another port': origin('https://pbx.example:8443'),
    'the port of another scheme': origin('https://pbx', forwarded('https', 'pbx:80')),
    'a longer name': origin('https://pbx.example.evil'),
    'a prefix': origin('https://pbx.exampl'),
    'a dot that is no dot': origin('https://pbxXexample'),
    'a path behind': origin('https://pbx.example/'),
    userinfo: origin('https://pbx.example@evil'),
    'another case of the host': origin('https://PBX.example'),
    'two origins in one line': origin('https://pbx.example https://evil.example'),
    'Origin twice': [...origin('https://pbx.example'), 'Origin', 'https://pbx.example'],
    'nginx names no host': ['X-Forwarded-Proto', 'https', 'Origin', 'https://pbx.example'],
    'nginx names no scheme': ['X-Forwarded-Host', 'pbx.example', 'Origin', 'https://pbx.example'],
    'Host is not looked at': [
      'Host',
      'pbx.example',
      'X-Forwarded-Proto',
      'https',
      'Origin',
      'https://pbx.example',
    ],
    'the host said twice': [...origin('https://pbx.example'), 'X-Forwarded-Host', 'evil'],
  }
  for (const [what, lines] of Object.entries(rows)) {
    t.ok(plain.isCrossSite(readHeaders(lines)), what)
  }
  t.end()
})

void t.test('a WebSocket names its origin itself', (t) => {
  const rows: [what: string, lines: string[], crosses: boolean][] = [
    ['ours', origin('https://pbx.example'), false],
    ['says nothing', HERE, true],
    ['of another site', origin('https://evil.example'), true],
    ['of a page in a sandbox', origin('null'), true],
    // No browser sends it there: it must not stand for the Origin.
    ['with Sec-Fetch-Site alone', [...HERE, 'Sec-Fetch-Site', 'same-origin'], true],
    [
      'of another site that says it is ours',
      [...origin('https://evil.example'), 'Sec-Fetch-Site', 'same-origin'],
      true,
    ],
    ['ours, and yet not', [...origin('https://pbx.example'), 'Sec-Fetch-Site', 'same-site'], true],
  ]
  for (const [what, lines, crosses] of rows) {
    t.equal(plain.isCrossSite(readHeaders(lines), true), crosses, what)
  }
  t.end()
})

const LISTED = [
  'http://phone.lan:8080',
  'https://pbx.example',
  'https://pbx.example:8443',
  'http://phone.lan',
  'https://[2001:db8::1]:9443',
]

void t.test('what is listed is ours, whatever nginx says of itself', (t) => {
  const site = createSite(LISTED, 'auto')
  for (const here of [
    forwarded('http', 'pbx.example'),
    forwarded('http', '127.0.0.1:8080'),
    forwarded('https', 'phone.lan'),
    ['X-Forwarded-Proto', 'http'],
    [],
  ]) {
    for (const own of LISTED) {
      for (const isWebSocket of [false, true]) {
        const headers = readHeaders(origin(own, here))
        t.notOk(site.isCrossSite(headers, isWebSocket), `${here.join(' ')}: ${own}`)
      }
    }
    for (const other of [
      'http://pbx.example',
      'https://pbx.example:443',
      'https://phone.lan',
      'https://PBX.example',
      'https://pbx.example.evil',
      'http://127.0.0.1:8080',
      'null',
      '',
    ]) {
      t.ok(site.isCrossSite(readHeaders(origin(other, here))), `${here.join(' ')}: ${other}`)
    }
  }
  t.ok(site.isCrossSite(readHeaders(HERE), true), 'a WebSocket needs one here too')
  t.notOk(site.isCrossSite(readHeaders(HERE)), 'a GET does not')
  t.end()
})

void t.test('the listed origin of the Host says whether cookies are Secure', (t) => {
  const site = createSite(LISTED, 'auto')
  const rows: [host: string, secure: boolean][] = [
    ['pbx.example', true],
    ['pbx.example:443', true],
    ['PBX.Example:8443', true],
    ['pbx.example:9999', true], // the port of a proxy in between
    ['phone.lan', false],
    ['phone.lan:80', false],
    ['phone.lan:8080', false],
    ['[2001:db8::1]', true], // a proxy in front took the port
    ['[2001:db8::1]:9443', true],
    ['elsewhere', true],
    ['', true],
  ]
  for (const proto of ['http', 'https']) {
    for (const [host, secure] of rows) {
      t.equal(site.isSecure(readHeaders(forwarded(proto, host))), secure, `${proto} ${host}`)
    }
  }
  t.ok(site.isSecure(readHeaders([])), 'where nginx does not say')
  t.notOk(createSite(['http://phone.lan'], 'auto').isSecure(readHeaders(HERE)), 'all of them http')
  t.ok(createSite(['http://phone.lan'], 'always').isSecure(readHeaders([])), 'always is always')
  const mixed = createSite(['http://a.lan:8080', 'https://a.lan:8443'], 'auto')
  t.ok(mixed.isSecure(readHeaders(forwarded('http', 'a.lan'))), 'in doubt https')
  t.notOk(mixed.isSecure(readHeaders(forwarded('http', 'a.lan:8080'))))
  t.end()
})

void t.test('where none is listed, nginx says it, or the setting', (t) => {
  const rows: [lines: string[], cookies: 'auto' | 'always', due: boolean][] = [
    [['X-Forwarded-Proto', 'https'], 'auto', true],
    [['X-Forwarded-Proto', 'http'], 'auto', false],
    [['X-Forwarded-Proto', 'HTTPS'], 'auto', false],
    [['X-Forwarded-Proto', 'https', 'x-forwarded-proto', 'https'], 'auto', true],
    [['X-Forwarded-Proto', 'http', 'x-forwarded-proto', 'http'], 'auto', true],
    [[], 'auto', false],
    [[], 'always', true],
    [['X-Forwarded-Proto', 'http'], 'always', true],
  ]
  for (const [lines, cookies, due] of rows) {
    const secure = createSite([], cookies).isSecure(readHeaders(lines))
    t.equal(secure, due, `${lines.join(' ')} ${cookies}`)
  }
  const always = createSite([], 'always')
  const inner = forwarded('http', 'pbx.example')
  t.notOk(always.isCrossSite(readHeaders(origin('https://pbx.example', inner)), true), 'is https')
  t.ok(always.isCrossSite(readHeaders(origin('http://pbx.example', inner))), 'and not http')
  t.end()
})

void t.test('plain http is safe on this very machine', (t) => {
  const listed = createSite(['http://localhost:8080', 'http://phone.lan'], 'auto')
  const rows: [host: string, due: boolean, listed: boolean][] = [
    ['localhost', true, true],
    ['localhost:8080', true, true],
    ['127.0.0.1', true, false], // not listed
    ['[::1]:80', true, false],
    ['phone.lan', false, false],
    ['localhost.evil', false, false],
  ]
  for (const [host, due, byList] of rows) {
    const headers = readHeaders(forwarded('http', host))
    t.equal(plain.isLoopback(headers), due, host)
    t.equal(listed.isLoopback(headers), byList, `${host}, listed`)
  }
  t.notOk(plain.isLoopback(readHeaders([])))
  t.end()
})

void t.test('the log learns both origins, as far as they are known', (t) => {
  const asked = readHeaders([...origin(`https://${'e'.repeat(999)}`), 'Sec-Fetch-Site', 'x'])
  t.same(plain.blame(asked), {
    reason: 'cross_site',
    detail: {
      origin: `https://${'e'.repeat(248)}`,
      fetchSite: 'x',
      own: 'https://pbx.example',
    },
  })
  const nothing = { origin: undefined, fetchSite: undefined, own: '' }
  t.same(plain.blame(readHeaders([])), { reason: 'cross_site', detail: nothing })
  t.match(createSite(LISTED, 'auto').blame(readHeaders(forwarded('http', 'phone.lan:80'))), {
    detail: { own: 'http://phone.lan' },
  })
  t.match(createSite(LISTED.slice(0, 2), 'auto').blame(readHeaders([])), {
    detail: { own: 'http://phone.lan:8080 https://pbx.example' },
  })
  t.end()
})
