// POST /auth/refresh: the refresh token as Bearer, a new access token out.

import type { Refresh, RefreshResult } from '../../auth/refresh.ts'
import type { Tokens } from '../../auth/token.ts'
import { type CookieSecurity, isSecure } from '../cookie.ts'
import { readAccessCookie, readBearer } from '../credential.ts'
import type { Headers } from '../headers.ts'
import { refreshEvents } from '../refresh-events.ts'
import { challenge } from '../reply.ts'
import type { Handler } from '../request.ts'
import { accessCookie, failure, success } from './reply.ts'

export const createRefreshHandler = (parts: {
  refresh: Refresh
  verify: Tokens['verify']
  cookieSecurity: CookieSecurity
  now(): number
  observe(result: RefreshResult): void
}): Handler => {
  const { refresh, verify, cookieSecurity, now, observe } = parts
  /** A page that logged in with a cookie gets its token renewed there, if the cookie is of this session. */
  const renewCookie = async (
    headers: Headers,
    { session, accessToken, expiresIn }: Extract<RefreshResult, { outcome: unknown }>,
  ): Promise<string[]> => {
    const secure = isSecure(headers, cookieSecurity)
    const shown = readAccessCookie(headers, secure, false)
    const claims = 'refused' in shown ? shown : await verify(shown.token)
    const own = !('refused' in claims) && claims.sid === session.sid
    return own ? accessCookie(accessToken, secure, expiresIn) : []
  }

  return async ({ headers }) => {
    const credential = readBearer(headers)
    if ('refused' in credential) {
      observe({ refused: 'invalid' })
      return failure(401, 'A refresh token is required', now(), {
        headers: ['WWW-Authenticate', challenge(credential)],
      })
    }
    const result = await refresh(credential.token)
    observe(result)
    if ('unavailable' in result) {
      return failure(503, 'Try again later', now(), {
        headers: ['Retry-After', String(result.retryAfter)],
      })
    }
    if (!('refused' in result)) {
      const { accessToken, expiresIn, refreshToken } = result
      return success(
        {
          access_token: accessToken,
          token_type: 'Bearer',
          expires_in: expiresIn,
          ...(refreshToken !== undefined && { refresh_token: refreshToken }),
        },
        [],
        await renewCookie(headers, result),
      )
    }
    if (result.refused === 'wrong_type') {
      return failure(403, 'A refresh token is required, not an access token', now())
    }
    return failure(401, 'Invalid or expired refresh token', now(), {
      headers: ['WWW-Authenticate', challenge({ refused: 'expired' })],
      events: refreshEvents(result),
    })
  }
}
