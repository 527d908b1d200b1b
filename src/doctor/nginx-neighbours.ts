// What one location undoes of another: the same application told by the client who it is, and a pattern that answers
// before a protected prefix.

import { type Finding, problem } from './finding.ts'
import type { Spot } from './nginx-config.ts'
import {
  has,
  inForce,
  isProtected,
  passOf,
  patternOf,
  serverOf,
  value,
  whereOf,
} from './nginx-spots.ts'

const IDENTITY = 'user role session expires action resource accept channel kick reason'
  .split(' ')
  .map((name) => `x-auth-${name}`)

/** The lines that tell an application of headers: by their own name, or by CGI's. */
const headerLinesOf = (by: string): string =>
  by === 'proxy' || by === 'grpc' ? `${by}_set_header` : `${by}_param`

/** Names that reach an application as the client wrote them. */
const claimedBy = (spot: Spot, by: string): string[] => {
  if (value(spot, `${by}_pass_request_headers`) === 'off') return []
  const lines = inForce(spot, headerLinesOf(by)).map(({ args: [name = '', text = ''] }) => ({
    name: name.toLowerCase().replaceAll('_', '-').replace('http-', ''),
    text,
  }))
  const claimed = IDENTITY.filter((header) => {
    const told = lines.filter(({ name }) => name === header)
    return told.length === 0 || told.some(({ text }) => text.startsWith('$http_'))
  })
  // Debian's fastcgi_params has it, and of two the last counts.
  const user = lines.findLast(({ name }) => name === 'remote-user')
  return user?.text === '$remote_user' ? [...claimed, 'REMOTE_USER'] : claimed
}

/** Every location that passes on to an application which is protected somewhere in its server, there and elsewhere. */
const findGuarded = (locations: readonly Spot[]) => {
  const passing = locations.flatMap((spot) => {
    const pass = passOf(spot)
    return pass ? [{ spot, ...pass, server: serverOf(spot) }] : []
  })
  const guarded = passing.filter(({ spot }) => isProtected(spot))
  return passing.filter((one) =>
    guarded.some(({ to, server }) => to === one.to && server === one.server),
  )
}

/** Applications that a client tells who it is: where they are protected, and where the same one is open. */
export const findImpostors = (locations: readonly Spot[]): Finding[] =>
  findGuarded(locations)
    .map(({ spot, by }) => ({ spot, by, claimed: claimedBy(spot, by) }))
    .filter(({ claimed }) => claimed.length > 0)
    .map(({ spot, by, claimed }) =>
      problem(
        'identity',
        whereOf(spot.directive),
        `the client's own ${claimed.join(', ')} reaches the application`,
        `include postern/postern-${by === 'proxy' ? 'identity' : by}.conf in this location, after its ${headerLinesOf(by)} lines`,
      ),
    )

/**
 * Ways around the check: once an application has agreed to h2c, nginx hands bytes on, and every request in them is
 * unasked. A Connection line of the client's makes the application forget the headers that it names.
 */
export const findTunnels = (locations: readonly Spot[]): Finding[] =>
  findGuarded(locations)
    .flatMap(({ spot }) => inForce(spot, 'proxy_set_header'))
    .filter((line) =>
      /^(?:upgrade .*\$\{?http_|connection .*\$\{?http_connection)/i.test(line.args.join(' ')),
    )
    .map((line) =>
      problem(
        'tunnel',
        whereOf(line),
        'a client that asks for h2c, or names headers to drop, gets around the check',
        'write `proxy_set_header Upgrade $postern_upgrade;` and `proxy_set_header Connection $postern_connection;`',
      ),
    )

/** A pattern that answers whoever asks. */
const isOpen = (spot: Spot): boolean =>
  !isProtected(spot) &&
  !has(spot, /^(?:internal|return)\b/) &&
  !inForce(spot, 'deny').some(({ args }) => args[0] === 'all')

/** Patterns that answer for a protected prefix before it is looked at. */
export const findOvertakers = (locations: readonly Spot[]): Finding[] => {
  const patterns = locations.flatMap((spot) => {
    const pattern = patternOf(spot)
    return pattern !== undefined && isOpen(spot) ? [{ spot, pattern }] : []
  })
  return locations.filter(isProtected).flatMap(({ directive: { args }, around }) => {
    const [path = ''] = args
    const first = patterns.find(({ spot, pattern }) => {
      const fits = !pattern.startsWith('^') || pattern.startsWith(`^${path}`)
      return path.startsWith('/') && fits && spot.around[0] === around[0]
    })
    return first
      ? [
          problem(
            'overtaken',
            whereOf(first.spot.directive),
            `answers what fits it below ${path}, without a check: a pattern comes before a prefix`,
            `write \`location ^~ ${path}\`, or protect this one too`,
          ),
        ]
      : []
  })
}
