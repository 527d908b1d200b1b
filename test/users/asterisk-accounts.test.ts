// From sections to users, and the samples of two PBXs as a whole.
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { readAccounts } from '../../src/users/asterisk-accounts.ts'
import { loadAsteriskConfig } from '../../src/users/asterisk-config.ts'

const SAMPLES = join(import.meta.dirname, '../fixtures/asterisk')

const read = async (t: Test, text: string) => {
  const file = join(t.testdir({ 'pjsip.conf': text }), 'pjsip.conf')
  const { sections, problems } = await loadAsteriskConfig(file)
  t.same(problems, [])
  return readAccounts(sections, 'user')
}

for (const [sample, expected] of [
  [
    'freepbx',
    {
      '203': { secrets: [[/^[0-9a-f]{8}$/, { password: 'semi;colon' }]], disabled: false },
      '201': {
        secrets: [[/^[0-9a-f]{8}$/, { password: '5e884898da28047151d0e56f8dc62927' }]],
        disabled: false,
      },
      '202': { secrets: [[/^[0-9a-f]{8}$/, { realm: 'pbx.example' }]], disabled: false },
    },
  ],
  [
    'mikopbx',
    {
      '201': {
        secrets: [[/^[0-9a-f]{8}$/, { password: 'b749601f329a635a19c4a87bc359be3d' }]],
        disabled: false,
      },
      '204': { disabled: true },
      '202': { secrets: [[/^[0-9a-f]{8}$/, { password: 'zweihundertzwei-ü' }]], disabled: false },
    },
  ],
] as const) {
  void t.test(`the ${sample} sample gives its extensions and no trunk`, async (t) => {
    const { sections, problems } = await loadAsteriskConfig(join(SAMPLES, sample, 'pjsip.conf'))
    t.same(problems, [])
    const { accounts, ...rest } = await readAccounts(sections, 'user')
    t.same(rest, { warnings: [] })
    t.match(Object.fromEntries(accounts), expected)
    t.same([...accounts.keys()].sort(), ['201', '202', sample === 'freepbx' ? '203' : '204'].sort())
  })
}

const table: [string, string, object][] = [
  [
    'a password',
    '[a]\ntype=auth\nusername=a\nauth_type=userpass\npassword=p\n',
    { a: { secrets: [[/^[0-9a-f]{8}$/, { password: 'p' }]], role: 'user', displayName: 'a' } },
  ],
  [
    'userpass is what Asterisk assumes',
    '[a]\ntype=auth\nusername=a\npassword=p\n',
    { a: { secrets: [[/^[0-9a-f]{8}$/, { password: 'p' }]] } },
  ],
  [
    'a username of its own',
    '[a]\ntype=auth\nusername=b\npassword=p\n',
    { b: { name: 'b', secrets: [[/^[0-9a-f]{8}$/, { password: 'p' }]] } },
  ],
  [
    'a digest section with a password',
    '[a]\ntype=auth\nusername=a\nauth_type=digest\npassword=p\n',
    { a: { secrets: [[/^[0-9a-f]{8}$/, { password: 'p' }]] } },
  ],
  ['no password is no login', '[a]\ntype=auth\nusername=a\n', { a: { disabled: true } }],
  [
    'an empty hash is no login',
    '[a]\ntype=auth\nusername=a\nauth_type=md5\n',
    { a: { disabled: true } },
  ],
  [
    'a hash, in the default realm',
    `[a]\ntype=auth\nusername=a\nauth_type=MD5\nmd5_cred=${'a'.repeat(32)}\n`,
    { a: { secrets: [[/^[0-9a-f]{8}$/, { md5: 'a'.repeat(32), realm: 'asterisk' }]] } },
  ],
  [
    'a realm of its own',
    `[a]\ntype=auth\nusername=a\nauth_type=md5\nrealm=r\nmd5_cred=${'a'.repeat(32)}\n`,
    { a: { secrets: [[/^[0-9a-f]{8}$/, { realm: 'r' }]] } },
  ],
  [
    'the last value counts',
    '[a]\ntype=auth\nusername=a\npassword=p\npassword=q\n',
    { a: { secrets: [[/^[0-9a-f]{8}$/, { password: 'q' }]] } },
  ],
  [
    'one user twice with one password',
    '[a]\ntype=auth\nusername=a\npassword=p\n[b]\ntype=auth\nusername=a\npassword=p\n',
    { a: {} },
  ],
  [
    'a second device with a password of its own',
    '[a]\ntype=auth\nusername=a\npassword=p\n[b]\ntype=auth\nusername=a\npassword=q\n[c]\ntype=auth\nusername=a\n',
    {
      a: {
        secrets: [
          [/^[0-9a-f]{8}$/, { password: 'p' }],
          [/^[0-9a-f]{8}$/, { password: 'q' }],
        ],
        disabled: false,
      },
    },
  ],
  [
    'used both ways is a user',
    '[a]\ntype=auth\nusername=a\npassword=p\n[e]\nauth=x, a\noutbound_auth=a\n',
    { a: {} },
  ],
  ['a template is nobody', '[a](!)\ntype=auth\npassword=p\n', {}],
  [
    'a trunk is nobody',
    '[a]\ntype=auth\nusername=a\npassword=p\n[e]\ntype=endpoint\noutbound_auth=a\n',
    {},
  ],
]

for (const [name, text, expected] of table) {
  void t.test(name, async (t) => {
    const { accounts, warnings } = await read(t, text)
    t.same(warnings, [])
    t.match(Object.fromEntries(accounts), expected)
    t.same([...accounts.keys()], Object.keys(expected))
  })
}

void t.test('an auth_type without a password to compare is a warning', async (t) => {
  const { accounts, warnings } = await read(
    t,
    '[a]\ntype=auth\nusername=a\nauth_type=google_oauth\n',
  )
  t.equal(accounts.size, 0)
  t.match(warnings, [/pjsip\.conf:1: \[a\] has an auth_type/])
})

void t.test('what proves no password is told with its place, and not quoted', async (t) => {
  const { accounts, warnings } = await read(
    t,
    '[a]\ntype=auth\nusername=a\nauth_type=md5\nmd5_cred=hunter2\n[]\ntype=auth\npassword=hunter2\n' +
      '[b]\ntype=auth\nusername=b\npassword=p\n',
  )
  t.match(warnings, [/pjsip\.conf:1: \[a\] has an md5_cred/, /pjsip\.conf:6: \[\] has no username/])
  t.notMatch(warnings.join(), /hunter/)
  t.same([...accounts.keys()], ['b'])
})

void t.test('the mark follows the secret, tells it not, and differs between users', async (t) => {
  const marks = async (text: string): Promise<(string | undefined)[]> => {
    const { accounts } = await read(t, text)
    return ['a', 'b'].map((name) => accounts.get(name)?.credential)
  }
  const [a, b] = await marks(
    '[a]\ntype=auth\nusername=a\npassword=p\n[b]\ntype=auth\nusername=b\npassword=p\n',
  )
  t.match(a, /^[0-9a-f]{8}$/)
  t.not(a, b)
  const [again, changed] = await marks(
    '[a]\ntype=auth\nusername=a\npassword=p\n[b]\ntype=auth\nusername=b\npassword=q\n',
  )
  t.equal(again, a)
  t.not(changed, b)
})

void t.test('a thousand of them are read in slices, and all of them', async (t) => {
  const text = Array.from(
    { length: 1000 },
    (_, index) => `[${index}]\ntype=auth\nusername=${index}\npassword=secret-${index}\n`,
  )
  const { accounts } = await read(t, text.join('\n'))
  t.equal(accounts.size, 1000)
})
