// What no setting can know alone: combinations that cannot work, or that open a door without saying so.
// A rule looks at values that are each good already; it never repairs one.

import { isForOwnCalls } from '../auth/grants.ts'
import type { Address } from './config.ts'
import { isLocal } from './kinds.ts'
import type { SettingName, Values } from './schema.ts'

export interface Rule {
  /** The two settings it weighs. It is not asked while one of them has a problem of its own. */
  readonly of: readonly [SettingName, SettingName]
  /** For settings of named sections: the name of one where it is broken. */
  isBroken(values: Values): boolean | string
  readonly problem: string
}

/** Whether binding both must fail: the wildcard addresses overlap with every address of their port. */
const collide = (one: Address, other: Address): boolean => {
  if ('path' in one || 'path' in other) {
    return 'path' in one && 'path' in other && one.path === other.path
  }
  if (one.port === 0 || one.port !== other.port) return false // 0: the kernel picks a free one
  if (one.host === other.host || one.host === '::' || other.host === '::') return true
  const areBothFour = !one.host.includes(':') && !other.host.includes(':')
  return areBothFour && (one.host === '0.0.0.0' || other.host === '0.0.0.0')
}

const publicRule = (setting: 'listen.http' | 'listen.operator'): Rule => ({
  of: [setting, 'listen.public'],
  isBroken: (values) => !values['listen.public'] && !isLocal(values[setting]),
  problem:
    'can be reached from other machines: use a unix socket, 127.0.0.1 or [::1], or set listen.public = true and guard the port with a firewall',
})

/** The first entry of which this is so, else false. */
const findEntry = <T>(
  entries: ReadonlyMap<string, T>,
  holds: (name: string, value: T) => boolean,
): string | false => [...entries].find(([name, value]) => holds(name, value))?.[0] ?? false

/** Else a client that renews just before the end of its token is always too late. */
const idleRule = (setting: 'softphone.access_ttl' | 'mikopbx.access_ttl'): Rule => ({
  of: ['refresh.idle_ttl', setting],
  isBroken: (values) =>
    values['refresh.idle_ttl'] > 0 && values['refresh.idle_ttl'] <= values[setting],
  problem: `must be 0, or longer than ${setting}: clients refresh when their token is about to end`,
})

const lifeRule = (name: 'softphone' | 'mikopbx'): Rule => ({
  of: [`${name}.refresh_ttl`, `${name}.access_ttl`],
  isBroken: (values) => values[`${name}.refresh_ttl`] <= values[`${name}.access_ttl`],
  problem: `${name}.refresh_ttl must be longer than ${name}.access_ttl, else no access token can ever be refreshed`,
})

const socketRule = (setting: 'listen.http' | 'listen.operator'): Rule => ({
  of: ['listen.control', setting],
  isBroken: (values) => collide({ path: values['listen.control'] }, values[setting]),
  problem: `${setting} and listen.control share one socket: give each its own`,
})

export const rules: readonly Rule[] = [
  idleRule('softphone.access_ttl'),
  idleRule('mikopbx.access_ttl'),
  publicRule('listen.http'),
  publicRule('listen.operator'),
  {
    of: ['listen.operator', 'listen.http'],
    isBroken: (values) => collide(values['listen.operator'], values['listen.http']),
    problem: 'listen.http and listen.operator share one address: give each its own',
  },
  socketRule('listen.http'),
  socketRule('listen.operator'),
  lifeRule('softphone'),
  lifeRule('mikopbx'),
  {
    of: ['mikopbx.base_path', 'softphone.base_path'],
    isBroken: (values) => values['mikopbx.base_path'] === values['softphone.base_path'],
    problem: 'mikopbx.base_path and softphone.base_path are the same: give each its own',
  },
  {
    of: ['mikopbx.role_names', 'roles.*.grants'],
    // A token that says `admins` would mean two roles at once.
    isBroken: (values) =>
      Array.from(values['mikopbx.role_names'], ([role, name]) => role !== name && name).some(
        (name) => name !== false && values['roles.*.grants'].has(name),
      ),
    problem: 'gives a role a name that another role has: choose names that are no roles',
  },
  {
    of: ['roles.*.grants', 'calls.sources'],
    isBroken: (values) =>
      values['calls.sources'].length === 0 &&
      findEntry(values['roles.*.grants'], (_, grants) => grants.some(isForOwnCalls)),
    problem:
      'has {own_calls}, and nothing tells whose call a recording is of: name a source in calls.sources, such as "names"',
  },
  {
    of: ['issuers.*.jwks_file', 'issuers.*.jwks_url'],
    isBroken: (values) =>
      findEntry(
        values['issuers.*.jwks_file'],
        (name, file) => (file === '') === (values['issuers.*.jwks_url'].get(name) === ''),
      ),
    problem: 'name the keys in one place: either jwks_file or jwks_url',
  },
  {
    of: ['issuers.*.issuer', 'tokens.issuer'],
    // Which rules a token is judged by is told by its `iss` alone.
    isBroken: (values) =>
      findEntry(
        values['issuers.*.issuer'],
        (name, issuer) =>
          issuer === values['tokens.issuer'] ||
          findEntry(
            values['issuers.*.issuer'],
            (other, same) => other !== name && same === issuer,
          ) !== false,
      ),
    problem: 'is the name of another issuer, or tokens.issuer: each needs its own',
  },
  {
    of: ['issuers.*.issuer', 'tokens.issuer'],
    // The users of [issuers.NAME] are called NAME:….
    isBroken: (values) => findEntry(values['issuers.*.issuer'], (name) => name === 'key') !== false,
    problem: 'is called `key`, as machine keys are: give the section another name',
  },
  {
    of: ['issuers.*.roles', 'roles.*.grants'],
    isBroken: (values) =>
      findEntry(values['issuers.*.roles'], (_, roles) =>
        [...roles.values()].some((role) => !values['roles.*.grants'].has(role)),
      ),
    problem:
      'maps to a role that is none of ours: write the name of a [roles.NAME] section after =',
  },
  {
    of: ['asterisk.role', 'roles.*.grants'],
    isBroken: (values) =>
      values['users.sources'].includes('asterisk') &&
      !values['roles.*.grants'].has(values['asterisk.role']),
    problem:
      'is no role: write the name of a [roles.NAME] section, else nobody there may do anything',
  },
  {
    of: ['asterisk.rules', 'roles.*.grants'],
    isBroken: (values) =>
      values['users.sources'].includes('asterisk') &&
      values['asterisk.rules'].some(
        ({ says }) => typeof says === 'object' && !values['roles.*.grants'].has(says.role),
      ),
    problem: 'give a role that is none: write the name of a [roles.NAME] section after role',
  },
  {
    of: ['users.sources', 'http_users.login_url'],
    isBroken: (values) =>
      values['users.sources'].includes('http') &&
      (values['http_users.login_url'] === '' || values['http_users.lookup_url'] === ''),
    problem: 'names "http": set http_users.login_url and http_users.lookup_url',
  },
]
