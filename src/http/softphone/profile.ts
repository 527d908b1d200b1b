// GET /profile: who the access token stands for. A refresh token is told that it is one (403), also after
// its session has ended, so that a client's mix-up is found.

import type { Handler } from '../request.ts'
import { forHolder, type HolderParts } from './holder.ts'
import { success } from './reply.ts'

export const createProfileHandler = (parts: HolderParts): Handler =>
  forHolder(parts, ({ claims, role }) =>
    success({ user: { id: Number(claims.sub), username: claims.username, role } }),
  )
