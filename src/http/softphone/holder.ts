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
}

type Answer = (holder: Identity, request: Request) => Reply | Promise<Reply>

/** Answers only whoever holds a valid token. */
export const forHolder =
  ({ guard, site }: HolderParts, answer: Answer, takesKeys = false): Handler =>
  async (request) => {
    const credential = readHolder(request.headers, site)
    const keyFrom = takesKeys && 'inHeader' in credential ? request.address : undefined
    const holder =
      'refused' in credential
        ? credential
        : await guard.identify(credential.token, 'access', keyFrom)
    return 'refused' in holder ? refusal(holder, site, request.headers) : answer(holder, request)
  }
