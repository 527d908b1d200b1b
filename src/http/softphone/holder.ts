// Whoever asks one of our own endpoints about themselves: by Bearer token, or by a page's cookie.

import type { Decision, Guard } from '../../auth/check.ts'
import { type CookieSecurity, isSecure } from '../cookie.ts'
import { readHolder } from '../credential.ts'
import type { Request } from '../request.ts'

export interface HolderParts {
  guard: Guard
  cookieSecurity: CookieSecurity
  now(): number
}

export const identifyHolder = async (
  { headers }: Request,
  { guard, cookieSecurity }: HolderParts,
): Promise<Decision> => {
  const credential = readHolder(headers, isSecure(headers, cookieSecurity))
  return 'refused' in credential ? credential : guard.identify(credential.token)
}
