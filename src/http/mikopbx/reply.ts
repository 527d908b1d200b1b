// The mikopbx dialect's envelope, and the one cookie it knows.

import { writeCookie } from '../cookie.ts'
import { type ErrorShape, json, type Reply } from '../reply.ts'

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
