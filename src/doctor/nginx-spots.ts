// What nginx does at one spot of its configuration: what stands in it, what it inherits, and whether it is protected.

import type { Directive, Spot } from './nginx-config.ts'

export const textOf = ({ name, args }: Directive): string => [name, ...args].join(' ')

export const whereOf = ({ file, line }: Directive): string => `${file}:${line}`

/** What stands in the block itself, by how it begins or reads. */
export const inside = ({ block = [] }: Directive, pattern: RegExp): Directive[] =>
  block.filter((directive) => pattern.test(textOf(directive)))

export const has = ({ directive }: Spot, pattern: RegExp): boolean =>
  inside(directive, pattern).length > 0

/** As nginx inherits most directives: the innermost block that has any wins. */
export const inForce = ({ directive, around }: Spot, name: string): readonly Directive[] =>
  [directive, ...around]
    .map(({ block = [] }) => block.filter((inner) => inner.name === name))
    .find((found) => found.length > 0) ?? []

export const value = (spot: Spot, name: string): string | undefined =>
  inForce(spot, name)[0]?.args[0]

/** For directives that are off where nothing is said. */
export const isOff = (spot: Spot, name: string): boolean => (value(spot, name) ?? 'off') === 'off'

export const isProtected = (spot: Spot): boolean => !isOff(spot, 'auth_request')

/** The location that asks the daemon: by the path it passes on to, also as 0.1.0 wrote it. */
export const isCheck = (spot: Spot): boolean =>
  has(spot, /^(?:rewrite \S+ |proxy_pass http:\/\/[^/]+)\/check(?:\/|$)/)

/** Of a location that is a regular expression. */
export const patternOf = ({ directive }: Spot): string | undefined =>
  /^location ~\*? ?(.*)/.exec(textOf(directive))?.[1]

export const serverOf = ({ around }: Spot): Directive | undefined =>
  around.find(({ name }) => name === 'server')

/** Locations that it leads to by their name, where nginx then goes on by what stands there. */
export const ledTo = (spot: Spot, all: readonly Spot[]): Spot[] => {
  const lines = inside(spot.directive, /^(?:try_files|error_page) /)
  const names = new Set(lines.flatMap(({ args }) => args))
  return all.filter((other) => {
    const [name = ''] = other.directive.args
    return name.startsWith('@') && names.has(name) && serverOf(other) === serverOf(spot)
  })
}

/** Of a `listen` that is no unix socket. */
export const portOf = ({ args: [at = ''] }: Directive): string =>
  /^\d+$/.test(at) ? at : (/:(\d+)$/.exec(at)?.[1] ?? '80')

/** By what a request goes where: `http://host:port` or a socket, without a path behind it. */
export const passOf = ({ directive }: Spot) => {
  const [pass] = inside(directive, /^(?:proxy|grpc|fastcgi|uwsgi|scgi)_pass /)
  if (!pass) return undefined
  const [to = ''] = pass.args
  const by = pass.name.replace('_pass', '')
  return { by, to: /^\w+:\/\/(?:unix:[^:]+|[^/$]+)/.exec(to)?.[0] ?? to }
}

/** What may be wrong at a spot. */
export interface Trap {
  rule: string
  /** The directives at fault; true for the spot itself. */
  find(spot: Spot, all: readonly Spot[]): readonly Directive[] | boolean
  text: string
  cure: string
  isWarning?: true
}
