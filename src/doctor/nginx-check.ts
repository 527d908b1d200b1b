// The traps of the location that asks the daemon: nothing of the client's but its credential may reach it, and none of
// its failures may become a pass.

import { has, inForce, inside, isOff, type Trap, textOf, value } from './nginx-spots.ts'
import type { Spot } from './nginx-config.ts'

const setsHeader = (spot: Spot, line: string): boolean =>
  inForce(spot, 'proxy_set_header').some(
    (directive) => textOf(directive).toLowerCase() === `proxy_set_header ${line}`,
  )

const secondsOf = (time: string): number =>
  Number.parseInt(time, 10) / (time.endsWith('ms') ? 1000 : 1)

export const CHECK: readonly Trap[] = [
  {
    rule: 'check-internal',
    find: (spot) => !has(spot, /^internal$/),
    text: 'anybody can ask the check location',
    cure: 'write `internal;` in it',
  },
  {
    rule: 'check-body-size',
    find: (spot) => value(spot, 'client_max_body_size') !== '0',
    text: 'an upload over 1 MB ends as a 500 of the check',
    cure: 'write `client_max_body_size 0;` in the check location',
  },
  {
    rule: 'check-body',
    find: (spot) =>
      value(spot, 'proxy_pass_request_body') !== 'off' || !setsHeader(spot, 'content-length '),
    text: 'the check is sent a Content-Length without its body and hangs',
    cure: 'write `proxy_pass_request_body off;` and `proxy_set_header Content-Length "";`',
  },
  {
    rule: 'check-headers',
    find: (spot) => value(spot, 'proxy_pass_request_headers') !== 'off',
    text: 'headers of the client reach the check, X-Auth-Action among them',
    cure: 'write `proxy_pass_request_headers off;` and set the few that postern-daemon.conf names',
  },
  {
    rule: 'check-resource',
    find: (spot) =>
      !has(spot, /^rewrite \^ \/check\/\$postern_resource\? break$/) ||
      !has(spot, /^proxy_pass http:\/\/[^/]+$/),
    text: 'the resource is not the path of the check, where alone nginx escapes it: names beyond ASCII are refused, and in the next version all',
    cure: 'take postern-server.conf as shipped: `rewrite ^ /check/$postern_resource? break; proxy_pass http://postern;`',
  },
  {
    // nginx computes the length of what follows as if it were no query, and writes it escaped (CVE-2026-42945).
    rule: 'check-rewrite',
    find: ({ directive }) => inside(directive, /^(?:set|if|rewrite|return)\b/).slice(1),
    text: 'behind a rewrite with a question mark nginx may write beyond its memory',
    cure: 'leave the rewrite of the check alone in its location',
  },
  {
    rule: 'check-http',
    find: (spot) => value(spot, 'proxy_http_version') !== '1.1' || !setsHeader(spot, 'connection '),
    text: 'every check opens a connection of its own (0.68 of the throughput)',
    cure: 'write `proxy_http_version 1.1;` and `proxy_set_header Connection "";`, and `keepalive` in the upstream',
  },
  {
    rule: 'check-timeout',
    find: (spot) => secondsOf(value(spot, 'proxy_read_timeout') ?? '60s') > 10,
    text: 'a daemon that hangs holds requests for a minute, and a kick gives up before its stream opens',
    cure: 'write `proxy_read_timeout 5s;`',
  },
  {
    rule: 'check-cache',
    find: (spot) => !isOff(spot, 'proxy_cache'),
    text: 'a decision is remembered: for another user, and beyond a logout',
    cure: 'write `proxy_cache off;` in the check location, as shipped',
  },
  {
    rule: 'error-page',
    find: (spot) =>
      inForce(spot, 'error_page').filter(({ args }) => args.some((arg) => /^=2\d\d$/.test(arg))),
    text: 'an error of the check becomes a pass',
    cure: 'write `error_page 599 @postern_failed;` in the check location, as shipped',
  },
]
