// The mikopbx dialect's envelope, and the one cookie it knows.

import { writeCookie } from '../cookie.ts'
import { type ErrorShape, failure as fail, json, type Reply, type SecurityEvent } from '../reply.ts'

export const REFRESH_COOKIE = 'refreshToken'

export const shape: ErrorShape = (error) => ({
  result: false,
  data: {},
  messages: { error: [error] },
})

export const success = (
  data: Readonly<Record<string, unknown>>,
  headers: readonly string[] = [],
  events: readonly SecurityEvent[] = [],
): Reply => ({ ...json(200, { result: true, data, messages: {} }, headers), events })

export const failure = (
  status: 400 | 401 | 403 | 429 | 503,
  error: string,
  now: number,
  headers: readonly string[] = [],
  events: readonly SecurityEvent[] = [],
): Reply => ({ ...fail(shape, status, error, now, headers), events })

/** `lifetime` in seconds; undefined: the cookie goes with the browser. */
export const refreshCookie = (token: string, secure: boolean, lifetime?: number): string[] => [
  'Set-Cookie',
  writeCookie(REFRESH_COOKIE, token, {
    secure,
    ...(lifetime !== undefined && { maxAge: lifetime }),
  }),
]

/** Cleared with the attributes it was set with, else the browser keeps the old one beside it. */
export const clearedCookie = (secure: boolean): string[] => refreshCookie('', secure, 0)
