// The traps of Nchan's locations: who may listen, who may publish, and that every stream can be ended.

import type { Spot } from './nginx-config.ts'
import {
  has,
  inForce,
  inside,
  isProtected,
  serverOf,
  type Trap,
  textOf,
  value,
} from './nginx-spots.ts'

const isKick = ({ directive }: Spot): boolean => /\bkick-\[\S*$/.test(textOf(directive))

const isGuarded = (spot: Spot): boolean =>
  isProtected(spot) ||
  has(spot, /^if .*\$postern_publisher/) ||
  inForce(spot, 'allow').length + inForce(spot, 'deny').length > 0

export const NCHAN: readonly Trap[] = [
  {
    rule: 'nchan-pubsub',
    find: ({ directive }) => inside(directive, /^nchan_pubsub\b/),
    text: 'whoever may listen may publish too',
    cure: 'use nchan_subscriber and nchan_publisher in locations of their own',
  },
  {
    rule: 'nchan-authorize',
    find: ({ directive }) => inside(directive, /^nchan_authorize_request\b/),
    text: 'cannot hand over the kick id: such a stream outlives its session',
    cure: 'use auth_request, as in postern-softphone.conf',
  },
  {
    rule: 'subscriber-open',
    find: (spot) =>
      has(spot, /^nchan_subscriber\b/) &&
      !textOf(spot.directive).startsWith('location @') &&
      !isProtected(spot),
    text: 'anybody can listen here',
    cure: 'protect it as in postern-softphone.conf',
  },
  {
    rule: 'no-kick',
    find: (spot) =>
      has(spot, /^nchan_subscriber\b/) &&
      has(spot, /^nchan_channel_id\b/) &&
      !has(spot, /^nchan_channel_id\b.* \$postern_(?:channels$|kick\b)/),
    text: 'a stream without a kick id cannot be ended',
    cure: 'include postern/postern-subscribe.conf there, and no nchan_channel_id of your own',
  },
  {
    rule: 'buffering',
    find: (spot, all) =>
      has(spot, /^nchan_subscriber\b/) &&
      all.some(({ directive }) => directive.name === 'set_real_ip_from') &&
      !inForce(spot, 'add_header').some(({ args }) => /^x-accel-buffering$/i.test(args[0] ?? '')),
    text: 'the proxy in front may keep event streams back: an nginx at its defaults lets not a byte through',
    cure: 'include postern/postern-subscribe.conf there, which says `X-Accel-Buffering: no`',
    isWarning: true,
  },
  {
    rule: 'told-behind-proxy',
    find: (spot, all) =>
      value(spot, 'real_ip_header') !== 'proxy_protocol' &&
      inForce(spot, 'set_real_ip_from').length > 0 &&
      all.some(
        ({ directive: { name, args } }) =>
          name === 'nchan_unsubscribe_request' &&
          textOf(spot.directive) === `location = ${String(args[0])}`,
      ),
    text: 'each stream that a client behind the proxy closes kills a worker of nginx',
    cure: 'write `real_ip_header proxy_protocol;` in this location, as postern-softphone.conf does',
  },
  {
    rule: 'publisher-open',
    find: (spot) =>
      has(spot, /^nchan_publisher\b/) &&
      !isKick(spot) &&
      !isGuarded(spot) &&
      !has(spot, /^limit_except GET$/),
    text: 'anybody can publish here',
    cure: 'write `allow 127.0.0.1; allow ::1; deny all;`, or take the shipped location',
  },
  {
    rule: 'kick-exposed',
    find(spot) {
      const server = serverOf(spot)
      return server && has(spot, /^nchan_publisher\b/) && isKick(spot)
        ? inside(server, /^listen (?!unix:)/)
        : false
    },
    text: 'streams can be ended over the network',
    cure: 'let the server of postern-kick.conf listen on a unix socket alone',
  },
]
