// Who calls one of our own endpoints: by Bearer token, or by a page's cookie.

import type { Guard, Identity } from '../../auth/check.ts'
import { readHolder } from '../credential.ts'
import type { Reply } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import type { Site } from '../site.ts'
import { refusal } from './reply.ts'

export interface HolderParts {
  guard: Guard
  site: Site
  now(): number
}

/** Answers only whoever holds a valid token. */
export const forHolder =
  (
    { guard, site, now }: HolderParts,
    answer: (holder: Identity, request: Request) => Reply | Promise<Reply>,
  ): Handler =>
  async (request) => {
    const credential = readHolder(request.headers, site)
    const holder = 'refused' in credential ? credential : await guard.identify(credential.token)
    return 'refused' in holder
      ? refusal(holder, now(), site.blame(request.headers))
      : answer(holder, request)
  }
