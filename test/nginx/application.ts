// What stands behind nginx: it says which request reached it. It must never set a header of ours itself.
import { once } from 'node:events'
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import type { Test } from 'tap'

export interface Seen {
  method: string
  url: string
  headers: IncomingHttpHeaders
  /** Of the body. */
  length: number
}

/** Its `host:port`. */
export async function startApplication(t: Test): Promise<string> {
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let length = 0
    for await (const part of request as AsyncIterable<Buffer>) length += part.length
    const { method, url, headers } = request
    response.end(JSON.stringify({ method, url, headers, length }))
  }
  const server = createServer((request, response) => void serve(request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  return typeof address === 'object' ? `127.0.0.1:${address?.port}` : ''
}
