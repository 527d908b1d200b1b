// What a dialect is to the daemon: the form of its tokens, and its table of routes. All dialects end in the same
// rules; whoever adds one adds a folder here and its line in the gate.

import type { ActFor } from '../auth/act-for.ts'
import type { DialectTerms } from '../auth/issue.ts'
import type { Logout } from '../auth/logout.ts'
import type { Tickets } from '../auth/ticket.ts'
import type { Tokens } from '../auth/token.ts'
import type { LoginParts } from './login.ts'
import type { RefreshParts } from './refresh.ts'
import type { Route } from './routes.ts'
import type { SessionParts } from './softphone/sessions.ts'

/** All that the daemon offers; each dialect takes what it needs. */
export interface DialectParts extends LoginParts, RefreshParts, SessionParts {
  basePath: string
  now(): number
  tokens: Pick<Tokens, 'verify'>
  logout: Logout
  tickets: Pick<Tickets, 'issue'>
  actFor: ActFor
  /** A request that may end sessions is under way on this connection, until the function is called. */
  hold(connection: string): () => void
  observe: LoginParts['observe'] &
    RefreshParts['observe'] & {
      ticket(result: 'issued' | 'bad_request' | 'no_grant'): void
    }
}

export interface Dialect extends Pick<DialectTerms, 'dialect' | 'opaqueRefresh' | 'claimsOf'> {
  routes(parts: DialectParts): Route[]
}
