// What each kind of value lets in, and what it makes of it.

import t from 'tap'
import * as v from 'valibot'
import * as cdrKinds from '../../src/config/cdr-kinds.ts'
import * as kinds from '../../src/config/kinds.ts'
import type { Kind } from '../../src/config/kinds.ts'
import { keysUrl, origins } from '../../src/config/url-kinds.ts'

const REFUSED = Symbol('refused')

const read = <T>(kind: Kind<T>, written: unknown): unknown => {
  const result = v.safeParse(kind.schema, written)
  return result.success ? result.output : REFUSED
}

const cases: readonly (readonly [Kind<unknown>, readonly (readonly [unknown, unknown])[]])[] = [
  [
    kinds.address,
    [
      ['unix:/run/a.sock', { path: '/run/a.sock' }],
      ['unix:/run/x/../a.sock', { path: '/run/a.sock' }],
      [`unix:/${'a'.repeat(106)}`, { path: `/${'a'.repeat(106)}` }],
      [`unix:/${'a'.repeat(107)}`, REFUSED],
      [`unix:/${'é'.repeat(54)}`, REFUSED], // 109 bytes
      ['unix:run/a.sock', REFUSED],
      ['unix:/run/', REFUSED],
      ['unix:/run/a\nb', REFUSED],
      ['/run/a.sock', REFUSED],
      ['127.0.0.1:9477', { host: '127.0.0.1', port: 9477 }],
      ['[::1]:9478', { host: '::1', port: 9478 }],
      ['[0:0:0:0:0:0:0:1]:9478', { host: '::1', port: 9478 }],
      ['[FE80::1]:1', { host: 'fe80::1', port: 1 }],
      ['127.0.0.1:0', { host: '127.0.0.1', port: 0 }],
      ['127.0.0.1:65535', { host: '127.0.0.1', port: 65_535 }],
      ['127.0.0.1:65536', REFUSED],
      ['127.0.0.1', REFUSED],
      ['127.1:80', REFUSED],
      ['127.0.0.01:80', REFUSED],
      ['[127.0.0.1]:80', REFUSED],
      ['::1:80', REFUSED],
      ['[fe80::1%eth0]:80', REFUSED],
      ['localhost:80', REFUSED],
      [':80', REFUSED],
      ['', REFUSED],
      [80, REFUSED],
    ],
  ],
  [
    kinds.anyOf(['names', 'other']),
    [
      [[], []],
      [['names'], ['names']],
      [
        ['other', 'names'],
        ['other', 'names'],
      ],
      [['names', 'names'], REFUSED],
      [['file'], REFUSED],
      ['names', REFUSED],
    ],
  ],
  [
    kinds.namePatterns,
    [
      [[], []],
      [['{date}-{party}.wav'], ['{date}-{party}.wav']],
      [['{date}.wav'], REFUSED],
      [['{party}', '{party}{x}'], REFUSED],
      [[201], REFUSED],
    ],
  ],
  [
    kinds.socketPath,
    [
      ['/run/postern/control.sock', '/run/postern/control.sock'],
      ['unix:/run/postern/control.sock', REFUSED],
      ['control.sock', REFUSED],
    ],
  ],
  [
    kinds.path,
    [
      ['/var/lib/postern', '/var/lib/postern'],
      ['/var//lib/./postern', '/var/lib/postern'],
      ['/', REFUSED],
      ['', REFUSED],
      ['a', REFUSED],
      ['/a\0b', REFUSED],
    ],
  ],
  [
    kinds.pathOrNone,
    [
      ['', ''],
      ['/a//b', '/a/b'],
      ['a', REFUSED],
    ],
  ],
  [
    kinds.urlPath,
    [
      ['/pbxcore/api/v3', '/pbxcore/api/v3'],
      ['/a', '/a'],
      ['/.well-known/x', '/.well-known/x'],
      ['/', REFUSED],
      ['', REFUSED],
      ['a', REFUSED],
      ['/a/', REFUSED],
      ['/a//b', REFUSED],
      ['/a/../b', REFUSED],
      ['/a/.', REFUSED],
      ['/a%2Fb', REFUSED],
      ['/a?b', REFUSED],
      ['/a b', REFUSED],
      ['/a\n', REFUSED],
      [`/${'a'.repeat(200)}`, REFUSED],
    ],
  ],
  [
    kinds.name,
    [
      ['postern', 'postern'],
      ['https://auth.example.org/', 'https://auth.example.org/'],
      ['two words', 'two words'],
      ['a'.repeat(255), 'a'.repeat(255)],
      ['a'.repeat(256), REFUSED],
      ['', REFUSED],
      [' a', REFUSED],
      ['a\n', REFUSED],
      ['é', REFUSED],
    ],
  ],
  [
    kinds.seconds(0.05, 5),
    [
      [0.25, 0.25],
      [5, 5],
      [0.01, REFUSED],
      [Number.NaN, REFUSED],
      ['1', REFUSED],
    ],
  ],
  [
    kinds.storeUrl,
    [
      ['', ''],
      ['redis://a', 'redis://a'],
      ['redis+sentinel://a,b/main', 'redis+sentinel://a,b/main'],
      ['redis+cluster://a,b', REFUSED],
      ['http://a', REFUSED],
      ['redis://', REFUSED],
      ['redis://a\n', REFUSED],
    ],
  ],
  [
    kinds.nameOrNone,
    [
      ['', ''],
      ['edge-1.example.org', 'edge-1.example.org'],
      ['a b', REFUSED],
      ['a/b', REFUSED],
    ],
  ],
  [
    origins,
    [
      [[], []],
      [['https://pbx.example.com'], ['https://pbx.example.com']],
      [
        ['https://pbx.example.com:8443', 'http://pbx.lan', 'https://xn--bcher-kva.example'],
        ['https://pbx.example.com:8443', 'http://pbx.lan', 'https://xn--bcher-kva.example'],
      ],
      [['http://127.0.0.1:8080'], ['http://127.0.0.1:8080']],
      [['https://[2001:db8::1]:8443'], ['https://[2001:db8::1]:8443']],
      [
        ['http://pbx.lan:8080', 'https://pbx.lan'],
        ['http://pbx.lan:8080', 'https://pbx.lan'],
      ],
      // By their Host alone these two cannot be told apart.
      [['http://pbx.lan', 'https://pbx.lan'], REFUSED],
      [['https://pbx.lan', 'https://pbx.lan'], REFUSED],
      [['https://[2001:DB8::1]'], REFUSED],
      [['https://[2001:db8:0::1]'], REFUSED],
      [['http://127.1'], REFUSED],
      [['https://PBX.example.com'], REFUSED],
      [['HTTPS://pbx.example.com'], REFUSED],
      [['https://bücher.example'], REFUSED],
      [['https://pbx.example.com/'], REFUSED],
      [['https://pbx.example.com/a'], REFUSED],
      [['https://pbx.example.com?'], REFUSED],
      [['https://pbx.example.com#'], REFUSED],
      [['https://a@pbx.example.com'], REFUSED],
      [['https://pbx.example.com:443'], REFUSED],
      [['http://pbx.example.com:80'], REFUSED],
      [['https://pbx.example.com:'], REFUSED],
      [['https://pbx.example.com:x'], REFUSED],
      [['https://*.example.com'], REFUSED],
      [['*'], REFUSED],
      [['https://'], REFUSED],
      [['pbx.example.com'], REFUSED],
      [['wss://pbx.example.com'], REFUSED],
      [['null'], REFUSED],
      [[''], REFUSED],
      [[' https://pbx.example.com'], REFUSED],
      [['https://pbx.example.com\n'], REFUSED],
      [['https://pbx.exa\tmple.com'], REFUSED],
      ['https://pbx.example.com', REFUSED],
    ],
  ],
  [
    kinds.keyPrefix,
    [
      ['postern:', 'postern:'],
      ['{x}', REFUSED],
    ],
  ],
  [
    kinds.group,
    [
      ['', ''],
      ['www-data', 'www-data'],
      ['33', '33'],
      ['-x', REFUSED],
      ['a b', REFUSED],
    ],
  ],
  [
    kinds.whole(60, 100),
    [
      [60, 60],
      [100, 100],
      [59, REFUSED],
      [101, REFUSED],
      [60.5, REFUSED],
      [Number.NaN, REFUSED],
      [Number.POSITIVE_INFINITY, REFUSED],
      ['60', REFUSED],
      [true, REFUSED],
    ],
  ],
  [
    kinds.flag,
    [
      [true, true],
      [false, false],
      [0, REFUSED],
      ['true', REFUSED],
    ],
  ],
  [
    kinds.oneOf(['a', 'b']),
    [
      ['a', 'a'],
      ['A', REFUSED],
    ],
  ],
  [
    cdrKinds.identifier,
    [
      ['cdr_general', 'cdr_general'],
      ['cdr"', REFUSED],
      ['', REFUSED],
      ['1', REFUSED],
    ],
  ],
  [
    kinds.paths,
    [
      [[], []],
      [['/a//b'], ['/a/b']],
      [['a'], REFUSED],
      [['/a/'], REFUSED],
    ],
  ],
  [
    cdrKinds.columns,
    [
      [[], new Map()],
      [
        ['source=src', 'app=x_1'],
        new Map([
          ['source', 'src'],
          ['app', 'x_1'],
        ]),
      ],
      [['source=src', 'source=dst'], REFUSED],
      [['sauce=src'], REFUSED],
      [['source='], REFUSED],
      [['source=a b'], REFUSED],
    ],
  ],
  [
    kinds.grants,
    [
      [[], []],
      [['read:a/**'], ['read:a/**']],
      [['read:Иванов/a b%20'], ['read:Иванов/a b%20']],
      [['read:a '], REFUSED], // a slip, which would grant nothing
      [['read:a\u00a0'], REFUSED],
      [['read:'], REFUSED],
      [[['read:a']], REFUSED],
      ['read:a', REFUSED],
    ],
  ],
]

