// POST /auth/refresh: the refresh token as Bearer, a new access token out.

import type { Refresh, RefreshResult } from '../../auth/refresh.ts'
import { readBearer } from '../credential.ts'
import { refreshEvents } from '../refresh-events.ts'
import { challenge } from '../reply.ts'
import type { Handler } from '../request.ts'
import { failure, success } from './reply.ts'

export const createRefreshHandler = (parts: {
  refresh: Refresh
  now(): number
  observe(result: RefreshResult): void
}): Handler => {
  const { refresh, now, observe } = parts
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
      return success({
        access_token: result.accessToken,
        token_type: 'Bearer',
        expires_in: result.expiresIn,
        ...(result.refreshToken !== undefined && { refresh_token: result.refreshToken }),
      })
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
