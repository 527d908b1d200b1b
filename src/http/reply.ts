// What a handler answers, as a value. One table turns a reason into a status: nginx takes only 401 and 403 for a
// refusal, and makes a 500 of anything else that is not 2xx.

import { type Reason, REASONS, type Refusal } from '../auth/decision.ts'

/** A line of the security log, for jails and people. */
export interface SecurityEvent {
  name:
    | 'AUTH_SUCCESS'
    | 'AUTH_FAILED'
    | 'LOGOUT'
    | 'MEDIA_ACCESS_DENIED'
    | 'SUBSCRIBE_DENIED'
    | 'REFRESH_REUSED'
    | 'SESSION_ENDED'
    | 'BANNED'
    | 'MACHINE_KEY_ADDED'
    | 'MACHINE_KEY_REMOVED'
    | 'MACHINE_KEY_DENIED'
  message: string
  user?: string | undefined
  sid?: string | undefined
}

export interface Reply {
  status: number
  /** Name, value, name, value …: written as they stand. */
  headers: readonly string[]
  /** Cache-Control; without it: no-store. */
  cache?: string
  /** None: an empty answer, which keeps nginx's upstream connection alive. */
  body?: string
  /** In the place of a body: what went wrong. The server tells it as the route's clients expect it. */
  error?: string
  events?: readonly SecurityEvent[]
  /** Called once the answer is written. */
  afterwards?(): void
  /** For the log line. */
  reason?: Reason | undefined
  /** Beside the reason, what the operator needs to see. */
  detail?: Readonly<Record<string, string | undefined>> | undefined
}

/** The credential is good, or means nothing here: another one would not help. Any other reason is a 401. */
const FORBIDDEN: ReadonlySet<Reason> = new Set([
  'unknown_role',
  'bad_action',
  'bad_resource',
  'cross_site',
  'limit',
  'unknown_call',
  'no_grant',
])

export const STATUS = Object.fromEntries(
  REASONS.map((reason) => [reason, FORBIDDEN.has(reason) ? 403 : 401]),
) as Readonly<Record<Reason, 401 | 403>>

/** RFC 6750 §3: no code where nothing was shown, and one for all the ways a token can be bad. */
export const challenge = ({ refused }: Refusal): string => {
  if (refused === 'no_credential') return 'Bearer realm="postern"'
  if (refused === 'invalid_request') return 'Bearer realm="postern", error="invalid_request"'
  return STATUS[refused] === 403
    ? 'Bearer realm="postern", error="insufficient_scope"'
    : 'Bearer realm="postern", error="invalid_token"'
}

export const json = (
  status: number,
  body: Readonly<Record<string, unknown>>,
  headers: readonly string[] = [],
): Reply => ({
  status,
  headers: ['Content-Type', 'application/json; charset=utf-8', ...headers],
  body: JSON.stringify(body),
})

/** The body of an error, as one dialect's clients expect it. */
export type ErrorShape = (error: string, now: number) => Readonly<Record<string, unknown>>

export const failure = (
  status: number,
  error: string,
  more: Partial<Pick<Reply, 'headers' | 'events' | 'reason' | 'detail'>> = {},
): Reply => ({ status, error, headers: [], ...more })

/** In how many seconds to try again. */
export const retryAfter = (seconds: number): string[] => ['Retry-After', String(seconds)]
