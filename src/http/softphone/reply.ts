// The softphone dialect's two shapes of an answer.

import type { Refusal } from '../../auth/decision.ts'
import { writeCookie } from '../cookie.ts'
import { accessCookieName } from '../credential.ts'
import type { Headers } from '../headers.ts'
import { challenge, type ErrorShape, failure, json, type Reply } from '../reply.ts'
import type { Site } from '../site.ts'

export const shape: ErrorShape = (error, now) => ({ success: false, error, timestamp: now })

export const success = (
  body: Readonly<Record<string, unknown>>,
  headers: readonly string[] = [],
): Reply => json(200, { success: true, ...body }, headers)

/** Whoever holds no valid access token: 403 for a refresh token and for another site's page, else 401. */
export const refusal = ({ refused: reason }: Refusal, site: Site, headers: Headers): Reply => {
  if (reason === 'wrong_type') {
    return failure(403, 'An access token is required, not a refresh token', {
      headers: ['WWW-Authenticate', challenge({ refused: 'no_grant' })],
      reason,
    })
  }
  if (reason === 'cross_site') return site.refuse(headers, 'use of the cookie')
  return failure(401, 'Invalid or expired token: log in, or renew it', {
    headers: ['WWW-Authenticate', challenge({ refused: reason })],
    reason,
  })
}

/** A page's access cookie: it lives as long as the token in it, and no script can read it. */
export const accessCookie = (token: string, secure: boolean, lifetime: number): string[] => [
  'Set-Cookie',
  writeCookie(accessCookieName(secure), token, { secure, maxAge: lifetime }),
]
