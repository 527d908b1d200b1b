// GET /profile: whose access token it is. A refresh token gets a 403 that says so, even after its session has ended,
// so that a client's mix-up is found.

import type { Handler } from '../request.ts'
import { forHolder, type HolderParts } from './holder.ts'
import { success } from './reply.ts'

export const createProfileHandler = (parts: HolderParts): Handler =>
  forHolder(parts, ({ claims, role }) =>
    success({ user: { id: Number(claims.sub), username: claims.username, role } }),
  )
