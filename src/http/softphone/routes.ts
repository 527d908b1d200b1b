// The softphone dialect as a table: every endpoint that existing softphones know, and what pages need beside
// them, below one base path.

import { answerFirst } from '../connection.ts'
import type { Dialect } from '../dialect.ts'
import { routesBelow } from '../routes.ts'
import { createCheckMediaAccessHandler } from './check-media-access.ts'
import { createLoginHandler } from './login.ts'
import { createLogoutHandler } from './logout.ts'
import { createProfileHandler } from './profile.ts'
import { createRefreshHandler } from './refresh.ts'
import { shape, success } from './reply.ts'
import { createSessionEndHandler, createSessionsHandler } from './sessions.ts'
import { createTicketHandler } from './ticket.ts'

export const softphone: Dialect = {
  dialect: 'softphone',
  opaqueRefresh: false,
  routes(parts) {
    return routesBelow(parts.basePath, shape, [
      ['login', 'POST', '/auth/login', createLoginHandler(parts)],
      ['refresh', 'POST', '/auth/refresh', createRefreshHandler(parts)],
      ['logout', 'POST', '/auth/logout', answerFirst(parts.hold, createLogoutHandler(parts))],
      ['profile', 'GET', '/profile', createProfileHandler(parts)],
      // Somebody answers. Whether we can decide is what /readyz tells, on the operator's listener.
      ['health', 'GET', '/health', async () => success({ status: 'ok', timestamp: parts.now() })],
      ['check_media_access', 'GET', '/check-media-access', createCheckMediaAccessHandler(parts)],
      ['ticket', 'POST', '/auth/ticket', createTicketHandler(parts)],
      ['sessions', 'GET', '/auth/sessions', createSessionsHandler(parts)],
      [
        'session_end',
        'DELETE',
        '/auth/sessions/:id',
        answerFirst(parts.hold, createSessionEndHandler(parts)),
      ],
    ])
  },
}
