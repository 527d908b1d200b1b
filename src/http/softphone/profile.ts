// GET /profile: who the access token stands for. A refresh token is told that it is one (403), also after
// its session has ended, so that a client's mix-up is found.

import type { Handler } from '../request.ts'
import { type HolderParts, identifyHolder } from './holder.ts'
import { refusal, success } from './reply.ts'

export const createProfileHandler =
  (parts: HolderParts): Handler =>
  async (request) => {
    const holder = await identifyHolder(request, parts)
    if ('refused' in holder) return refusal(holder, parts.now())
    const { claims, role } = holder
    return success({ user: { id: Number(claims.sub), username: claims.username, role } })
  }
