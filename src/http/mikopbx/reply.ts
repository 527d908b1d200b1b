// The mikopbx dialect's envelope, and the one cookie it knows.

import { writeCookie } from '../cookie.ts'
import type { Headers } from '../headers.ts'
import { type ErrorShape, failure, json, type Reply } from '../reply.ts'
import { crossSiteWords, type Site } from '../site.ts'

export const REFRESH_COOKIE = 'refreshToken'

export const shape: ErrorShape = (error) => ({
  result: false,
  data: {},
  messages: { error: [error] },
})

export const success = (
  data: Readonly<Record<string, unknown>>,
  headers: readonly string[] = [],
): Reply => json(200, { result: true, data, messages: {} }, headers)

/** `lifetime` in seconds; undefined: until the browser closes. */
export const refreshCookie = (token: string, secure: boolean, lifetime?: number): string[] => [
  'Set-Cookie',
  writeCookie(REFRESH_COOKIE, token, { secure, maxAge: lifetime }),
]

/** With the attributes it was set with, else the browser keeps the old one beside it. */
export const clearedCookie = (secure: boolean): string[] => refreshCookie('', secure, 0)

/** To a page of another site that makes its visitor's browser show the refresh cookie. */
export const refuseForeign = (site: Site, headers: Headers): Reply =>
  failure(403, crossSiteWords('use of the refresh cookie'), site.blame(headers))
