// The mikopbx dialect as a table: the three endpoints that PBX clients and scripts know.

import { answerFirst } from '../connection.ts'
import type { Dialect } from '../dialect.ts'
import { routesBelow } from '../routes.ts'
import { createLoginHandler } from './login.ts'
import { createLogoutHandler } from './logout.ts'
import { createRefreshHandler } from './refresh.ts'
import { shape } from './reply.ts'

export const mikopbx: Dialect = {
  dialect: 'mikopbx',
  opaqueRefresh: true,
  claimsOf: ({ username, language }) => ({ userId: username, language }),
  routes(parts) {
    return routesBelow(parts.basePath, shape, [
      ['login', 'POST', '/auth:login', createLoginHandler(parts)],
      ['refresh', 'POST', '/auth:refresh', createRefreshHandler(parts)],
      ['logout', 'POST', '/auth:logout', answerFirst(parts.hold, createLogoutHandler(parts))],
    ])
  },
}
