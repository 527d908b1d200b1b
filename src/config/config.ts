// What the operator has decided, as values under the names of the file: `users.file` is `config.users.file`, and
// `http_users.login_url` is `config.httpUsers.loginUrl`. src/config/schema.ts has what each of them is.

import { isDeepStrictEqual } from 'node:util'

import type { IssuerTerms } from '../auth/issuer.ts'
import { type SettingName, settings, type Values } from './schema.ts'

/** Where a listener stands: a unix socket path, or a loopback (or explicitly public) TCP address. */
export type Address = { path: string } | { host: string; port: number }

type Camel<Name extends string> = Name extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : Name
type Plain = Exclude<SettingName, `${string}.*.${string}`>
type SectionOf<Name> = Name extends `${infer Section}.${string}` ? Section : never
type Section<Name extends string> = {
  [N in Plain as N extends `${Name}.${infer Key}` ? Camel<Key> : never]: Values[N]
}

export type Config = { [Name in SectionOf<Plain> as Camel<Name>]: Section<Name> } & {
  /** By their names: whose tokens count beside ours. Exactly one of file and url is set. */
  issuers: ReadonlyMap<string, { terms: IssuerTerms; file: string; url: string }>
  /** Role name → grants as written, e.g. `subscribe:users-state`. */
  roles: ReadonlyMap<string, readonly string[]>
  /** Every setting by its name, for a reload to see what changed. */
  settings: Values
}

const camel = (name: string): string =>
  name.replaceAll(/_[a-z]/g, (found) => found.charAt(1).toUpperCase())

/** Every key of an entry has a value: the reader has seen to it. */
const readIssuer = (values: Values, name: string) => {
  const of = <T>(entries: ReadonlyMap<string, T>): T => entries.get(name) as T
  const terms = {
    name,
    issuer: of(values['issuers.*.issuer']),
    audience: of(values['issuers.*.audience']),
    algorithms: of(values['issuers.*.algorithms']),
    usernameClaim: of(values['issuers.*.username_claim']),
    roleClaim: of(values['issuers.*.role_claim']),
    roles: of(values['issuers.*.roles']),
  }
  return { terms, file: of(values['issuers.*.jwks_file']), url: of(values['issuers.*.jwks_url']) }
}

export const toConfig = (values: Values): Config => {
  const sections: Record<string, Record<string, unknown>> = {}
  for (const [name, value] of Object.entries(values)) {
    const [section = '', key = ''] = camel(name).split('.')
    if (key !== '*') sections[section] = { ...sections[section], [key]: value }
  }
  const issuers = Array.from(
    values['issuers.*.issuer'].keys(),
    (name) => [name, readIssuer(values, name)] as const,
  )
  return {
    ...sections,
    issuers: new Map(issuers),
    roles: values['roles.*.grants'],
    settings: values,
  } as unknown as Config
}

/** What a reload cannot bring into force: the settings that are read at start only and differ. */
export const findRestartOnly = (before: Config, after: Config): string[] =>
  settings
    .filter(
      ({ name, restart }) =>
        restart && !isDeepStrictEqual(before.settings[name], after.settings[name]),
    )
    .map(({ name }) => name)
