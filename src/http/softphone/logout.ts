// POST /auth/logout: by the access or the refresh token, even an expired one; doing it twice is no error.

import type { Logout } from '../../auth/logout.ts'
import { type CookieSecurity, isSecure } from '../cookie.ts'
import { readHolder } from '../credential.ts'
import type { Handler } from '../request.ts'
import { accessCookie, refusal, success } from './reply.ts'

export const createLogoutHandler = (parts: {
  logout: Logout
  cookieSecurity: CookieSecurity
  now(): number
}): Handler => {
  const { logout, cookieSecurity, now } = parts
  return async ({ headers, query }) => {
    const secure = isSecure(headers, cookieSecurity)
    const credential = readHolder(headers, secure)
    if ('refused' in credential) return refusal(credential, now())
    const everywhere = new URLSearchParams(query).get('all') === 'true'
    const result = await logout.byToken(credential.token, everywhere)
    if ('refused' in result) return refusal({ refused: 'bad_signature' }, now())
    const cleared = headers.get('cookie') === undefined ? [] : accessCookie('', secure, 0)
    return {
      ...success({ message: 'Logged out successfully' }, cleared),
      events: [{ name: 'LOGOUT', message: 'logged out', user: result.username }],
    }
  }
}
