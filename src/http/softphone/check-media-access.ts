// GET /check-media-access: "is this access token good?", for clients of the original. It says nothing about
// any resource, and refuses refresh tokens (the original accepted them for 30 days).

import type { Guard } from '../../auth/check.ts'
import { readBearer } from '../credential.ts'
import { challenge, failure } from '../reply.ts'
import type { Handler } from '../request.ts'
import { success } from './reply.ts'

export const createCheckMediaAccessHandler = (parts: { guard: Guard }): Handler => {
  const { guard } = parts
  return async (request) => {
    const credential = readBearer(request.headers)
    const decision =
      'refused' in credential
        ? credential
        : await guard.identify(credential.token, 'access', request.address)
    if (!('refused' in decision)) return success({})
    return failure(401, 'Unauthorized: log in, or renew the token', {
      headers: ['WWW-Authenticate', challenge(decision)],
      reason: decision.refused,
    })
  }
}
