// The url of a Redis or Valkey → where and as whom to connect. Its complaints must never repeat the url:
// it may hold a password.

import { StoreError } from '../store.ts'

export interface RedisNode {
  readonly host: string
  readonly port: number
}

export type RedisAddress = {
  readonly username: string | undefined
  readonly password: string | undefined
  readonly tls: boolean
  readonly database: number
  /** For people: without credentials. */
  readonly label: string
} & (
  | { readonly kind: 'server'; readonly nodes: readonly [RedisNode] }
  | { readonly kind: 'socket'; readonly path: string }
  | { readonly kind: 'sentinel'; readonly nodes: readonly RedisNode[]; readonly primary: string }
)

const FORMS =
  'write redis://[user:password@]host[:port][/database], rediss://… for TLS, unix:///path[?database=n], ' +
  'or redis+sentinel://host[:port],host[:port]/primary[/database]'

const refuse = (what: string): StoreError =>
  new StoreError('unavailable', `the url of the Redis store ${what}: ${FORMS}`)

const URL_PARTS =
  /^(redis|rediss|unix)(?:\+(sentinel))?:\/\/(?:([^@/]*)@)?([^/?]*)(\/[^?]*)?(?:\?database=(\d{1,4}))?$/
const NODE = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?$/i

const parseNode = (text: string, defaultPort: number): RedisNode => {
  const [, v6, name, port] = NODE.exec(text) ?? []
  const host = v6 ?? name
  const number = Number(port ?? defaultPort)
  if (host === undefined || number < 1 || number > 65_535) throw refuse('names no host and port')
  return { host, port: number }
}

const parseDatabase = (text: string): number => {
  if (!/^\d{0,4}$/.test(text)) throw refuse('has no number for its database')
  return Number(text)
}

const decode = (text: string | undefined): string | undefined => {
  if (text === undefined || text === '') return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    throw refuse('has a % in its user or password that is not written as %25')
  }
}

/** Throws a StoreError that names the forms there are. */
export const parseRedisUrl = (url: string): RedisAddress => {
  const match = URL_PARTS.exec(url)
  if (!match) throw refuse('is not understood')
  const [, scheme, form, credentials = '', hosts = '', path = '', query] = match
  const colon = credentials.indexOf(':')
  const as = {
    username: decode(colon === -1 ? credentials : credentials.slice(0, colon)),
    password: decode(colon === -1 ? undefined : credentials.slice(colon + 1)),
    tls: scheme === 'rediss',
  }
  if (scheme === 'unix') {
    if (form !== undefined || hosts !== '' || path.length < 2) throw refuse('names no socket')
    return { kind: 'socket', ...as, path, database: Number(query ?? 0), label: `unix://${path}` }
  }
  if (query !== undefined) throw refuse('may have ?database= only after a socket')
  const nodes = hosts.split(',').map((host) => parseNode(host, form === 'sentinel' ? 26_379 : 6379))
  const label = `${scheme}${form === undefined ? '' : `+${form}`}://${hosts}${path}`
  if (form === 'sentinel') {
    const [, primary = '', database = '', ...rest] = path.split('/')
    if (primary === '' || rest.length > 0) throw refuse('names no primary for its sentinels')
    return { kind: 'sentinel', ...as, nodes, primary, database: parseDatabase(database), label }
  }
  const [node, ...others] = nodes
  if (!node || others.length > 0) throw refuse('names several hosts')
  return { kind: 'server', ...as, nodes: [node], database: parseDatabase(path.slice(1)), label }
}

/** For a configuration: what is wrong with a url, or undefined. */
export const findUrlProblem = (url: string): string | undefined => {
  try {
    parseRedisUrl(url)
    return undefined
  } catch (error) {
    return (error as StoreError).message
  }
}
