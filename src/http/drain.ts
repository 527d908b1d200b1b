// How a connection ends. Of a server that stops: requests under way are answered, new ones are not accepted. Of a
// request that was answered before its body was there: the rest is taken, and thrown away.

import type { IncomingMessage, Server } from 'node:http'

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

const LINGER = 2 // seconds
const LINGER_BYTES = 1024 * 1024 // nginx takes 64 KB where tokens are asked for

/**
 * Calls `end`, which closes the connection, when the rest of the body is there, or too much of it, or too late. A socket
 * that is closed with bytes unread is reset: nginx, still sending, would not read the answer, and say 503 (2 to 9 % of
 * the refusals of bodies from 15 KB on).
 */
export const linger = (message: IncomingMessage, end: () => void): void => {
  let left = LINGER_BYTES
  const cancel = systemClock.after(LINGER, end)
  const stop = (): void => {
    cancel()
    end()
  }
  message.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) stop()
  })
  message.on('end', stop)
  message.on('close', stop)
}
