// POST /auth/logout: by the access or the refresh token, also a late one; saying it twice is no error.

import type { Logout } from '../../auth/logout.ts'
import { readBearer } from '../credential.ts'
import { challenge } from '../reply.ts'
import type { Handler } from '../request.ts'
import { failure, success } from './reply.ts'

export const createLogoutHandler = (parts: { logout: Logout; now(): number }): Handler => {
  const { logout, now } = parts
  return async ({ headers, query }) => {
    const credential = readBearer(headers)
    const result =
      'refused' in credential
        ? undefined
        : await logout.byToken(credential.token, new URLSearchParams(query).get('all') === 'true')
    if (!result || 'refused' in result) {
      const refusal = 'refused' in credential ? credential : { refused: 'bad_signature' as const }
      return failure(401, 'Unauthorized', now(), {
        headers: ['WWW-Authenticate', challenge(refusal)],
      })
    }
    return success({ message: 'Logged out successfully' }, [
      { name: 'LOGOUT', message: 'logged out', user: result.username },
    ])
  }
}
