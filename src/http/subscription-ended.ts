// GET /subscription-ended: nginx reports that one stream has ended, by its kick id. Only a hint: nginx itself is asked
// what is live before anything is forgotten.

import type { Handler } from './request.ts'

export const createSubscriptionEndedHandler =
  (streamEnded: (kick: string) => void): Handler =>
  async ({ headers }) => {
    const kick = headers.get('x-auth-kick')
    if (kick !== undefined) streamEnded(kick)
    return { status: 204, headers: [] }
  }
