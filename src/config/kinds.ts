// What a value may be: one kind per sort of setting. A kind never quotes the value it refuses, and no
// message of valibot's own is ever shown, since these do.

import { isIP, SocketAddress } from 'node:net'
import { posix } from 'node:path'
import * as v from 'valibot'
import { parseGrant } from '../auth/grants.ts'
import { parseNamePattern } from '../calls/names.ts'
import { findUrlProblem } from '../store/redis/address.ts'
import { type AccountRule, readAccountRule, readPattern } from './account-rules.ts'
import type { Address } from './config.ts'
import { createNetworks } from './networks.ts'

export interface Kind<T> {
  /** Ends the sentence "must be …"; stands in the table of settings. */
  readonly expected: string
  readonly schema: v.GenericSchema<unknown, T>
}

/** What a reader of text answers when the text will not do, in words that name the cure. */
export interface Problem {
  readonly problem: string
}

const isProblem = (read: unknown): read is Problem =>
  typeof read === 'object' && read !== null && 'problem' in read

export const textSchema = <T extends string | number | object>(
  read: (text: string) => T | Problem,
) =>
  v.pipe(
    v.string(),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      const value = read(dataset.value)
      if (!isProblem(value)) return value
      addIssue({ message: value.problem })
      return NEVER
    }),
  )

export const text = <T extends string | number | object>(
  expected: string,
  read: (text: string) => T | Problem,
): Kind<T> => ({ expected, schema: textSchema(read) })

/** Text by its shape alone: the sentence "must be …" says all there is to say. */
const shaped = (expected: string, shape: RegExp): Kind<string> =>
  text<string>(expected, (found) =>
    shape.test(found) ? found : { problem: `must be ${expected}` },
  )

export const whole = (min: number, max: number): Kind<number> => ({
  expected: `a whole number from ${min} to ${max}`,
  schema: v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max)),
})

/** With parts of a second. */
export const seconds = (min: number, max: number): Kind<number> => ({
  expected: `a number from ${min} to ${max}`,
  schema: v.pipe(v.number(), v.minValue(min), v.maxValue(max)),
})

export const flag: Kind<boolean> = { expected: 'true or false', schema: v.boolean() }

export const oneOf = <const T extends readonly [string, ...string[]]>(
  names: T,
): Kind<T[number]> => ({
  expected: `one of ${names.map((name) => `"${name}"`).join(', ')}`,
  schema: v.picklist(names),
})

/** Printable, since it travels in tokens and log lines. */
export const name = shaped('1 to 255 printable ASCII characters', /^[!-~](?:[ -~]{0,253}[!-~])?$/)

/** As a name of a host or a deployment goes into a key, a log line and a label. */
export const nameOrNone = shaped(
  'letters, digits, . _ and -, at most 64, or empty',
  /^[A-Za-z0-9._-]{0,64}$/,
)

export const keyPrefix = shaped(
  'at most 64 letters, digits, : . _ and -',
  /^[A-Za-z0-9:._-]{0,64}$/,
)

export const storeUrl = text<string>(
  'redis://…, rediss://…, unix://… or redis+sentinel://…, or empty',
  (found) => {
    const problem = found === '' ? undefined : findUrlProblem(found)
    return problem === undefined ? found : { problem }
  },
)

export const group = shaped(
  'the name of a group, or empty',
  /^(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$/,
)

/** Segments only of what no proxy escapes or folds: nginx's location and this must mean one path. */
export const urlPath = shaped(
  'a path such as "/api/v1": it starts with /, does not end with / and has only letters, digits, _ ~ - and dots within names',
  /^(?=.{1,200}$)(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._~-]+)+$/,
)

export const CONTROL = /[\u0000-\u001F\u007F]/
const isPath = (found: string) =>
  posix.isAbsolute(found) && !found.endsWith('/') && !CONTROL.test(found)

export const path = text<string>('an absolute path', (found) =>
  isPath(found)
    ? posix.normalize(found)
    : { problem: 'must be an absolute path: start it with /, end it without' },
)

export const pathOrNone = text<string>('an absolute path, or empty', (found) => {
  if (found === '') return ''
  if (isPath(found)) return posix.normalize(found)
  return { problem: 'must be an absolute path, or empty: start it with /, end it without' }
})

const MAX_SOCKET_PATH = 107 // bytes in sun_path without its final NUL: the kernel cuts a longer one silently

const readSocketPath = (found: string): string | Problem => {
  if (!isPath(found)) {
    return { problem: 'must name the socket by an absolute path, such as /run/postern/http.sock' }
  }
  const socket = posix.normalize(found)
  if (Buffer.byteLength(socket) <= MAX_SOCKET_PATH) return socket
  return {
    problem: `must be a socket path of at most ${MAX_SOCKET_PATH} bytes: choose a shorter folder`,
  }
}

export const socketPath = text<string>(
  `an absolute path of at most ${MAX_SOCKET_PATH} bytes`,
  (found) =>
    found.startsWith('unix:')
      ? { problem: 'is always a unix socket: write the path alone, without "unix:"' }
      : readSocketPath(found),
)

