// Proxies in this nginx that hide who calls: whoever comes through one looks like a producer of this machine.

import type { Directive, Spot } from './nginx-config.ts'
import { inForce, inside, portOf, serverOf, textOf, type Trap } from './nginx-spots.ts'

/** What $postern_publisher of postern-http.conf looks at, as far as a proxy can be told to send it. */
const TELLS =
  /^proxy_set_header (?:x-forwarded-(?:for|host|proto|port|server|by)|x-forwarded|x-real-ip|forwarded|via|x-client-ip) /i

const LOCAL = /^(?:127(?:\.\d{1,3}){3}|\[::1\]|localhost)(?::(\d+))?$/

/** Whether postern-local.conf lets producers in by an address of this machine. */
const believesAddresses = (all: readonly Spot[]): boolean =>
  all.some(
    ({ directive, around: [map] }) =>
      directive.name.startsWith('127.') && map?.args[1] === '$postern_local_peer',
  )

/** Ports on which a producer needs no token. */
const publishingPorts = (all: readonly Spot[]): Set<string> =>
  new Set(
    all
      .filter(
        ({ directive, around: [location] }) =>
          directive.name === 'nchan_publisher' &&
          location !== undefined &&
          inside(location, /^if .*\$postern_publisher/).length > 0,
      )
      .flatMap((spot) => inside(serverOf(spot) as Directive, /^listen (?!unix:)/))
      .map(portOf),
  )

/** `host:port` of what is passed on to; an upstream's servers in the place of its name. */
const targetsOf = ({ args: [to = ''] }: Directive, all: readonly Spot[]): string[] => {
  const name = /^http:\/\/([^/$]+)/.exec(to)?.[1] ?? ''
  const upstream = all.find(({ directive }) => textOf(directive) === `upstream ${name}`)
  return upstream
    ? inside(upstream.directive, /^server /).map(({ args }) => String(args[0]))
    : [name]
}

export const RELAYED: Trap = {
  rule: 'publisher-relayed',
  find(spot, all) {
    if (inForce(spot, 'proxy_set_header').some((line) => TELLS.test(textOf(line)))) return false
    const ports = believesAddresses(all) ? publishingPorts(all) : new Set()
    return inside(spot.directive, /^proxy_pass /).filter((pass) =>
      targetsOf(pass, all).some((target) => {
        const found = LOCAL.exec(target)
        return found && ports.has(found[1] ?? '80')
      }),
    )
  },
  text: 'whoever comes through here looks local, and publishes without a token',
  cure: 'write `proxy_set_header X-Forwarded-For $remote_addr;` beside it, or publish over a unix socket alone (postern-local.conf)',
}
