// What a refresh leaves in the security log and the metrics, whichever dialect it came in.

import type { RefreshResult } from '../auth/refresh.ts'
import type { SecurityEvent } from './reply.ts'

/** A rotated token that comes back was copied by somebody: said once, when the session ends by it. */
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
