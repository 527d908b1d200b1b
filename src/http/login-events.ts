// What a login leaves in the security log, whichever dialect it came in. Which of name and password was wrong
// stands here and nowhere the client can see (ASVS 6.3.8).

import type { LoginFailure, LoginResult } from '../auth/login.ts'
import type { SecurityEvent } from './reply.ts'

const FAILURES: Readonly<Record<LoginFailure, string>> = {
  unknown_user: 'unknown user',
  wrong_password: 'wrong password',
  disabled: 'user is disabled',
}

export const loginEvents = (user: string, result: LoginResult): SecurityEvent[] => {
  if ('issued' in result) {
    return [{ name: 'AUTH_SUCCESS', message: 'logged in', user, sid: result.issued.session.sid }]
  }
  if ('refused' in result) return [{ name: 'AUTH_FAILED', message: FAILURES[result.refused], user }]
  if (!('throttled' in result) || !result.first) return []
  return [{ name: 'BANNED', message: `too many failed logins (${result.throttled})`, user }]
}

/** The metric label of a login: one word of a closed list. */
export const loginLabel = (result: LoginResult): string => {
  if ('issued' in result) return 'succeeded'
  if ('refused' in result) return result.refused
  return 'throttled' in result ? 'throttled' : result.unavailable
}
