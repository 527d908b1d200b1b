// GET /profile: who the access token stands for. A refresh token is told that it is one (403), also after
// its session has ended, so that a client's mix-up is found.

import type { Decision, Guard } from '../../auth/check.ts'
import { readBearer } from '../credential.ts'
import { challenge, type Reply } from '../reply.ts'
import type { Handler } from '../request.ts'
import { failure, success } from './reply.ts'

const refused = (decision: Extract<Decision, { refused: unknown }>, now: number): Reply =>
  decision.refused === 'wrong_type'
    ? failure(403, 'An access token is required, not a refresh token', now, {
        headers: ['WWW-Authenticate', challenge({ refused: 'no_grant' })],
        reason: decision.refused,
      })
    : failure(401, 'Invalid or expired token', now, {
        headers: ['WWW-Authenticate', challenge(decision)],
        reason: decision.refused,
      })

export const createProfileHandler = (parts: { guard: Guard; now(): number }): Handler => {
  const { guard, now } = parts
  return async ({ headers }) => {
    const credential = readBearer(headers)
    if ('refused' in credential) return refused(credential, now())
    const decision = await guard.identify(credential.token)
    if ('refused' in decision) return refused(decision, now())
    const { claims, role } = decision
    return success({ user: { id: Number(claims.sub), username: claims.username, role } })
  }
}
