// What the operator has decided, as values. This file is only the shape: src/config/schema.ts holds
// the rules and the defaults, src/config/load.ts turns a file into one of these.

import type { IssuerTerms } from '../auth/issuer.ts'
import type { Values } from './schema.ts'

/** Where a listener stands: a unix socket path, or a loopback (or explicitly public) TCP address. */
export type Address = { path: string } | { host: string; port: number }

export interface Config {
  listen: {
    /** Check and token endpoints: nginx is the only client. */
    http: Address
    /** Mode of the unix socket, as a number (0o660). */
    socketMode: number
    /** Group of the unix socket; empty: the group of the process. */
    socketGroup: string
    /** /metrics, /healthz, /readyz. */
    operator: Address
    /** The control socket between the `postern` command and the daemon: always a unix socket, 0600. */
    control: string
    maxConnections: number
  }
  /** Keys and store live here. */
  stateDirectory: string
  /** Empty url: a file in the state directory, of one instance alone. */
  store: {
    url: string
    passwordFile: string
    caFile: string
    prefix: string
    /** Seconds that it may be silent while an answer is waited for. */
    timeout: number
    /** How long checks go on from memory while the store is away. */
    staleSeconds: number
  }
  usersFile: string
  /** Where users come from, in the order in which they are asked. */
  userSources: readonly ('file' | 'asterisk' | 'http')[]
  asterisk: { file: string; role: string }
  httpUsers: {
    loginUrl: string
    lookupUrl: string
    timeout: number
    caFile: string
    tokenFile: string
    allowPlain: boolean
    maxInFlight: number
  }
  tokens: { issuer: string; audience: string; leeway: number }
  /** By their names: whose tokens count beside ours. Exactly one of file and url is set. */
  issuers: ReadonlyMap<string, { terms: IssuerTerms; file: string; url: string }>
  softphone: { basePath: string; accessTtl: number; refreshTtl: number; rotate: boolean }
  mikopbx: {
    basePath: string
    accessTtl: number
    refreshTtl: number
    rotate: boolean
    /** Our role → the name that this dialect's tokens carry. */
    roleNames: ReadonlyMap<string, string>
  }
  refresh: {
    /** Seconds in which the predecessor of a refresh token still gets the same successor. */
    grace: number
    /** Seconds without a refresh that end a session; 0: never. */
    idleTtl: number
  }
  sessions: {
    /** Live sessions that a user may have; 0: any number. */
    perUser: number
  }
  tickets: { ttl: number; maxTtl: number }
  subscriptions: {
    /** nginx's private socket, on which a stream is ended. */
    kickSocket: string
    /** Whose streams these are, among several nginx; empty: those of the nginx of this host. */
    nginx: string
    perSession: number
  }
  cookies: { secure: 'auto' | 'always' }
  passwords: { memory: number; passes: number; workers: number; queue: number }
  throttle: {
    window: number
    pairFailures: number
    addressFailures: number
    accountFailures: number
  }
  checks: { verdictCache: number }
  log: { level: 'trace' | 'debug' | 'info' | 'warn' | 'error'; security: string }
  /** Role name → grants as written, e.g. `subscribe:users-state`. */
  roles: ReadonlyMap<string, readonly string[]>
  /** Every setting by its name, for a reload to see what changed. */
  settings: Values
}
