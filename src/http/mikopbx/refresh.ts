// POST /auth:refresh: the cookie is the only credential; an Authorization header is ignored, since this
// dialect's clients send their expired token along.

import { isTextBody } from '../body.ts'
import { readCookie } from '../cookie.ts'
import { type RefreshParts, refuseRefresh } from '../refresh.ts'
import type { Handler } from '../request.ts'
import type { Site } from '../site.ts'
import { clearedCookie, REFRESH_COOKIE, refreshCookie, success } from './reply.ts'

export const createRefreshHandler = (
  parts: RefreshParts & { site: Site; now(): number },
): Handler => {
  const { refresh, site, now, observe } = parts
  return async (request) => {
    const { headers } = request
    if (site.isCrossSite(headers) || isTextBody(headers)) {
      return site.refuse(headers, 'use of the refresh cookie')
    }
    const secure = site.isSecure(headers)
    const cookie = readCookie(headers.get('cookie'), REFRESH_COOKIE)
    if ('problem' in cookie) {
      const invalid = { refused: 'invalid' } as const
      observe.refresh(invalid)
      const cleared = cookie.problem === 'ambiguous' ? clearedCookie(secure) : []
      return refuseRefresh(invalid, cleared)
    }
    // Read although it is ignored: an unread body would cost the connection.
    await request.body()
    const result = await refresh(cookie.value)
    observe.refresh(result)
    if (!('outcome' in result)) return refuseRefresh(result, clearedCookie(secure))
    const { session, accessToken, expiresIn, refreshToken } = result
    const lifetime = session.persistent ? session.expiresAt - now() : undefined
    return success(
      { accessToken, tokenType: 'Bearer', expiresIn },
      refreshCookie(refreshToken ?? cookie.value, secure, lifetime),
    )
  }
}
