// How a document meets the table; the whole of it, with lines, stands in load.test.ts.

import t from 'tap'
import { readSettings, showPath } from '../../src/config/read.ts'

const problems = (document: Readonly<Record<string, unknown>>): readonly string[] => {
  const read = readSettings(document)
  return 'problems' in read ? read.problems.map((problem) => problem.text) : []
}

void t.test('a path is shown as it would be written, fit for a terminal', async (t) => {
  t.equal(showPath(['roles', 'user', 'grants', 2]), 'roles.user.grants[2]')
  t.equal(showPath(['a b', 'c.d']), '"a b"."c.d"')
  t.equal(showPath(['\u001b[2J', '\u202e']), String.raw`"\u001b[2J"."\u202e"`)
  t.equal(showPath(['a', 'b'.repeat(65)]), `a.${'b'.repeat(64)}…`)
})

void t.test('every setting is read from the section and key that it is named by', async (t) => {
  const read = readSettings({
    throttle: { pair_failures: 1 },
    listen: { public: true },
    roles: { a: { grants: [] } },
  })
  if ('problems' in read) throw new Error('it has problems')
  t.equal(read.values['throttle.pair_failures'], 1)
  t.equal(read.values['listen.public'], true)
  t.same([...read.values['roles.*.grants'].keys()], ['user', 'admin', 'a'])
})

void t.test('a slip in one place hides no slip in another', async (t) => {
  t.same(
    problems({
      throttle: { pair_failures: '5' },
      tokens: { isuer: 'x' },
      log: { level: 'loud' },
      roles: {
        user: { grants: ['x', 7] },
        guest: 'all',
        'a b': {},
        none: {},
        other: { grant: [], zzz: 1 },
      },
      nothing: 1,
      state: [],
    }).map((problem) => problem.slice(0, 32)),
    [
      'throttle.pair_failures: must be ',
      'log.level: must be one of "trace',
      'roles.user.grants[0]: is not of ',
      'roles.user.grants[1]: must be in',
      'roles.guest: must be a section: ',
      'roles."a b": must be named by 1 ',
      'roles.none.grants: is missing: m',
      'roles.other.grant: unknown setti',
      'roles.other.zzz: unknown setting',
      'roles.other.grants: is missing: ',
      'tokens.isuer: unknown setting: d',
      'nothing: unknown setting: remove',
      'state: must be a section: write ',
    ],
  )
})

void t.test('a rule about two settings names the one that stands in the file', async (t) => {
  t.match(problems({ softphone: { refresh_ttl: 60 } }), [/^softphone\.refresh_ttl: /])
  t.match(problems({ softphone: { refresh_ttl: 60, access_ttl: 61 } }), [
    /^softphone\.refresh_ttl: /,
  ])
  t.match(problems({ users: { sources: ['http'] } }), [/^users\.sources: names "http"/])
  t.match(problems({ listen: { http: '127.0.0.1:9478' } }), [/^listen\.http: /])
})

void t.test('a rule keeps silent while a setting it weighs is wrong by itself', async (t) => {
  t.match(problems({ listen: { http: '0.0.0.0:1', public: 'no' } }), [/^listen\.public: must be/])
})

void t.test('names that every object has are no settings', async (t) => {
  for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
    const table = Object.fromEntries([[name, 1]])
    t.match(problems(table), [/unknown setting: remove it/], name)
    t.match(problems({ tokens: table }), [/unknown setting: remove it/], `tokens.${name}`)
  }
})

const ISSUER = {
  issuer: 'https://id.acme.example',
  audience: 'pbx',
  jwks_file: '/etc/postern/acme.json',
  role_claim: 'role',
  roles: ['pbx=admin=admin', 'staff=user'],
}

void t.test(
  'a section that the operator names has every key, its own or the default',
  async (t) => {
    const read = readSettings({ issuers: { acme: ISSUER, other: { ...ISSUER, issuer: 'o' } } })
    if ('problems' in read) throw new Error(read.problems.map(({ text }) => text).join())
    t.equal(read.values['issuers.*.username_claim'].get('acme'), 'sub')
    t.same(read.values['issuers.*.algorithms'].get('other'), ['EdDSA', 'ES256', 'RS256'])
    t.same(
      [...(read.values['issuers.*.roles'].get('acme') ?? [])],
      [
        ['pbx=admin', 'admin'],
        ['staff', 'user'],
      ],
    )
  },
)

void t.test('what such a section lacks, or has too much, is named with the section', async (t) => {
  const rows: readonly (readonly [changes: object, problems: readonly RegExp[]])[] = [
    [{ issuer: undefined }, [/^issuers\.acme\.issuer: is missing: must be/]],
    [
      { audience: undefined, roles: undefined },
      [/acme\.audience: is missing/, /acme\.roles: is missing/],
    ],
    [{ verify: false }, [/^issuers\.acme\.verify: unknown setting/]],
    [{ algorithms: ['HS256'] }, [/^issuers\.acme\.algorithms\[0\]: must be a list of "EdDSA"/]],
    [{ algorithms: [] }, [/^issuers\.acme\.algorithms: must be/]],
    [{ algorithms: ['none'] }, [/^issuers\.acme\.algorithms\[0\]: must be/]],
    [{ roles: [] }, [/^issuers\.acme\.roles: must be/]],
    [{ roles: ['a=user', 'a=admin'] }, [/^issuers\.acme\.roles: must be/]],
    [{ roles: ['staff=boss'] }, [/^issuers\.acme\.roles: maps to a role that is none of ours/]],
    [{ jwks_file: '' }, [/^issuers\.acme\.jwks_file: name the keys in one place/]],
    [{ jwks_url: 'https://id.acme.example/keys' }, [/^issuers\.acme\.jwks_file: name the keys/]],
    [{ issuer: 'postern' }, [/^issuers\.acme\.issuer: is the name of another issuer/]],
    [{ jwks_url: 'http://id.acme.example/keys' }, [/^issuers\.acme\.jwks_url: must be https/]],
  ]
  for (const [changes, expected] of rows) {
    const found = problems({ issuers: { acme: { ...ISSUER, ...changes } } })
    t.match(found, expected, JSON.stringify(changes))
    t.equal(found.length, expected.length, JSON.stringify(changes))
  }
  t.match(problems({ issuers: { a: ISSUER, b: ISSUER } }), [/^issuers\.a\.issuer: is the name of/])
  t.match(problems({ issuers: { acme: 7 } }), [/^issuers\.acme: must be a section/])
})

void t.test(
  'where something tells whose a call is, role user hears its own by default',
  async (t) => {
    const grantsOf = (document: Record<string, unknown>): readonly string[] => {
      const read = readSettings(document)
      if ('problems' in read) throw new Error(read.problems.map(({ text }) => text).join())
      return read.values['roles.*.grants'].get('user') ?? []
    }
    const all = grantsOf({})
    const calls = { sources: ['names'] }
    t.ok(all.includes('read:recordings/**'))
    t.same(
      grantsOf({ calls }),
      all.map((grant) => grant.replace('recordings/**', 'recordings/{own_calls}')),
    )
    t.same(grantsOf({ calls: { sources: [] } }), all, 'without a source as ever')
    t.same(grantsOf({ calls, roles: { clerk: { grants: [] } } }), grantsOf({ calls }))
    const written = { user: { grants: ['read:recordings/**'] } }
    t.same(grantsOf({ calls, roles: written }), ['read:recordings/**'], 'what the file says holds')
    t.match(problems({ calls, roles: 7 }), [/^roles: must be a section/])
    t.match(problems({ calls: { sources: 'names' } }), [/^calls\.sources: must be a list/])
  },
)
