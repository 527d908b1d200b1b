// The values of a configuration under the names that the file has.

import t from 'tap'

import { parseConfig } from '../../src/config/load.ts'
import { settings } from '../../src/config/schema.ts'

const camel = (name: string): string =>
  name.replaceAll(/_(.)/g, (_, letter: string) => letter.toUpperCase())

void t.test('every setting stands in its section, and nothing else does', async (t) => {
  const config = parseConfig('', 'empty')
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
    parseConfig(file, 'f').issuers,
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
