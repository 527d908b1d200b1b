// GET /auth/sessions and DELETE /auth/sessions/<id>: a user's own logins, and ending one of them. Nobody can
// see or end another user's, nor learn whether such a session exists.

import type { Sessions } from '../../auth/sessions.ts'
import { failure } from '../reply.ts'
import type { Handler } from '../request.ts'
import { forHolder, type HolderParts } from './holder.ts'
import { success } from './reply.ts'

export interface SessionParts extends HolderParts {
  sessions: Pick<Sessions, 'endOwn'>
  /** All that a user may know of each. */
  list(username: string): Promise<readonly { readonly id: string }[]>
}

export const createSessionsHandler = (parts: SessionParts): Handler =>
  forHolder(parts, async ({ claims: { username, sid } }) => {
    const sessions = await parts.list(username)
    return success({
      sessions: sessions.map((session) => ({ ...session, current: session.id === sid })),
    })
  })

export const createSessionEndHandler = (parts: SessionParts): Handler =>
  forHolder(parts, async ({ claims }, { id }) => {
    const ended = await parts.sessions.endOwn(claims.username, id)
    return ended ? success({ message: 'Session ended' }) : failure(404, 'No such session')
  })