void t.test('a kind lets in what it says, in one spelling, and nothing else', async (t) => {
  for (const [kind, table] of cases) {
    for (const [written, expected] of table) {
      const shown = JSON.stringify(written).slice(0, 40)
      t.same(read(kind, written), expected, `${kind.expected}: ${shown}`)
    }
  }
})

void t.test('only loopback addresses and sockets are local', async (t) => {
  for (const [host, local] of [
    ['127.0.0.1', true],
    ['127.8.9.10', true],
    ['::1', true],
    ['::ffff:127.0.0.1', true],
    ['0.0.0.0', false],
    ['128.0.0.1', false],
    ['192.168.1.1', false],
    ['::', false],
    ['::ffff:10.0.0.1', false],
    ['fe80::1', false],
  ] as const) {
    t.equal(kinds.isLocal({ host, port: 1 }), local, host)
  }
  t.ok(kinds.isLocal({ path: '/run/a.sock' }))
})

void t.test('keys are fetched over https, or from this machine', async (t) => {
  const good = [
    '',
    'https://id.example/a?b=c',
    'http://127.0.0.1:80/a',
    'http://[::1]/',
    'http://localhost/a',
  ]
  for (const url of good) t.equal(v.parse(keysUrl.schema, url), url, url)
  const bad = [
    'id.example',
    'ftp://id.example',
    'http://id.example/',
    'http://10.0.0.1/',
    'https://a:b@id.example/',
    'https://id.example/#a',
    'https://id.example/\n',
    '/etc/keys.json',
  ]
  for (const url of bad) t.notOk(v.safeParse(keysUrl.schema, url).success, url)
})
