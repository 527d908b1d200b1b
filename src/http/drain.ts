// How a server stops: whoever is being answered gets the answer, nobody new comes in.

import type { Server } from 'node:http'

const DRAIN = 5000 // milliseconds that requests under way get

/** Idle connections close at once, busy ones after their answer, stubborn ones after DRAIN. */
export const drain = async (server: Server): Promise<void> => {
  if (!server.listening) return
  const { promise, resolve } = Promise.withResolvers<void>()
  server.close(() => {
    resolve()
  })
  server.closeIdleConnections()
  const timer = setTimeout(() => {
    server.closeAllConnections()
  }, DRAIN)
  await promise
  clearTimeout(timer)
}
