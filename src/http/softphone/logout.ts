// POST /auth/logout: by the access or the refresh token, even an expired one; doing it twice is no error.

import type { Logout } from '../../auth/logout.ts'
import { readHolder } from '../credential.ts'
import type { Handler } from '../request.ts'
import type { Site } from '../site.ts'
import { accessCookie, refusal, success } from './reply.ts'

export const createLogoutHandler = (parts: { logout: Logout; site: Site }): Handler => {
  const { logout, site } = parts
  return async ({ headers, query }) => {
    const credential = readHolder(headers, site)
    if ('refused' in credential) return refusal(credential, site, headers)
    const everywhere = new URLSearchParams(query).get('all') === 'true'
    const result = await logout.byToken(credential.token, everywhere)
    if ('refused' in result) return refusal({ refused: 'bad_signature' }, site, headers)
    const cleared =
      headers.get('cookie') === undefined ? [] : accessCookie('', site.isSecure(headers), 0)
    return {
      ...success({ message: 'Logged out successfully' }, cleared),
      events: [{ name: 'LOGOUT', message: 'logged out', user: result.username }],
    }
  }
}
