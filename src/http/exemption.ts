// Whom a location of nginx lets in without a login, by `set $postern_exempt`: a network, or everybody. Only nginx can
// say it: the check location lets no header of the client through.

import { isAction, isResource } from '../auth/grants.ts'
import type { Headers } from './headers.ts'
import type { Site } from './site.ts'

/** Let in without a login. */
export interface Exemption {
  /** The name that the operator gives whoever comes from there, or `-`. */
  readonly exempt: string
  readonly resource: string
}

/**
 * An address is a credential that a browser shows by itself, as it does a cookie: a page of another site that sends a
 * request from there, or could read the answer, needs a login: a script tag needs no Origin, and runs what it is given. A
 * link, and a preflight, do and show nothing.
 */
const isOfAnotherSite = (headers: Headers, site: Pick<Site, 'isCrossSite'>): boolean => {
  const method = headers.get('x-original-method')
  if (method === 'OPTIONS') return false
  const hasOrigin = headers.get('origin') !== undefined || headers.isRepeated('origin')
  const mode = headers.isRepeated('sec-fetch-mode') ? '' : headers.get('sec-fetch-mode')
  const mayNavigate = mode === undefined || mode === 'navigate'
  const isLink = !hasOrigin && mayNavigate && (method === 'GET' || method === 'HEAD')
  return !isLink && site.isCrossSite(headers)
}

/** Undefined: a login is needed. So it is where nginx names nothing that could be granted, or what is a user's own. */
export const readExemption = (
  headers: Headers,
  site: Pick<Site, 'isCrossSite'>,
  action: string | undefined,
  resource: string | undefined,
): Exemption | undefined => {
  const exempt = headers.get('x-auth-exempt')
  if (exempt === undefined || exempt === '' || isOfAnotherSite(headers, site)) return undefined
  if (action === undefined || !isAction(action)) return undefined
  if (resource === undefined || !isResource(resource)) return undefined
  if (action === 'subscribe' && resource.startsWith('me/')) return undefined
  return { exempt: Buffer.from(exempt, 'latin1').toString(), resource } // as Node hands bytes over
}
