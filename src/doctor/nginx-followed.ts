// The traps of what is followed: a connection that is cut must be nobody else's, and leave no credential in a log.

import type { Directive, Spot } from './nginx-config.ts'
import {
  has,
  inForce,
  inside,
  isProtected,
  ledTo,
  passOf,
  serverOf,
  textOf,
  type Trap,
  value,
} from './nginx-spots.ts'

const isOn = (set: Directive): boolean => /^set \$postern_follow (?!off$)./.test(textOf(set))

/** What the location says itself: as the include takes it, and behind that or without it, where it is never looked at. */
const saysOf = ({ directive }: Spot) => {
  const sets = inside(directive, /^set \$postern_follow(?:ed)? /)
  const include = sets.findLastIndex((set) => set.args[0] === '$postern_followed')
  return { taken: sets.slice(0, include + 1).at(-2), late: sets.slice(include + 1).filter(isOn) }
}

/** Where it says nothing, as its server does: nginx inherits no other `set`. */
const isFollowed = (spot: Spot): boolean => {
  if (!isProtected(spot)) return false
  const { taken, late } = saysOf(spot)
  const says = taken ? [taken] : (serverOf(spot)?.block ?? [])
  return has(spot, /^set \$postern_action (?:connect|subscribe)$/) || [...late, ...says].some(isOn)
}

const listensOf = ({ around }: Spot): Directive[] =>
  around.flatMap((block) => inside(block, /^listen /))

/** Its lines that have error lines written; the location itself where it has none. */
const loggedBy = (spot: Spot): Directive[] => {
  const isOpen = ({ args: [path, level] }: Directive): boolean =>
    path !== '/dev/null' && level !== 'emerg'
  const lines = inForce(spot, 'error_log')
  if (lines.length > 0 && !lines.some(isOpen)) return []
  const own = inside(spot.directive, /^error_log /).filter(isOpen)
  return own.length > 0 ? own : [spot.directive]
}

/** A page that an error leads to is over before it could be cut; a file that is tried may be a long download. */
const isLong = (led: Spot, by: Spot): boolean =>
  passOf(led) !== undefined ||
  inside(by.directive, /^try_files /).some(({ args }) => args.includes(String(led.directive.args)))

export const FOLLOWED: readonly Trap[] = [
  {
    rule: 'follow-late',
    find: (spot) => saysOf(spot).late,
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
    find: (spot, all) =>
      has(spot, /^nchan_subscriber\b/) ||
      (isFollowed(spot) && has(spot, /^set \$postern_accept .*(?:query|ticket)/))
        ? [spot, ...ledTo(spot, all).filter((led) => isLong(led, spot))].flatMap(loggedBy)
        : false,
    text: 'nginx writes down the request line of what is cut, with the token of its query',
    cure: 'write `error_log /dev/null emerg;` in this location, or let neither query nor ticket count where it is followed',
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
