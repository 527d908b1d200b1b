// GET /check-media-access: "is this access token good?", for clients of the original. It says nothing about
// any resource, and refuses refresh tokens (the original accepted them for 30 days).

import type { Guard } from '../../auth/check.ts'
import { readBearer } from '../credential.ts'
import { challenge, failure } from '../reply.ts'
import type { Handler } from '../request.ts'
import { shape, success } from './reply.ts'

export const createCheckMediaAccessHandler = (parts: { guard: Guard; now(): number }): Handler => {
  const { guard, now } = parts
  return async ({ headers }) => {
    const credential = readBearer(headers)
    const decision = 'refused' in credential ? credential : await guard.identify(credential.token)
    if (!('refused' in decision)) return success({})
    return failure(shape, 401, 'Unauthorized: log in, or renew the token', now(), {
      headers: ['WWW-Authenticate', challenge(decision)],
      reason: decision.refused,
    })
  }
}
