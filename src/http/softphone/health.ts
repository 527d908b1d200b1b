// GET /health: somebody answers. Whether we can decide is what /readyz tells, on the operator's listener.

import type { Handler } from '../request.ts'
import { success } from './reply.ts'

export const createHealthHandler =
  (now: () => number): Handler =>
  async () =>
    success({ status: 'ok', timestamp: now() })
