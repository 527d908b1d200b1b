// The values of a configuration under the names that the file has.

import t from 'tap'

import { findRestartOnly } from '../../src/config/config.ts'
import { readConfig } from '../../src/config/load.ts'
import { settings } from '../../src/config/schema.ts'

const camel = (name: string): string =>
  name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())

void t.test('every setting stands in its section, and nothing else does', async (t) => {
  const config = readConfig('', 'empty').config
  const { issuers, roles, settings: values, ...sections } = config
  const standing = Object.entries(sections).flatMap(([section, keys]) =>
    Object.entries(keys).map(([key, value]) => [`${section}.${key}`, value] as const),
  )
  const plain = settings.filter(({ name }) => !name.includes('*'))
  t.same(
    Object.fromEntries(standing),
    Object.fromEntries(plain.map(({ name }) => [camel(name), values[name]])),
  )
  t.equal(roles, values['roles.*.grants'])
  t.equal(issuers.size, 0)
})

void t.test('an issuer has its terms, and where its keys are', async (t) => {
  const file = `[issuers.acme]
issuer = "https://acme.example"
audience = "pbx"
jwks_file = "/etc/acme.json"
role_claim = "realm_access.roles"
roles = ["staff=user"]`
  t.strictSame(
    readConfig(file, 'f').config.issuers,
    new Map([
      [
        'acme',
        {
          terms: {
            name: 'acme',
            issuer: 'https://acme.example',
            audience: 'pbx',
            algorithms: ['EdDSA', 'ES256', 'RS256'],
            usernameClaim: 'sub',
            roleClaim: 'realm_access.roles',
            roles: new Map([['staff', 'user']]),
          },
          file: '/etc/acme.json',
          url: '',
        },
      ],
    ]),
  )
})

const configOf = (text: string) => readConfig(text, 'postern.toml').config
const found = (before: string, after: string): string[] =>
  findRestartOnly(configOf(before), configOf(after))

void t.test('a change is named where it needs a restart', async (t) => {
  const table: [what: string, before: string, after: string, names: string[]][] = [
    ['nothing', '', '', []],
    ['a default, written out', '', '[listen]\nhttp = "unix:/run/postern/http.sock"', []],
    ['another socket', '', '[listen]\nhttp = "unix:/run/x.sock"', ['listen.http']],
    ['a port', '', '[listen]\noperator = "127.0.0.1:9"', ['listen.operator']],
    ['and back', '[state]\ndirectory = "/x"', '', ['state.directory']],
    ['what a reload takes', '', '[log]\nlevel = "debug"\n[softphone]\naccess_ttl = 60', []],
    ['new grants', '', '[roles.user]\ngrants = []', []],
    [
      'several, in the order of the settings',
      '',
      '[users]\nfile = "/x"\n[tokens]\nissuer = "x"\n[listen]\npublic = true',
      ['listen.public', 'users.file'],
    ],
  ]
  for (const [what, before, after, names] of table) t.same(found(before, after), names, what)
})
