// What a check is about, as nginx names it.

import type { Request } from './request.ts'

/** Undefined where its percent signs spell no text. */
export const decodePercent = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/**
 * The resource in the path: nginx has decoded and resolved what the client wrote, and escaped it again byte by byte. In
 * a header it would be trimmed, and a CR LF in it would be a header of the client's choice. Undefined where it is not
 * UTF-8, of which every byte sequence has one spelling alone.
 */
export const readResource = ({ id }: Request): string | undefined =>
  id.includes('%') ? decodePercent(id) : id

const OLD_RESOURCE = /^[A-Za-z0-9._:/-]+$/ // all that the captures of 0.1.0 let through

/** In a header, as nginx asks by the files of 0.1.0, which stay in force until it is reloaded. */
export const readOldResource = ({ headers }: Request): string | undefined => {
  const resource = headers.get('x-auth-resource')
  return resource !== undefined && OLD_RESOURCE.test(resource) ? resource : undefined
}
