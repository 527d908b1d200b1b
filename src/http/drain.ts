// How a server stops: requests under way are answered, new ones are not accepted.

import type { Server } from 'node:http'

import { systemClock } from '../clock.ts'

const DRAIN = 5 // seconds that requests under way get

/** Idle connections close at once, busy ones after their answer, stubborn ones after DRAIN. */
export const drain = async (server: Server): Promise<void> => {
  if (!server.listening) return
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => {
    resolve()
  })
  server.closeIdleConnections()
  const cancel = systemClock.after(DRAIN, () => {
    server.closeAllConnections()
  })
  await promise
  cancel()
}
