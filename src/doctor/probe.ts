// What an address is to strangers and to pages, tried for real through nginx. A stranger without a token, with a bad one,
// with headers of their own, by other spellings of the same path: none of it may be let in. A page of the address itself
// must not be taken for another site's.

import { findCertificateFault } from '../files/certificates.ts'
import { sendRequest } from '../http-client.ts'
import { type Finding, ok, problem, warning } from './finding.ts'

const TIMEOUT = 5 // seconds
const CURE = 'protect this location: action, resource, and `include postern/postern-protect.conf`'

/** What of the configuration a page depends on. */
export interface PageTerms {
  site: { origins: readonly string[] }
  softphone: { basePath: string }
  mikopbx: { basePath: string }
}

/** As a browser without Sec-Fetch-Site says it, with cookies that are none: they change nothing, and open nothing. */
const probePage = async (url: URL, { site, softphone, mikopbx }: PageTerms): Promise<Finding> => {
  const { origin } = url
  const headers = { Origin: origin, Cookie: '__Host-postern=x; postern=x' }
  const asked = { url, headers, timeout: TIMEOUT, maxBytes: 0 }
  const exchanges = [
    await sendRequest({ method: 'GET', path: `${softphone.basePath}/profile`, ...asked }),
    await sendRequest({ method: 'POST', path: `${mikopbx.basePath}/auth:refresh`, ...asked }),
  ]
  const statuses = new Set(
    exchanges.map((exchange) => ('failed' in exchange ? 0 : exchange.status)),
  )
  if (statuses.has(403)) {
    const written = site.origins.includes(origin)
      ? `postern reload: site.origins has "${origin}", and the daemon has not read it`
      : site.origins.length > 0
        ? `add "${origin}" to site.origins in postern.toml, and postern reload`
        : `write origins = ["${origin}"] below [site] in postern.toml, and postern reload`
    const text = 'its pages count as another site’s: logins and WebSockets by cookie are refused'
    return problem('origin', origin, text, written)
  }
  if (statuses.has(401)) return ok('origin', origin, 'its pages count as this site’s own')
  const text = 'no token endpoint answers there: whether its pages count as our own is not known'
  return warning('origin', origin, text, 'look for cross_site in the log of the daemon')
}

const spellings = (path: string): string[] => {
  const last = path.lastIndexOf('/')
  const name = path.slice(last + 1)
  const hex = (text: string): string => `%${text.charCodeAt(0).toString(16)}`
  return [
    `/${path}`,
    `/.${path}`,
    `${path.slice(0, last)}/x/..${path.slice(last)}`,
    `${path.slice(0, last)}%2f${name}`,
    `${path.slice(0, last + 1)}${hex(name)}${name.slice(1)}`,
    `${path.slice(0, last)}/%2e/${name}`,
    `${path}?token=x&authorization=y`,
    path.toUpperCase(),
    `${path}/`,
    `${path};x=1`,
    `${path}%00`,
  ]
}

/** `url` names something that is there and protected; without `terms` no page is tried. One finding a probe. */
export const probe = async (url: URL, terms?: PageTerms): Promise<Finding[]> => {
  const path = url.pathname
  const forged = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'
  const tries: readonly (readonly [string, string, Record<string, string>])[] = [
    ['without a token', path, {}],
    ['with a forged token', path, { Authorization: `Bearer ${forged}` }],
    ['with identity headers of its own', path, { 'X-Auth-User': 'admin', 'X-Auth-Role': 'admin' }],
    [
      'with the headers of a check of its own',
      path,
      { 'X-Auth-Action': 'read', 'X-Auth-Resource': 'public', 'X-Original-URI': '/' },
    ],
    ['with an address of its own', path, { 'X-Forwarded-For': '127.0.0.1', 'X-Real-IP': '::1' }],
    ...spellings(path).map((spelling) => [`as ${spelling}`, spelling, {}] as const),
  ]
  const where = `${url.origin}${path}`
  const judge = async (
    how: string,
    spelling: string,
    headers: Readonly<Record<string, string>>,
  ): Promise<Finding> => {
    const fault = (text: string, cure: string) => problem('probe', where, `${how}: ${text}`, cure)
    const asked = { url, path: spelling, headers, timeout: TIMEOUT, maxBytes: 0 }
    const exchange = await sendRequest({ method: 'GET', ...asked })
    if ('failed' in exchange) {
      const cure = findCertificateFault(exchange.failed) ?? 'is nginx up, and is this its address?'
      return fault(`no answer (${exchange.failed})`, cure)
    }
    const { status, headers: answered } = exchange
    if (status < 400) return fault(`answered ${status}`, CURE)
    if (spelling === path && status !== 401) {
      const cure = 'name an address that is there and protected'
      return warning('probe', where, `${how}: answered ${status} and not 401`, cure)
    }
    if (status === 401 && !/^Bearer\b/.test(answered['www-authenticate'] ?? '')) {
      const cure = 'take the error locations of postern-server.conf'
      return fault('401 without WWW-Authenticate', cure)
    }
    return ok('probe', where, `${how}: refused (${status})`)
  }
  const findings: Finding[] = []
  for (const one of tries) findings.push(await judge(...one))
  if (terms) findings.push(await probePage(url, terms))
  return findings
}
