// GET /subscription-ended: nginx tells that one stream has ended, naming its kick id. Only a hint: what is
// live is asked of nginx itself before anything is forgotten.

import type { Handler } from './request.ts'

export const createSubscriptionEndedHandler =
  (streamEnded: (kick: string) => void): Handler =>
  async ({ headers }) => {
    const kick = headers.get('x-auth-kick')
    if (kick !== undefined) streamEnded(kick)
    return { status: 204, headers: [] }
  }
