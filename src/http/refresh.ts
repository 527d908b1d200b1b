// A refused refresh as both dialects answer it, and what it leaves in the security log.

import type { Refresh, RefreshResult } from '../auth/refresh.ts'
import { challenge, failure, type Reply, retryAfter, type SecurityEvent } from './reply.ts'

/** A rotated token that comes back has been copied: logged once, when that ends the session. */
export const refreshEvents = (result: RefreshResult): SecurityEvent[] =>
  'refused' in result && result.refused === 'reused' && result.ended
    ? [
        {
          name: 'REFRESH_REUSED',
          message: `session ${result.ended.sid} ended: a rotated refresh token came back`,
          user: result.ended.username,
          sid: result.ended.sid,
        },
      ]
    : []

/** The metric label of a refresh: one word of a closed list. */
export const refreshLabel = (result: RefreshResult): string => {
  if ('outcome' in result) return result.outcome
  return 'refused' in result ? result.refused : result.unavailable
}

export interface RefreshParts {
  refresh: Refresh
  observe: { refresh(result: RefreshResult): void }
}

/** `headers`: what the dialect adds where the token is no longer valid. */
export const refuseRefresh = (
  result: Exclude<RefreshResult, { outcome: unknown }>,
  headers: readonly string[] = [],
): Reply =>
  'unavailable' in result
    ? failure(503, 'Try again later', { headers: retryAfter(result.retryAfter) })
    : failure(401, 'Invalid or expired refresh token: log in again', {
        headers: ['WWW-Authenticate', challenge({ refused: 'expired' }), ...headers],
        events: refreshEvents(result),
      })
