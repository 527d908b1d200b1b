// The ways in which a client listens to a channel, each with the moment at which its stream ended. None of
// them ever comes back by itself: what a test sees is what nginx did.
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import { ask, V1 } from './ask.ts'

export interface Stream {
  /** What came: the lines of an EventSource, the messages of a WebSocket, the body of a long-poll. */
  readonly text: string
  readonly live: boolean
  /** Resolves with how it ended. */
  readonly ended: Promise<string>
  close(): void
}

/**
 * What is published in the moment in which a stream opens may wait for the next message (Nchan 1.3.6, two ids, two
 * workers): only after this does a message that is sent once reach everybody.
 */
export const settle = (): Promise<void> => delay(100)

export type Listen = (
  t: Test,
  port: number,
  channel: string,
  headers?: Record<string, string>,
) => Promise<Stream>

/** Resolves once nginx has opened the stream. */
export const eventSource: Listen = async (t, port, channel, headers = {}) => {
  const outgoing = request({
    host: '127.0.0.1',
    port,
    path: `${V1}/sub/${channel}`,
    headers: { Accept: 'text/event-stream', ...headers },
    agent: false,
  }).end()
  const close = (): void => void outgoing.destroy()
  t.teardown(close)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  outgoing.on('error', () => {}) // a cut resets the connection
  if (response.statusCode !== 200) throw new Error(`EventSource: ${response.statusCode}`)
  const { promise, resolve } = Promise.withResolvers<string>()
  let [text, live] = ['', true]
  response.setEncoding('utf8').on('data', (part: string) => (text += part))
  response.on('error', () => {})
  response.on('close', () => {
    live = false
    resolve(response.complete ? 'end' : 'cut')
  })
  return {
    get text() {
      return text
    },
    get live() {
      return live
    },
    ended: promise,
    close,
  }
}

/** Resolves once nginx has opened the stream. */
export const webSocket: Listen = async (t, port, channel, headers = {}) => {
  // Not a browser's: Node's takes headers, as a program's does.
  const init = { headers } as unknown as string[]
  const socket = new WebSocket(`ws://127.0.0.1:${port}${V1}/sub/${channel}`, init)
  const close = (): void => {
    socket.close()
  }
  t.teardown(close)
  const { promise, resolve } = Promise.withResolvers<string>()
  let text = ''
  socket.addEventListener('message', (event) => (text += String(event.data)))
  socket.addEventListener('close', (event) => {
    resolve(`${event.code} ${event.reason}`)
  })
  const refused = promise.then(() => Promise.reject(new Error('WebSocket: refused')))
  await Promise.race([once(socket, 'open'), refused])
  refused.catch(() => {})
  return {
    get text() {
      return text
    },
    get live() {
      return socket.readyState === WebSocket.OPEN
    },
    ended: promise,
    close,
  }
}

/** Resolves at once: nginx says nothing until there is a message. */
export const longPoll: Listen = (_t, port, channel, headers = {}) => {
  let [text, live] = ['', true]
  const asked = ask(port, `${V1}/sub/${channel}`, { headers })
  const ended = asked.then(
    ({ status, body }) => {
      ;[text, live] = [body, false]
      return String(status)
    },
    () => 'gone',
  )
  return Promise.resolve({
    get text() {
      return text
    },
    get live() {
      return live
    },
    ended,
    close: () => {},
  })
}
