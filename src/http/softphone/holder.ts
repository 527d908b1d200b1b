// Who calls one of our own endpoints: by Bearer token, or by a page's cookie.

import type { Guard, Identity } from '../../auth/check.ts'
import { type CookieSecurity, isSecure } from '../cookie.ts'
import { readHolder } from '../credential.ts'
import type { Reply } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import { refusal } from './reply.ts'

export interface HolderParts {
  guard: Guard
  cookieSecurity: CookieSecurity
  now(): number
}

/** Answers only whoever holds a valid token. */
export const forHolder =
  (
    { guard, cookieSecurity, now }: HolderParts,
    answer: (holder: Identity, request: Request) => Reply | Promise<Reply>,
  ): Handler =>
  async (request) => {
    const credential = readHolder(request.headers, isSecure(request.headers, cookieSecurity))
    const holder = 'refused' in credential ? credential : await guard.identify(credential.token)
    return 'refused' in holder ? refusal(holder, now()) : answer(holder, request)
  }
