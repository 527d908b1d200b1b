// POST /auth/refresh: the refresh token as Bearer, a new access token out.

import type { RefreshResult } from '../../auth/refresh.ts'
import type { Tokens } from '../../auth/token.ts'
import { readAccessCookie, readBearer } from '../credential.ts'
import type { Headers } from '../headers.ts'
import { type RefreshParts, refuseRefresh } from '../refresh.ts'
import { challenge, failure } from '../reply.ts'
import type { Handler } from '../request.ts'
import type { Site } from '../site.ts'
import { accessCookie, success } from './reply.ts'

export const createRefreshHandler = (
  parts: RefreshParts & { tokens: Pick<Tokens, 'verify'>; site: Site },
): Handler => {
  const { refresh, tokens, site, observe } = parts
  /** Where a page logged in with a cookie, its cookie is renewed too, if it belongs to this session. */
  const renewCookie = async (
    headers: Headers,
    { session, accessToken, expiresIn }: Extract<RefreshResult, { outcome: unknown }>,
  ): Promise<string[]> => {
    const shown = readAccessCookie(headers, site)
    const claims = 'refused' in shown ? shown : await tokens.verify(shown.token)
    const own = !('refused' in claims) && claims.sid === session.sid
    return own ? accessCookie(accessToken, site.isSecure(headers), expiresIn) : []
  }

  return async ({ headers }) => {
    const credential = readBearer(headers)
    if ('refused' in credential) {
      observe.refresh({ refused: 'invalid' })
      return failure(401, 'A refresh token is required', {
        headers: ['WWW-Authenticate', challenge(credential)],
      })
    }
    const result = await refresh(credential.token)
    observe.refresh(result)
    if ('refused' in result && result.refused === 'wrong_type') {
      return failure(403, 'A refresh token is required, not an access token')
    }
    if (!('outcome' in result)) return refuseRefresh(result)
    const { accessToken, expiresIn, refreshToken } = result
    return success(
      {
        access_token: accessToken,
        token_type: 'Bearer',
        expires_in: expiresIn,
        refresh_token: refreshToken, // left out of the JSON where nothing rotates
      },
      await renewCookie(headers, result),
    )
  }
}
