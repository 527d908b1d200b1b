// POST /auth:refresh: the cookie is the only credential; an Authorization header is not looked at, since this
// dialect's clients send their expired token along.

import type { Refresh, RefreshResult } from '../../auth/refresh.ts'
import { isTextBody } from '../body.ts'
import { type CookieSecurity, isSecure, readCookie } from '../cookie.ts'
import { isCrossSite } from '../cross-site.ts'
import { refreshEvents } from '../refresh-events.ts'
import { challenge, type Reply } from '../reply.ts'
import type { Handler } from '../request.ts'
import { clearedCookie, failure, REFRESH_COOKIE, refreshCookie, success } from './reply.ts'

export const createRefreshHandler = (parts: {
  refresh: Refresh
  cookieSecurity: CookieSecurity
  now(): number
  observe(result: RefreshResult): void
}): Handler => {
  const { refresh, cookieSecurity, now, observe } = parts
  const invalid = (headers: readonly string[], events: Reply['events'] = []): Reply =>
    failure(
      401,
      'Invalid or expired refresh token',
      now(),
      ['WWW-Authenticate', challenge({ refused: 'expired' }), ...headers],
      events,
    )

  return async (request) => {
    const { headers } = request
    if (isCrossSite(headers) || isTextBody(headers)) {
      return failure(403, 'Cross-site use of the refresh cookie is refused', now())
    }
    const secure = isSecure(headers, cookieSecurity)
    const cookie = readCookie(headers.get('cookie'), REFRESH_COOKIE)
    if ('problem' in cookie) {
      observe({ refused: 'invalid' })
      return invalid(cookie.problem === 'ambiguous' ? clearedCookie(secure) : [])
    }
    // Read though nothing in it counts: what is left unread would cost the connection.
    const body = await request.body()
    if (!Buffer.isBuffer(body)) return body
    const result = await refresh(cookie.value)
    observe(result)
    if ('unavailable' in result) {
      return failure(503, 'Try again later', now(), ['Retry-After', String(result.retryAfter)])
    }
    if ('refused' in result) return invalid(clearedCookie(secure), refreshEvents(result))
    const { session, accessToken, expiresIn, refreshToken } = result
    const lifetime = session.persistent ? session.expiresAt - now() : undefined
    return success(
      { accessToken, tokenType: 'Bearer', expiresIn },
      refreshCookie(refreshToken ?? cookie.value, secure, lifetime),
    )
  }
}
