// Which pages are this site's own, and whether browsers reach it over https. Browsers tell where a request comes from in
// two ways; curl and scripts tell nothing, and cannot be tricked into sending somebody's cookie.

import type { Headers } from './headers.ts'
import { failure, type Reply } from './reply.ts'

const OWN = new Set(['same-origin', 'none']) // none: typed in or a bookmark; same-site: another host's page
const OWN_PORT = /^(?:(http:.+):80|(https:.+):443)$/
const PORT = /:\d*$/
const LOOPBACK = /^https?:\/\/(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?$/
const LONGEST = 256 // of what a stranger wrote, in a line of the log

interface Origin {
  secure: boolean
  /** As browsers write it; undefined where nothing says it. */
  text: string | undefined
}

/** By nginx's own words ($scheme and $http_host; the Host that reaches the daemon is never used). */
const byNginx =
  (alwaysSecure: boolean) =>
  (headers: Headers): Origin => {
    const scheme = alwaysSecure ? 'https' : headers.get('x-forwarded-proto')
    const host = headers.get('x-forwarded-host')?.toLowerCase()
    const written = scheme !== undefined && host !== undefined ? `${scheme}://${host}` : undefined
    const [, http, https] = OWN_PORT.exec(written ?? '') ?? []
    return {
      // Said twice it is in doubt, and counts as https: no plain page can set the cookie that counts then.
      secure: scheme === 'https' || headers.isRepeated('x-forwarded-proto'),
      text: http ?? https ?? written,
    }
  }

/**
 * The listed one of the request's Host, from which a proxy in front may have taken the port. Where that says nothing, or
 * may mean several, an https one counts: again, no plain page can set its cookie.
 */
const byList = (origins: readonly string[], alwaysSecure: boolean) => {
  const isHttps = (origin: string): boolean => origin.startsWith('https:')
  const ranked = origins.toSorted((one, other) => Number(isHttps(other)) - Number(isHttps(one)))
  const keys: readonly ((host: string, origin: string) => string)[] = [
    (host) => host,
    (host, origin) => `${host}:${isHttps(origin) ? 443 : 80}`,
    (host) => host.replace(PORT, ''),
  ]
  const known = new Map<string, string>()
  for (const keyOf of keys) {
    for (const origin of ranked) {
      const key = keyOf(origin.replace(/^https?:\/\//, ''), origin)
      if (!known.has(key)) known.set(key, origin)
    }
  }
  return (headers: Headers): Origin => {
    const host = headers.get('x-forwarded-host')?.toLowerCase() ?? ''
    const text = known.get(host) ?? known.get(host.replace(PORT, ''))
    const secure = text === undefined ? origins.some(isHttps) : isHttps(text)
    return { secure: alwaysSecure || secure, text }
  }
}

/** `origins`: as browsers write them; none: what nginx says of each request. */
export const createSite = (origins: readonly string[], cookies: 'auto' | 'always') => {
  const always = cookies === 'always'
  const originOf = origins.length > 0 ? byList(origins, always) : byNginx(always)
  const listed = new Set(origins)
  const isOwn = (origin: string, headers: Headers): boolean =>
    listed.size > 0 ? listed.has(origin) : origin === originOf(headers).text
  /** What such a refusal leaves in the log: only the operator knows whether the two are one site. */
  const blame = (headers: Headers): Pick<Reply, 'reason' | 'detail'> => {
    const said = ['origin', 'sec-fetch-site'].map((name) => headers.get(name)?.slice(0, LONGEST))
    const own = (originOf(headers).text ?? origins.join(' ')).slice(0, LONGEST)
    return { reason: 'cross_site', detail: { origin: said[0], fetchSite: said[1], own } }
  }
  return {
    /** Whether the page is https, where its cookies are Secure and named so. */
    isSecure: (headers: Headers): boolean => originOf(headers).secure,
    /** Whether the page is of this very machine, where browsers treat plain http as safe. */
    isLoopback: (headers: Headers): boolean => LOOPBACK.test(originOf(headers).text ?? ''),
    /** Whether another site's page made the browser send this (ASVS 3.5.1–3.5.3). */
    isCrossSite(headers: Headers, isWebSocket = false): boolean {
      if (headers.isRepeated('origin') || headers.isRepeated('sec-fetch-site')) return true
      const site = headers.get('sec-fetch-site')
      if (site !== undefined && !OWN.has(site)) return true
      // Not every browser sends it with a WebSocket. A form of a page without referrers has it beside `Origin: null`.
      if (site !== undefined && !isWebSocket) return false
      // Browsers send Origin with every WebSocket, and none with a GET of the same origin.
      const origin = headers.get('origin')
      return origin === undefined ? isWebSocket : !isOwn(origin, headers)
    },
    blame,
    /** To whoever is refused: a person who reads it is on a page of this site that nobody listed, or on another's. */
    refuse: (headers: Headers, what: string): Reply =>
      failure(
        403,
        `Cross-site ${what} is refused: use a page of this site itself. If this is one, its operator adds its address to site.origins`,
        blame(headers),
      ),
  }
}

export type Site = ReturnType<typeof createSite>