const ADDRESS = '"unix:/path/of.sock", "127.0.0.1:9477" or "[::1]:9477"'
const HOST_AND_PORT = /^(?:\[(?<six>[0-9A-Fa-f:.]+)\]|(?<four>[0-9.]+)):(?<port>\d{1,5})$/

const readAddress = (found: string): Address | Problem => {
  if (found.startsWith('unix:')) {
    const socket = readSocketPath(found.slice('unix:'.length))
    return typeof socket === 'string' ? { path: socket } : socket
  }
  const { six, four, port = '' } = HOST_AND_PORT.exec(found)?.groups ?? {}
  const host = six ?? four
  if (host === undefined) {
    return { problem: `must be ${ADDRESS}; a name such as localhost is not looked up` }
  }
  if (isIP(host) !== (six === undefined ? 4 : 6)) {
    return { problem: `must be ${ADDRESS}: the part before the port is no IP address` }
  }
  if (Number(port) > 65_535) return { problem: 'must have a port from 0 to 65535' }
  // One spelling for one address, so that two listeners at one are seen to be.
  const { address: canonical } = new SocketAddress({ address: host, family: six ? 'ipv6' : 'ipv4' })
  return { host: canonical, port: Number(port) }
}

export const address = text<Address>(ADDRESS, readAddress)

const isLoopback = createNetworks(['127.0.0.0/8', '::1'])

/** Whether only this machine reaches it. */
export const isLocal = (where: Address): boolean => 'path' in where || isLoopback(where.host)

const readGrant = (found: string): string | Problem => {
  // Nearly always a slip, which would grant nothing.
  if (found.trim() !== found) {
    return { problem: 'begins or ends in a blank: write %20 where a name does' }
  }
  const grant = parseGrant(found)
  return 'problem' in grant ? grant : found
}

/** A list of what is text, each read by itself. */
const listOf = <T extends string | object>(
  expected: string,
  read: (text: string) => T | Problem,
): Kind<T[]> => ({ expected: `a list of ${expected}`, schema: v.array(textSchema(read)) })

export const grants = listOf<string>(
  'grants, such as ["subscribe:users-state", "read:recordings/**"]',
  readGrant,
)

/** A list of `one=other`, parted at the last =, each `one` once. */
export const pairsSchema = (shape: RegExp) =>
  v.pipe(
    v.array(
      v.pipe(
        v.string(),
        v.regex(shape),
        v.transform((pair): [string, string] => {
          const at = pair.lastIndexOf('=')
          return [pair.slice(0, at), pair.slice(at + 1)]
        }),
      ),
    ),
    v.check((found) => new Map(found).size === found.length),
    v.transform((found): ReadonlyMap<string, string> => new Map(found)),
  )

const ROLE_NAME = /^([A-Za-z0-9][A-Za-z0-9_-]{0,63})=([A-Za-z0-9][A-Za-z0-9_-]{0,63})$/

/** One to one in both directions: a name in a token must say one role. */
export const pairs: Kind<ReadonlyMap<string, string>> = {
  expected: 'a list such as ["admin=admins"]: each role and each name once',
  schema: v.pipe(
    pairsSchema(ROLE_NAME),
    v.check((found) => new Set(found.values()).size === found.size),
  ),
}

/** Printable text or none; what it must be is judged where it is used. */
export const text255 = shaped('printable text, or empty', /^[!-~]{0,255}$/)

const MAPPING = /^([!-~](?:[ -~]{0,126}[!-~])?)=([A-Za-z0-9][A-Za-z0-9_-]{0,63})$/

/** Many of theirs may be one of ours; of two that a token has, the first written here counts. */
export const mapping: Kind<ReadonlyMap<string, string>> = {
  expected: 'a list such as ["admins=admin", "staff=user"]: theirs=ours, each of theirs once',
  schema: v.pipe(
    pairsSchema(MAPPING),
    v.check((found) => found.size > 0),
  ),
}

/** At least so many of these names, each at most once. */
const namesOf = <const T extends readonly [string, ...string[]]>(
  names: T,
  least: 0 | 1,
): Kind<readonly T[number][]> => ({
  expected: `a list of ${names.map((entry) => `"${entry}"`).join(', ')}, each at most once${least === 0 ? ', or []' : ''}`,
  schema: v.pipe(
    v.array(v.picklist(names)),
    v.minLength(least),
    v.check((found) => new Set(found).size === found.length),
  ),
})
export const anyOf = <const T extends readonly [string, ...string[]]>(names: T) => namesOf(names, 0)
export const someOf = <const T extends readonly [string, ...string[]]>(names: T) =>
  namesOf(names, 1)

const readNamePattern = (found: string): string | Problem => {
  const pattern = parseNamePattern(found)
  return 'problem' in pattern ? pattern : found
}

export const namePatterns = listOf<string>(
  'patterns of names, such as ["{date}-{party}-{other}.wav"]',
  readNamePattern,
)

export const paths: Kind<readonly string[]> = {
  expected: 'a list of absolute paths, each ending without /',
  schema: v.array(path.schema),
}

export const patterns = listOf(
  'patterns, in which * is any text, such as ["from-pstn*"]',
  readPattern,
)

export const accountRules = listOf<AccountRule>(
  'rules, such as ["name 201 keep", "context door-* leave out"]',
  readAccountRule,
)
