// Every setting there is, one row each: the table in docs/reference.md, the example file's test, reload and the loader
// all read this table. A setting that has no row does not exist, and a file that names it is refused.

import { ASYMMETRIC } from '../auth/jwk.ts'
import * as cdrKinds from './cdr-kinds.ts'
import * as kinds from './kinds.ts'
import type { Kind } from './kinds.ts'
import { keysUrl, origins } from './url-kinds.ts'

/** A value as it would stand in the file. */
type Written = string | number | boolean | readonly string[]

export interface Setting<Name extends string = string, T = unknown> {
  /** `section.key`, or `section.*.key` for a table per entry, such as [roles.user]. */
  readonly name: Name
  readonly kind: Kind<T>
  /** For `section.*.key`: entry → value. An entry in the file replaces the one of its name. */
  readonly fallback: Written | Readonly<Record<string, Written>>
  /** True: read at start only. False: `postern reload` is enough. */
  readonly restart: boolean
  /** Of `section.*.key`: what an entry has that does not say it; without, every entry must. */
  readonly unsaid?: Written
  /** One line for docs/reference.md. postern.example.toml is where it is explained. */
  readonly explain: string
}

const RESTART = true
const RELOAD = false

const row = <const Name extends string, T>(
  name: Name,
  kind: Kind<T>,
  fallback: Setting['fallback'],
  restart: boolean,
  explain: string,
): Setting<Name, T> => ({ name, kind, fallback, restart, explain })

/** A setting of sections that are named by the operator; none is there by default. */
const entry = <const Name extends string, T>(
  name: Name,
  kind: Kind<T>,
  unsaid: Written | undefined,
  explain: string,
): Setting<Name, T> => ({
  ...row(name, kind, {}, RELOAD, explain),
  ...(unsaid !== undefined && { unsaid }),
})

/** Of role `user`, where the file does not write it. */
export const userGrants = (recordings: string): readonly string[] => [
  'subscribe:users-state',
  'subscribe:active-calls',
  'subscribe:contacts',
  'subscribe:me/*',
  `read:recordings/${recordings}`,
  'connect:sip',
]

const DAY = 86_400
const YEAR = 365 * DAY

