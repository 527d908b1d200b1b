// The traps of what is followed: a connection that is cut must be nobody else's, and leave no credential in a log.

import type { Directive, Spot } from './nginx-config.ts'
import {
  has,
  inForce,
  inside,
  isProtected,
  passOf,
  textOf,
  type Trap,
  value,
} from './nginx-spots.ts'

const ON = /^set \$postern_follow (?!off$)./

const isFollowed = (spot: Spot): boolean =>
  isProtected(spot) && (has(spot, /^set \$postern_action (?:connect|subscribe)$/) || has(spot, ON))

const listensOf = ({ around }: Spot): Directive[] =>
  around.flatMap((block) => inside(block, /^listen /))

export const FOLLOWED: readonly Trap[] = [
  {
    // As the include takes it: what stands behind it, or without it, is never looked at.
    rule: 'follow-late',
    find({ directive }) {
      const sets = inside(directive, /^set \$postern_follow(?:ed)? /)
      const last = sets.findLastIndex((set) => set.args[0] === '$postern_followed')
      return sets.slice(last + 1).filter((set) => ON.test(textOf(set)))
    },
    text: 'has no effect: what is open here outlives its session',
    cure: 'write it before `include postern/postern-protect.conf;`, in a location inside this one too',
  },
  {
    rule: 'followed-keepalive',
    find: (spot) =>
      isFollowed(spot) && !/^0+(?:m?s)?$/.test(value(spot, 'keepalive_timeout') ?? ''),
    text: 'the connection stays after a request: behind a proxy its next is a stranger’s, and may be cut',
    cure: 'write `keepalive_timeout 0;` in this location',
  },
  {
    rule: 'followed-log',
    find: (spot) =>
      has(spot, /^nchan_subscriber\b/) ||
      (isFollowed(spot) && has(spot, /^set \$postern_accept .*(?:query|ticket)/))
        ? inForce(spot, 'error_log').length === 0 ||
          inForce(spot, 'error_log').filter(
            ({ args: [path, level] }) => path !== '/dev/null' && level !== 'emerg',
          )
        : false,
    text: 'nginx writes down the request line of what is cut, with the token of its query',
    cure: 'write `error_log /dev/null emerg;` in this location, or let neither query nor ticket count',
  },
  {
    rule: 'uncuttable',
    find: (spot) =>
      isFollowed(spot) &&
      passOf(spot) !== undefined &&
      listensOf(spot).filter((listen) => /^listen unix:| quic\b/.test(textOf(listen))),
    text: 'what is proxied cannot be cut for who comes by here: it outlives its session',
    cure: 'let clients, and the proxy in front, come over TCP',
    isWarning: true,
  },
]

/** Where clients come by TCP that have something followed. */
export const followedListens = (all: readonly Spot[]): Directive[] =>
  all
    .filter((spot) => spot.directive.name === 'location' && isFollowed(spot))
    .flatMap(listensOf)
    .filter((listen) => !/^listen unix:| quic\b/.test(textOf(listen)))
