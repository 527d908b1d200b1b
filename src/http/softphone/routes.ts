// The softphone dialect as a table: every endpoint that existing softphones know, and what pages need beside
// them, below one base path.

import type { Login } from '../../auth/login.ts'
import type { Logout } from '../../auth/logout.ts'
import type { Refresh } from '../../auth/refresh.ts'
import type { Tickets } from '../../auth/ticket.ts'
import type { Tokens } from '../../auth/token.ts'
import { loginLabel } from '../login-events.ts'
import { refreshLabel } from '../refresh-events.ts'
import type { Route } from '../routes.ts'
import { createCheckMediaAccessHandler } from './check-media-access.ts'
import { createHealthHandler } from './health.ts'
import { createLoginHandler } from './login.ts'
import { createLogoutHandler } from './logout.ts'
import { createProfileHandler } from './profile.ts'
import { createRefreshHandler } from './refresh.ts'
import { shape } from './reply.ts'
import { createSessionEndHandler, createSessionsHandler, type SessionParts } from './sessions.ts'
import { createTicketHandler } from './ticket.ts'

export interface SoftphoneParts extends SessionParts {
  basePath: string
  tokens: Pick<Tokens, 'verify'>
  login: Login
  refresh: Refresh
  logout: Logout
  tickets: Pick<Tickets, 'issue'>
  metrics: {
    loggedIn(dialect: string, result: string): void
    refreshed(dialect: string, outcome: string): void
    ticketed(result: string): void
  }
}

export const createSoftphoneRoutes = (parts: SoftphoneParts): Route[] => {
  const { basePath, tokens, metrics, now } = parts
  const login = createLoginHandler({
    ...parts,
    observe: (result) => {
      metrics.loggedIn('softphone', loginLabel(result))
    },
  })
  const refresh = createRefreshHandler({
    ...parts,
    verify: tokens.verify,
    observe: (result) => {
      metrics.refreshed('softphone', refreshLabel(result))
    },
  })
  const ticket = createTicketHandler({ ...parts, observe: metrics.ticketed })
  const table: readonly (readonly [string, Route['method'], string, Route['handler']])[] = [
    ['login', 'POST', '/auth/login', login],
    ['refresh', 'POST', '/auth/refresh', refresh],
    ['logout', 'POST', '/auth/logout', createLogoutHandler(parts)],
    ['profile', 'GET', '/profile', createProfileHandler(parts)],
    ['health', 'GET', '/health', createHealthHandler(now)],
    ['check_media_access', 'GET', '/check-media-access', createCheckMediaAccessHandler(parts)],
    ['ticket', 'POST', '/auth/ticket', ticket],
    ['sessions', 'GET', '/auth/sessions', createSessionsHandler(parts)],
    ['session_end', 'DELETE', '/auth/sessions/:id', createSessionEndHandler(parts)],
  ]
  return table.map(([name, method, path, handler]) => ({
    name,
    method,
    path: `${basePath}${path}`,
    handler,
    shape,
  }))
}
