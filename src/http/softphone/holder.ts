// Who calls one of our own endpoints: by Bearer token, or by a page's cookie.

import type { Guard, Identity } from '../../auth/check.ts'
import { readHolder } from '../credential.ts'
import type { JudgeGuess } from '../machine-key.ts'
import type { Reply } from '../reply.ts'
import type { Handler, Request } from '../request.ts'
import type { Site } from '../site.ts'
import { refusal } from './reply.ts'

export interface HolderParts {
  guard: Guard
  site: Site
  judgeGuess: JudgeGuess
}

type Answer = (holder: Identity, request: Request) => Reply | Promise<Reply>

/** Answers only whoever holds a valid token. */
export const forHolder =
  ({ guard, site, judgeGuess }: HolderParts, answer: Answer, takesKeys = false): Handler =>
  async (request) => {
    const credential = readHolder(request.headers, site)
    const keyFrom = takesKeys && 'inHeader' in credential ? request.address : undefined
    const holder =
      'refused' in credential
        ? credential
        : await guard.identify(credential.token, 'access', keyFrom)
    if (!('refused' in holder)) return answer(holder, request)
    const events = judgeGuess(request, holder)
    return { ...refusal(holder, site.blame(request.headers)), events }
  }