// prettier-ignore
export const settings = [
  row('listen.http', kinds.address, 'unix:/run/postern/http.sock', RESTART, 'where nginx reaches the check and token endpoints'),
  row('listen.socket_group', kinds.group, '', RESTART, 'group of that unix socket, so that nginx may open it'),
  row('listen.operator', kinds.address, '127.0.0.1:9478', RESTART, 'where /metrics, /healthz and /readyz answer'),
  row('listen.control', kinds.socketPath, '/run/postern/control.sock', RESTART, 'the socket between the postern command and the daemon'),
  row('listen.public', kinds.flag, false, RESTART, 'allow listeners that more than this machine can reach'),

  row('state.directory', kinds.path, '/var/lib/postern', RESTART, 'where keys and sessions are kept'),

  row('store.url', kinds.storeUrl, '', RESTART, 'the Redis or Valkey that several instances share; empty: a file in state.directory'),
  row('store.password_file', kinds.pathOrNone, '', RESTART, 'a file with its password, to keep that out of the url'),
  row('store.ca_file', kinds.pathOrNone, '', RESTART, 'the authorities to trust for rediss:// instead of the system\'s, as PEM'),
  row('store.prefix', kinds.keyPrefix, 'postern:', RESTART, 'what every key there begins with'),
  row('store.timeout', kinds.seconds(0.05, 5), 0.25, RESTART, 'seconds that it may be silent while an answer is waited for'),
  row('store.stale_seconds', kinds.whole(0, 3600), 30, RELOAD, 'seconds that checks go on from memory while it is away'),

  row('users.sources', kinds.someOf(['file', 'asterisk', 'http']), ['file'], RESTART, 'where users come from, in this order'),
  row('users.file', kinds.path, '/etc/postern/users', RESTART, 'the users and their password hashes'),

  row('asterisk.file', kinds.path, '/etc/asterisk/pjsip.conf', RESTART, 'where SIP accounts are read, with what it includes'),
  row('asterisk.role', kinds.name, 'user', RESTART, 'the role of whoever is found there, where no rule gives another'),
  row('asterisk.number_from', kinds.oneOf(['username', 'callerid']), 'username', RESTART, 'where the number is under which a user\'s calls are found'),
  row('asterisk.trunk_contexts', kinds.patterns, ['from-pstn*', 'from-trunk*', 'from-extern*', '*-incoming'], RESTART, 'contexts of trunks: whoever is in one is no user'),
  row('asterisk.rules', kinds.accountRules, [], RESTART, 'who is a user whatever else is said, who is none, and who has another role'),

  row('http_users.login_url', kinds.text255, '', RESTART, 'asked at login: POST {username, password}'),
  row('http_users.lookup_url', kinds.text255, '', RESTART, 'asked at refresh: POST {username}'),
  row('http_users.timeout', kinds.whole(1, 60), 5, RESTART, 'seconds that one question may take'),
  row('http_users.ca_file', kinds.pathOrNone, '', RESTART, 'the authorities to trust instead of the system\'s, as PEM'),
  row('http_users.token_file', kinds.pathOrNone, '', RESTART, 'a file with the bearer token to show to that service'),
  row('http_users.allow_plain', kinds.flag, false, RESTART, 'allow http:// to another machine: passwords in the clear'),

  row('calls.sources', kinds.anyOf(['names', 'cdr']), [], RELOAD, 'what tells whose call a recording is of, for {own_calls} in grants'),
  row('calls.name_patterns', kinds.namePatterns, [], RELOAD, 'names of recordings of your own form, with {party} for a number that took part'),
  row('calls.cdr_file', kinds.path, '/storage/usbdisk1/mikopbx/astlogs/asterisk/cdr.db', RESTART, 'the PBX\'s CDR, a SQLite database'),
  row('calls.cdr_table', cdrKinds.identifier, 'cdr_general', RESTART, 'the table in it that lists the calls'),
  row('calls.cdr_columns', cdrKinds.columns, [], RESTART, 'its columns that are named otherwise than MikoPBX\'s, as what=column'),
  row('calls.cdr_prefixes', kinds.paths, ['/storage/usbdisk1/mikopbx/astspool/monitor', '/storage/usbdisk1/mikopbx/voicemailarchive/monitor', '/var/spool/asterisk/monitor'], RESTART, 'where the PBX has the folder of recordings'),

  row('tokens.issuer', kinds.name, 'postern', RELOAD, 'the `iss` of every token'),
  row('tokens.audience', kinds.name, 'postern', RELOAD, 'the `aud` of every token'),

  entry('issuers.*.issuer', kinds.name, undefined, 'the `iss` of another system\'s access tokens'),
  entry('issuers.*.audience', kinds.name, undefined, 'who we are to it: its tokens\' `aud`, or in it'),
  entry('issuers.*.jwks_file', kinds.pathOrNone, '', 'its public keys, as a file; read again when it changes'),
  entry('issuers.*.jwks_url', keysUrl, '', 'its public keys, as an address'),
  entry('issuers.*.algorithms', kinds.someOf(ASYMMETRIC), [...ASYMMETRIC], 'what it may sign with'),
  entry('issuers.*.username_claim', kinds.name, 'sub', 'the claim that names the user'),
  entry('issuers.*.role_claim', kinds.name, undefined, 'the claim with the role or roles; realm_access.roles is a path'),
  entry('issuers.*.roles', kinds.mapping, undefined, 'its roles as ours, as theirs=ours; any other is refused'),

  row('softphone.base_path', kinds.urlPath, '/pbxcore/api/module-softphone-backend/v1', RELOAD, 'URL path below which softphones log in'),
  row('softphone.access_ttl', kinds.whole(1, DAY), 3600, RELOAD, 'seconds that an access token lives'),
  row('softphone.refresh_ttl', kinds.whole(2, YEAR), 30 * DAY, RELOAD, 'seconds from login until a new login is needed'),
  row('softphone.rotate', kinds.flag, false, RELOAD, 'whether a refresh gives a new refresh token and ends the old one'),

  row('mikopbx.base_path', kinds.urlPath, '/pbxcore/api/v3', RELOAD, 'URL path below which PBX clients find auth:login'),
  row('mikopbx.access_ttl', kinds.whole(1, DAY), 900, RELOAD, 'seconds that an access token lives'),
  row('mikopbx.refresh_ttl', kinds.whole(2, YEAR), 30 * DAY, RELOAD, 'seconds from login until a new login is needed'),
  row('mikopbx.rotate', kinds.flag, true, RELOAD, 'whether a refresh gives a new refresh token and ends the old one'),
  row('mikopbx.role_names', kinds.pairs, ['admin=admins'], RELOAD, 'roles as this dialect\'s tokens name them, as role=name'),

  row('refresh.grace', kinds.whole(0, 60), 30, RELOAD, 'seconds in which a rotated refresh token still gets the same successor'),
  row('refresh.unseen_grace', kinds.whole(0, DAY), DAY, RELOAD, 'seconds in which it still does while neither that successor nor its access token was ever shown'),
  row('refresh.idle_ttl', kinds.whole(0, YEAR), 0, RELOAD, 'seconds without a refresh that end a session; 0: never'),

  row('sessions.per_user', kinds.whole(0, 1_000_000), 50, RELOAD, 'live sessions that a user may have, the oldest ends; 0: any number'),

  row('tickets.max_ttl', kinds.whole(1, 3600), 600, RELOAD, 'the longest life that a client may ask for'),
  row('tickets.connect_ttl', kinds.whole(1, DAY), 43_200, RELOAD, 'the longest life of one for connect:sip, which may be shown until its session ends'),

  row('streams.kick_socket', kinds.socketPath, '/run/postern-nginx/kick.sock', RESTART, 'the private socket of nginx on which a live stream is ended'),
  row('streams.end', kinds.oneOf(['auto', 'cut', 'kick']), 'auto', RELOAD, 'cut: with their connection; kick: subscriptions alone, by Nchan; auto: cut where that works'),
  row('streams.cut_socket', kinds.socketPath, '/run/postern-cut.sock', RESTART, 'the socket of the process that cuts connections'),
  row('streams.nginx', kinds.nameOrNone, '', RESTART, 'where 0.1.0 kept the streams of this host in store.url: the name of its nginx; empty: of this host'),
  row('streams.processes', kinds.path, '/sys/fs/cgroup/system.slice/nginx.service/cgroup.procs', RESTART, 'the file that lists nginx\'s processes: that of its systemd unit'),
  row('streams.per_session', kinds.whole(1, 10_000), 16, RELOAD, 'resources that a session may listen to at once; the oldest gives way'),
  row('streams.streams_per_session', kinds.whole(1, 10_000), 64, RELOAD, 'streams that a session may have of all of them, never less than per_session; the oldest gives way'),

  row('site.origins', origins, [], RELOAD, 'the addresses that browsers have for this site; none: what nginx says of each request'),

  row('cookies.secure', kinds.oneOf(['auto', 'always']), 'auto', RELOAD, 'when cookies are marked Secure'),

  row('passwords.memory_kib', kinds.whole(7168, 1_048_576), 19_456, RESTART, 'KiB of memory for one argon2id hash'),
  row('passwords.passes', kinds.whole(1, 16), 2, RESTART, 'argon2id passes over that memory'),
  row('passwords.workers', kinds.whole(1, 64), 2, RESTART, 'threads that hash passwords'),

  row('throttle.pair_failures', kinds.whole(1, 1_000_000), 5, RELOAD, 'failures per account and address'),
  row('throttle.address_failures', kinds.whole(1, 1_000_000), 100, RELOAD, 'failures per address (IPv6: per /64)'),
  row('throttle.account_failures', kinds.whole(1, 1_000_000), 50, RELOAD, 'failures per account, after which it gets one try a second'),

  row('checks.verdict_cache', kinds.whole(1, 1_000_000), 10_000, RELOAD, 'verified tokens remembered'),

  row('log.level', kinds.oneOf(['trace', 'debug', 'info', 'warn', 'error']), 'info', RELOAD, 'least level that is logged'),
  row('log.security', kinds.pathOrNone, '/var/log/postern/security.log', RELOAD, 'security events for fail2ban; empty: only in the main log'),

  row('roles.*.grants', kinds.grants, {
    user: userGrants('**'),
    admin: ['read:**', 'write:**', 'subscribe:**', 'connect:**', 'publish:**'],
  }, RELOAD, 'what a user of this role may do, as action:pattern'),
] as const

type Row = (typeof settings)[number]
type ValueOf<R> =
  R extends Setting<infer Name, infer T>
    ? Name extends `${string}.*.${string}`
      ? ReadonlyMap<string, T>
      : T
    : never

export type SettingName = Row['name']

/** Every setting's value, by its name. */
export type Values = { [R in Row as R['name']]: ValueOf<R> }
