// The example for whoever writes a producer: what a message must be, in which order messages arrive, and that a state
// is told again when nginx has forgotten it.

import { Agent, request } from 'node:http'
import type { Socket } from 'node:net'

export interface Producer {
  /** The newest state of a channel; resolves with nginx's status: 201 somebody heard it, 202 nobody was there. */
  tell(channel: string, state: unknown): Promise<number>
  close(): void
}

const LONGEST = 1024 * 1024 // bytes: client_max_body_size of postern-softphone.conf, else 413
const AGAIN = [100, 2000] // milliseconds after nginx has closed the connection: it may lose what comes in its first second

/**
 * Valid UTF-8 on one line. Nchan closes every WebSocket of a channel that keeps anything else than UTF-8, and a lone
 * CR ends an EventSource's line. JSON has neither: it escapes line ends and halves of surrogate pairs.
 */
const toMessage = (state: unknown): Buffer => {
  const message = Buffer.from(JSON.stringify(state))
  if (message.length > LONGEST) throw new Error(`a message of ${message.length} bytes is too long`)
  return message
}

/** `url` is what stands before the channel's name. */
export const createProducer = (url: string, onFault: (error: unknown) => void): Producer => {
  // One connection, kept: nginx takes what comes over it in its order.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const states = new Map<string, Buffer>()
  const watched = new WeakSet<Socket>()
  let timers: NodeJS.Timeout[] = []
  let closed = false

  const publish = (channel: string, message: Buffer): Promise<number> => {
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    const headers = { 'Content-Type': 'application/json', 'Content-Length': message.length }
    const asked = request(`${url}${channel}`, { method: 'POST', agent, headers })
    asked.on('socket', (socket) => {
      if (watched.has(socket)) return
      watched.add(socket)
      // A reload of nginx closes what it keeps open, and forgets every message.
      socket.once('close', tellAgain)
    })
    asked.on('error', reject)
    asked.on('response', (response) => {
      response.resume().on('error', reject)
      response.on('end', () => resolve(Number(response.statusCode)))
    })
    asked.end(message)
    return promise
  }

  const tellAll = (): void => {
    for (const [channel, message] of states) publish(channel, message).catch(onFault)
  }
  const tellAgain = (): void => {
    if (closed) return
    for (const timer of timers) clearTimeout(timer)
    timers = AGAIN.map((milliseconds) => setTimeout(tellAll, milliseconds))
  }

  return {
    async tell(channel, state) {
      const message = toMessage(state)
      states.set(channel, message)
      return publish(channel, message)
    },
    close() {
      closed = true
      agent.destroy()
      for (const timer of timers) clearTimeout(timer)
    },
  }
}
