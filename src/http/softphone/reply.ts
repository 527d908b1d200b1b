// The softphone dialect's two shapes of an answer.

import { writeCookie } from '../cookie.ts'
import { accessCookieName } from '../credential.ts'
import type { Refusal } from '../../auth/decision.ts'
import {
  challenge,
  type ErrorShape,
  failure as fail,
  json,
  type Reply,
  type SecurityEvent,
} from '../reply.ts'

export const shape: ErrorShape = (error, now) => ({ success: false, error, timestamp: now })

export const success = (
  body: Readonly<Record<string, unknown>>,
  events: readonly SecurityEvent[] = [],
  headers: readonly string[] = [],
): Reply => ({ ...json(200, { success: true, ...body }, headers), events })

/** Who holds no token that counts here: 403 for a refresh token and for another site's page, else 401. */
export const refusal = ({ refused }: Refusal, now: number): Reply => {
  if (refused === 'wrong_type') {
    return failure(403, 'An access token is required, not a refresh token', now, {
      headers: ['WWW-Authenticate', challenge({ refused: 'no_grant' })],
      reason: refused,
    })
  }
  if (refused === 'cross_site') {
    return failure(403, 'Cross-site use of the cookie is refused', now, { reason: refused })
  }
  return failure(401, 'Invalid or expired token', now, {
    headers: ['WWW-Authenticate', challenge({ refused })],
    reason: refused,
  })
}

export const failure = (
  status: 400 | 401 | 403 | 404 | 429 | 503,
  error: string,
  now: number,
  more: {
    headers?: readonly string[]
    events?: readonly SecurityEvent[]
    reason?: Reply['reason']
  } = {},
): Reply => ({
  ...fail(shape, status, error, now, more.headers),
  events: more.events ?? [],
  reason: more.reason,
})

/** The access cookie of a page: it lives as long as the token in it, and goes where no script reads it. */
export const accessCookie = (token: string, secure: boolean, lifetime: number): string[] => [
  'Set-Cookie',
  writeCookie(accessCookieName(secure), token, { secure, maxAge: lifetime }),
]
