// The mikopbx dialect as a table: the three endpoints that PBX clients and scripts know.

import type { Login } from '../../auth/login.ts'
import type { Logout } from '../../auth/logout.ts'
import type { Refresh } from '../../auth/refresh.ts'
import type { CookieSecurity } from '../cookie.ts'
import { loginLabel } from '../login-events.ts'
import { refreshLabel } from '../refresh-events.ts'
import type { Route } from '../routes.ts'
import { createLoginHandler } from './login.ts'
import { createLogoutHandler } from './logout.ts'
import { createRefreshHandler } from './refresh.ts'
import { shape } from './reply.ts'

export const createMikopbxRoutes = (parts: {
  basePath: string
  login: Login
  refresh: Refresh
  logout: Logout
  cookieSecurity: CookieSecurity
  now(): number
  metrics: {
    loggedIn(dialect: string, result: string): void
    refreshed(dialect: string, outcome: string): void
  }
}): Route[] => {
  const { basePath, login, refresh, logout, cookieSecurity, now, metrics } = parts
  const route = (name: string, path: string, handler: Route['handler']): Route => ({
    name,
    method: 'POST',
    path: `${basePath}${path}`,
    handler,
    shape,
  })
  return [
    route(
      'login',
      '/auth:login',
      createLoginHandler({
        login,
        cookieSecurity,
        now,
        observe: (result) => {
          metrics.loggedIn('mikopbx', loginLabel(result))
        },
      }),
    ),
    route(
      'refresh',
      '/auth:refresh',
      createRefreshHandler({
        refresh,
        cookieSecurity,
        now,
        observe: (result) => {
          metrics.refreshed('mikopbx', refreshLabel(result))
        },
      }),
    ),
    route('logout', '/auth:logout', createLogoutHandler({ logout, cookieSecurity, now })),
  ]
}
