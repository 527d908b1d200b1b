// Whether a request that carries a cookie was made by a page of this very site. Browsers tell in two ways;
// curl and scripts tell nothing, and cannot be tricked into sending somebody's cookie.

import type { Headers } from './headers.ts'

const OWN = new Set(['same-origin', 'none']) // none: typed in or a bookmark; same-site: another host's page

/** True when another site's page made the browser send this (ASVS 3.5.1–3.5.3). */
export const isCrossSite = (headers: Headers): boolean => {
  if (headers.isRepeated('origin') || headers.isRepeated('sec-fetch-site')) return true
  const site = headers.get('sec-fetch-site')
  if (site !== undefined && !OWN.has(site)) return true
  const origin = headers.get('origin')
  if (origin === undefined) return false
  // Both are nginx's own words ($scheme, $http_host): the Host that reaches the daemon is never used.
  const proto = headers.get('x-forwarded-proto')
  const host = headers.get('x-forwarded-host')
  return proto === undefined || host === undefined || origin !== `${proto}://${host}`
}
