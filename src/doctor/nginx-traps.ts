// The ways in which an nginx configuration undoes what Postern decides, each with its cure. They are facts of
// nginx and Nchan (measured), not of taste: what is named here lets somebody in, leaks, or falls over.

import { type Finding, problem, warning } from './finding.ts'
import { CHECK } from './nginx-check.ts'
import { type Directive, type Spot, walk } from './nginx-config.ts'
import { EXEMPT } from './nginx-exempt.ts'
import { FOLLOWED } from './nginx-followed.ts'
import { findImpostors, findOvertakers, findTunnels } from './nginx-neighbours.ts'
import { RELAYED } from './nginx-relays.ts'
import {
  has,
  inForce,
  inside,
  isCheck,
  isOff,
  isProtected,
  ledTo,
  passOf,
  patternOf,
  textOf,
  value,
  whereOf,
  type Trap,
} from './nginx-spots.ts'
import { NCHAN } from './nginx-streams.ts'

/** What the client wrote, as it wrote it. */
const UNSAFE =
  /^set \$postern_(?:(?:action|accept) .*\$\{?(?:document_)?uri|(?:action|resource|accept) .*\$\{?(?:request_uri|args|query_string|is_args|arg_\w+|http_\w+|request|request_filename))\b/

const PROTECTED: readonly Trap[] = [
  {
    rule: 'return',
    find: ({ directive }) => inside(directive, /^return\b/),
    text: '`return` answers before the check is asked: this location is open',
    cure: 'let a file, try_files or proxy_pass answer',
  },
  {
    rule: 'return',
    find: ({ directive }) =>
      inside(directive, /^rewrite \S+ (?:https?:|\S+ (?:redirect|permanent)$)/),
    text: '`rewrite` to another address answers before the check is asked',
    cure: 'redirect in a location that is not protected',
  },
  {
    rule: 'satisfy-any',
    find: (spot) => value(spot, 'satisfy') === 'any',
    text: 'an allowed address passes without a check',
    cure: 'write `satisfy all;`, or leave it out; for a network without a login `set $postern_exempt` (postern-local.conf)',
  },
  {
    rule: 'set-uri',
    find: ({ directive }) => inside(directive, UNSAFE),
    text: 'takes what the client wrote, and not what nginx opens',
    cure: 'use a capture: location ~ "^/files/(?<name>[^\\x00-\\x1f\\x7f/]+)\\z"',
  },
  {
    rule: 'resource-slash',
    find: ({ directive }) =>
      inside(directive, /^set \$postern_resource (?:\/|\$\{?(?:document_)?uri\b)/),
    text: 'the resource begins with a slash: everything here is refused',
    cure: 'put a name before it: `set $postern_resource files$uri;`',
  },
  {
    rule: 'unanchored',
    find: (spot) =>
      has(spot, /^set \$postern_resource .*\$/) &&
      !/^\^.*(?:\$|\\z)$/.test(patternOf(spot) ?? '^$'),
    text: 'the pattern fits in the middle of other paths',
    cure: 'begin it with ^ and end it with \\z',
  },
  {
    // nginx inherits no `set`: a location inside a protected one is asked about without any.
    rule: 'unnamed',
    find: (spot) =>
      /postern/.test(String(value(spot, 'auth_request'))) &&
      !(has(spot, /^set \$postern_action /) && has(spot, /^set \$postern_resource /)),
    text: 'says neither action nor resource: everything here is refused',
    cure: 'write `set $postern_action …; set $postern_resource …; set $postern_accept header;` before the include',
  },
  {
    rule: 'cors-twice',
    find(spot) {
      const origins = inForce(spot, 'add_header').filter(({ args: [name = ''] }) =>
        /^access-control-allow-origin$/i.test(name),
      )
      const ours = origins.filter(({ args }) => args[1] === '$postern_allow_origin')
      return ours.length > 0 && origins.filter((one) => !ours.includes(one))
    },
    text: 'stands beside the one of the include: no browser takes an answer with two',
    cure: 'name the origin in postern-local.conf ($postern_cors_origin), or let the application say it',
    isWarning: true,
  },
  {
    rule: 'shared-cache',
    find(spot) {
      const cache = `${passOf(spot)?.by}_cache`
      const [key] = inForce(spot, `${cache}_key`)
      return !isOff(spot, cache) && !(key && /\$postern_(?:user|session)/.test(textOf(key)))
    },
    text: "one user's answer is kept for every other",
    cure: 'write `proxy_cache off;` in this location (or fastcgi_, uwsgi_, scgi_), or $postern_user in its key',
    isWarning: true,
  },
]

const folderOf = ({ directive }: Spot): string | undefined =>
  inside(directive, /^alias ./)[0]?.args[0]?.replace(/\/*(?:\$postern_recording)?$/, '')

const LOGS_QUERY =
  /\$(?:request\b|request_uri|args|query_string|http_referer|arg_(?:authorization|token|ticket))/

/** Whether a log would write a token down. `combined` would, and is defined nowhere. */
const isLeaking = (log: Directive, all: readonly Spot[]): boolean => {
  const [path, name = 'combined'] = log.args
  if (path === 'off') return false
  if (name === 'combined') return true
  const texts = all.map(({ directive }) => textOf(directive))
  return LOGS_QUERY.test(texts.findLast((text) => text.startsWith(`log_format ${name} `)) ?? '')
}

const LEAKS: readonly Trap[] = [
  {
    rule: 'twin',
    find(spot, all) {
      const folder = folderOf(spot)
      return (
        folder !== undefined &&
        !isProtected(spot) &&
        !has(spot, /^internal$/) &&
        all.some((other) => folderOf(other) === folder && isProtected(other))
      )
    },
    text: 'serves the folder of a protected location without a check',
    cure: 'protect it too, or remove it',
  },
  {
    // A token that is shown where it does not count is refused, and logged where @postern_401 stands.
    rule: 'log-format',
    find: (spot, all) =>
      textOf(spot.directive) === 'location @postern_401' ||
      has(spot, /^set \$postern_accept .*(?:query|ticket)/)
        ? [spot, ...ledTo(spot, all)]
            .flatMap((one) => inForce(one, 'access_log'))
            .filter((log) => isLeaking(log, all))
        : false,
    text: 'tokens in a query are written to this log',
    cure: 'write `access_log … postern;`, the format of postern-http.conf, or leave the line out',
  },
]

const is = (pattern: RegExp) => (spot: Spot) => pattern.test(textOf(spot.directive))
const isUpstream = is(/^upstream postern$/)

const ANYWHERE: readonly Trap[] = [
  {
    rule: 'set-in-server',
    find: ({ directive }) =>
      directive.name === 'server' &&
      inside(directive, /^set \$postern_(?:action|resource|accept|exempt)\b/),
    text: 'nginx runs this again for the check itself, which then asks for nothing, or is exempt everywhere',
    cure: 'set it in the location',
  },
  {
    rule: 'real-ip',
    find: is(/^set_real_ip_from (?:0\.0\.0\.0\/0|::\/0)$/),
    text: 'anybody can claim any address, and so dodge the throttle, or come from a network that needs no login',
    cure: 'name the address of your proxy',
  },
  {
    // Of the networks of a CDN all are proxies.
    rule: 'real-ip-network',
    find: is(
      /^set_real_ip_from (?:10\.|172\.(?:1[6-9]|2\d|3[01])\.|192\.168\.|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|f[cd]|fe[89ab]).*\/(?!32$|128$)/i,
    ),
    text: 'each machine in this network is taken for a proxy: its users can claim any address, and over HTTP/2 what an application streams to them may outlive their session',
    cure: 'where clients are in it too, name the addresses of your proxies alone',
    isWarning: true,
  },
  {
    rule: 'underscores',
    find: is(/^underscores_in_headers on$/),
    text: 'X_Auth_User passes beside X-Auth-User, and applications confuse the two',
    cure: 'leave it off',
  },
  {
    rule: 'invalid-headers',
    find: is(/^ignore_invalid_headers off$/),
    text: 'X.Auth.User passes beside X-Auth-User, and to PHP the two are one',
    cure: 'leave it on',
  },
  {
    rule: 'split',
    // What the daemon alone says may hold two ids.
    find: (spot) =>
      is(/^nchan_channel_id_split_delimiter\b/)(spot) &&
      !spot.around.some(
        (block) => inside(block, /^nchan_channel_id \$postern_channels$/).length > 0,
      ),
    text: 'one request can name many channels, and only one is checked',
    cure: 'leave it out',
  },
  {
    rule: 'buffering',
    find: is(/^proxy_ignore_headers .*\bX-Accel-Buffering\b/i),
    text: 'event streams that pass through here are kept back until they end',
    cure: 'leave X-Accel-Buffering out of it',
    isWarning: true,
  },
  {
    rule: 'keepalive',
    find: (spot) => isUpstream(spot) && !has(spot, /^keepalive\b/),
    text: 'every check opens a connection of its own',
    cure: 'write `keepalive 64;` in the upstream',
  },
  {
    rule: 'max-fails',
    find: (spot) => isUpstream(spot) && has(spot, /^server (?!.*\bmax_fails=0\b)/),
    text: 'after one failed connection nginx leaves the daemon out for ten seconds',
    cure: 'write `max_fails=0` behind the server',
  },
]

/** Everything that is wrong, in the order of the configuration's parts; nothing: it holds what it promises. */
export const findTraps = (config: readonly Directive[]): Finding[] => {
  const all = [...walk(config)]
  const locations = all.filter(({ directive }) => directive.name === 'location')
  const checks = locations.filter(isCheck)
  const others = locations.filter((spot) => !isCheck(spot))
  const look = (traps: readonly Trap[], spots: readonly Spot[]): Finding[] =>
    spots.flatMap((spot) =>
      traps.flatMap(({ rule, find, text, cure, isWarning }) => {
        const found = find(spot, all)
        const faulty = found === true ? [spot.directive] : found || []
        const say = isWarning ? warning : problem
        return faulty.map((directive) => say(rule, whereOf(directive), text, cure))
      }),
    )
  const none = problem(
    'no-check',
    'nginx -T',
    'no location asks Postern: nothing is protected',
    'include postern/postern-server.conf in server {}',
  )
  const found = [
    ...(checks.length > 0 ? [] : [none]),
    ...look(CHECK, checks),
    ...look(PROTECTED, others.filter(isProtected)),
    ...look(EXEMPT, others.filter(isProtected)),
    ...findImpostors(others),
    ...findTunnels(others),
    ...findOvertakers(locations),
    ...look(NCHAN, locations),
    ...look(FOLLOWED, locations),
    ...look([RELAYED], locations),
    ...look(LEAKS, locations),
    ...look(ANYWHERE, all),
  ]
  // Two locations may inherit the same line.
  return [...new Map(found.map((one) => [`${one.rule} ${one.where}`, one])).values()]
}
