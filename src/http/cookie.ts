// Cookies in and out. Names are compared byte by byte (a browser's prefix rule does not know case, so
// `__host-x` may be anybody's), and two values under one name mean that somebody planted one of them.

import { isBlank, trimBlanks } from './headers.ts'

export type CookieRead = { value: string } | { problem: 'missing' | 'ambiguous' }

/** The one value of a cookie in a Cookie line (RFC 6265bis §5.4); their order means nothing, so two must be equal. */
export const readCookie = (line = '', name: string): CookieRead => {
  let found: string | undefined
  // From name to name: a stranger's 32 KiB of semicolons would be as many pairs, and 2.7 ms of every check.
  for (let at = line.indexOf(name); at >= 0; at = line.indexOf(name, at + 1)) {
    let start = at
    let equals = at + name.length
    while (start > 0 && isBlank(line[start - 1])) start--
    while (isBlank(line[equals])) equals++
    if ((start > 0 && line[start - 1] !== ';') || line[equals] !== '=') continue
    const end = line.indexOf(';', equals)
    const written = line.slice(equals + 1, end < 0 ? undefined : end)
    const value = trimBlanks(written).replace(/^"(.*)"$/, '$1')
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
