// Cookies in and out. Names are compared byte by byte (a browser's prefix rule does not know case, so
// `__host-x` may be anybody's), and two values under one name mean that somebody planted one of them.

import { trimBlanks } from './headers.ts'

export type CookieRead = { value: string } | { problem: 'missing' | 'ambiguous' }

/** The one value of a cookie in a Cookie line (RFC 6265bis §5.4); their order means nothing, so two must be equal. */
export const readCookie = (line: string | undefined, name: string): CookieRead => {
  let found: string | undefined
  for (const pair of (line ?? '').split(';')) {
    const equals = pair.indexOf('=')
    if (equals < 0 || trimBlanks(pair.slice(0, equals)) !== name) continue
    const value = trimBlanks(pair.slice(equals + 1)).replace(/^"(.*)"$/, '$1')
    if (found !== undefined && found !== value) return { problem: 'ambiguous' }
    found = value
  }
  return found === undefined || found === '' ? { problem: 'missing' } : { value: found }
}

/** `maxAge` in seconds; without it the cookie lasts until the browser closes, 0 clears it. */
export const writeCookie = (
  name: string,
  value: string,
  options: { secure: boolean; maxAge?: number | undefined },
): string => {
  const parts = [`${name}=${value}`, 'Path=/', 'HttpOnly', 'SameSite=Strict']
  if (options.secure) parts.push('Secure')
  if (options.maxAge !== undefined) parts.push(`Max-Age=${options.maxAge}`)
  return parts.join('; ')
}
