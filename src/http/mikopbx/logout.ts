// POST /auth:logout: by the Bearer token, even an expired one, or the refresh cookie, or both. The cookie is cleared
// whatever it held.

import type { Logout, LogoutResult } from '../../auth/logout.ts'
import { isTextBody, parseFormBody, parseJsonBody } from '../body.ts'
import { readCookie } from '../cookie.ts'
import { readBearer } from '../credential.ts'
import { challenge, failure } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import type { Site } from '../site.ts'
import { clearedCookie, REFRESH_COOKIE, success } from './reply.ts'

const TRUE = new Set<unknown>([true, 'true', '1'])

const wantsAll = ({ headers, query }: Request, body: Buffer): boolean => {
  const fields = parseJsonBody(headers, body) ?? parseFormBody(headers, body)
  return TRUE.has(new URLSearchParams(query).get('all')) || TRUE.has(fields?.['all'])
}

export const createLogoutHandler = (parts: { logout: Logout; site: Site }): Handler => {
  const { logout, site } = parts
  return async (request) => {
    const { headers } = request
    const bearer = readBearer(headers)
    const cookie = readCookie(headers.get('cookie'), REFRESH_COOKIE)
    const foreign = site.isCrossSite(headers) || isTextBody(headers)
    if (foreign && 'refused' in bearer) {
      return site.refuse(headers, 'use of the refresh cookie')
    }
    const body = await request.body()
    const everywhere = wantsAll(request, body)
    const results: LogoutResult[] = []
    if ('token' in bearer) results.push(await logout.byToken(bearer.token, everywhere))
    if ('value' in cookie && !foreign) {
      results.push(await logout.byRefreshToken(cookie.value, everywhere))
    }
    const cleared = clearedCookie(site.isSecure(headers))
    const done = results.find((result) => 'username' in result)
    if (!done) {
      const refusal = 'refused' in bearer ? bearer : { refused: 'bad_signature' as const }
      // A stale cookie is cleared, or the browser would send it for ever (CVE-2026-34454); never for another site.
      const stale = !foreign && !('problem' in cookie && cookie.problem === 'missing')
      return failure(401, 'Unauthorized: log in, or renew the token', {
        headers: ['WWW-Authenticate', challenge(refusal), ...(stale ? cleared : [])],
      })
    }
    return {
      ...success({ message: 'Logged out successfully' }, cleared),
      events: [{ name: 'LOGOUT', message: 'logged out', user: done.username }],
    }
  }
}
