// The softphone dialect as a table: every endpoint that existing softphones know, below one base path.

import type { Guard } from '../../auth/check.ts'
import type { Login } from '../../auth/login.ts'
import type { Logout } from '../../auth/logout.ts'
import type { Refresh } from '../../auth/refresh.ts'
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

export const createSoftphoneRoutes = (parts: {
  basePath: string
  guard: Guard
  login: Login
  refresh: Refresh
  logout: Logout
  now(): number
  metrics: {
    loggedIn(dialect: string, result: string): void
    refreshed(dialect: string, outcome: string): void
  }
}): Route[] => {
  const { basePath, guard, login, refresh, logout, now, metrics } = parts
  const route = (
    name: string,
    method: Route['method'],
    path: string,
    handler: Route['handler'],
  ) => ({
    name,
    method,
    path: `${basePath}${path}`,
    handler,
    shape,
  })
  return [
    route(
      'login',
      'POST',
      '/auth/login',
      createLoginHandler({
        login,
        now,
        observe: (result) => {
          metrics.loggedIn('softphone', loginLabel(result))
        },
      }),
    ),
    route(
      'refresh',
      'POST',
      '/auth/refresh',
      createRefreshHandler({
        refresh,
        now,
        observe: (result) => {
          metrics.refreshed('softphone', refreshLabel(result))
        },
      }),
    ),
    route('logout', 'POST', '/auth/logout', createLogoutHandler({ logout, now })),
    route('profile', 'GET', '/profile', createProfileHandler({ guard, now })),
    route('health', 'GET', '/health', createHealthHandler(now)),
    route(
      'check_media_access',
      'GET',
      '/check-media-access',
      createCheckMediaAccessHandler({ guard, now }),
    ),
  ]
}
