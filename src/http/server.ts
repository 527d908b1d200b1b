// Between node:http and the handlers: one request, one reply, one observation. The only file that writes answers, so
// that no-store, the length and the closing of a connection are decided in one place.

import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

import { Aborted, readBody, TooLarge } from './body.ts'
import { linger } from './drain.ts'
import { type Headers, readHeaders } from './headers.ts'
import {
  type ErrorShape,
  failure,
  json,
  type Reply,
  retryAfter,
  type SecurityEvent,
} from './reply.ts'
import { readAddress, type Request } from './request.ts'
import type { Router } from './routes.ts'

export interface ServerParts {
  router: Router
  /** How an error is told where no route is found. */
  shape: ErrorShape
  maxConnections: number
  /** What a fault of ours is answered with: 503 means "cannot decide", and nginx never lets anyone in on it. */
  statusOfFault(error: unknown): { status: 500 | 503; words?: string }
  /** Once per request, after the answer was written. */
  observe(seen: { route: string; status: number } & Pick<Reply, 'reason' | 'detail'>): void
  onEvents(events: readonly SecurityEvent[], request: Request): void
  onFault(error: unknown, route: string): void
  now(): number
}

// nginx lets 32 KiB through (large_client_header_buffers), the resource comes once more, and what nginx adds. A
// connection that stops in the middle of one long line costs 77 KiB at 64, where it was 34 at 16 (measured).
const HEADER_BYTES = 48 * 1024
const HEADERS_TIMEOUT = 10_000 // slow headers: Node's default of 60 s keeps 300 sockets busy for a minute
const REQUEST_TIMEOUT = 15_000
const CHECK_TIMEOUTS_EVERY = 1000 // with Node's default of 30 s a timeout of 3 s took 30 (measured)
const KEEP_ALIVE = 75_000 // longer than nginx keeps an idle upstream connection (60 s), else it runs into a reset
const STALLED = 30_000 // an answer of which a client takes nothing for so long
const MAX_PIPELINED = 16 // nginx asks one after the other; an answer that waits behind another costs 3 KiB
const HOST = /^(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(?::\d*)?$/ // RFC 3986 §3.2.2 without userinfo

const BASE = ['X-Content-Type-Options', 'nosniff']

/** The answer to what is not HTTP: the parser's own words are of no use to a client. */
const PARSER_STATUS: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  HPE_CHUNK_EXTENSIONS_OVERFLOW: 413,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
}
const PARSER_WORDS: Readonly<Record<number, string>> = {
  408: 'The request did not come to its end: try again',
  413: 'The request body is too large',
  431: 'The headers of the request are too large: delete the cookies of this site',
}

const hasBody = (message: IncomingMessage): boolean =>
  message.headers['transfer-encoding'] !== undefined ||
  (message.headers['content-length'] ?? '0') !== '0'

/** What Node's parser accepts though RFC 9112 §3.2 and §6.1 ask for a 400. */
const isMalformed = (message: IncomingMessage, headers: Headers): boolean => {
  if (message.httpVersionMajor !== 1) return true // Node serves HTTP/0.9, and a line that says HTTP/2.0
  const isOld = message.httpVersionMinor === 0
  if (isOld && message.headers['transfer-encoding'] !== undefined) return true
  const host = headers.get('host') ?? (isOld ? '' : undefined)
  return headers.isRepeated('host') || host === undefined || !HOST.test(host)
}

export const createHttpServer = (parts: ServerParts): Server => {
  const { router, statusOfFault, observe, onEvents, onFault, now } = parts

  const tell = (reply: Reply, shape = parts.shape): Reply => ({
    ...reply,
    ...json(reply.status, shape(String(reply.error), now()), reply.headers),
  })

  const write = (
    message: IncomingMessage,
    response: ServerResponse,
    reply: Reply,
    close: boolean,
  ): void => {
    const { body } = reply
    const headers = ['Cache-Control', reply.cache ?? 'no-store', ...BASE, ...reply.headers]
    // 204 has no length by definition; any other empty answer says so, else Node would chunk it and nginx
    // would drop the connection (a quarter of the throughput, measured).
    if (body !== undefined) headers.push('Content-Length', String(Buffer.byteLength(body)))
    else if (reply.status !== 204) headers.push('Content-Length', '0')
    // While the server stops, a kept-alive connection would still be served, then cut in mid-request.
    if (close || !server.listening) headers.push('Connection', 'close')
    response.writeHead(reply.status, headers)
    if (message.complete || !hasBody(message)) {
      response.end(body)
      return
    }
    if (body === undefined || message.method === 'HEAD') response.flushHeaders()
    else response.write(body)
    linger(message, () => response.end())
  }

  /** The answer to a request that gets to no route. */
  const reject = (
    message: IncomingMessage,
    response: ServerResponse,
    status: 400 | 417,
    error: string,
  ): void => {
    write(message, response, tell(failure(status, error)), true)
    observe({ route: 'unknown', status })
  }

  const answerParserError = (error: Error & { code?: string }, socket: Duplex): void => {
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    const status = PARSER_STATUS[String(error.code)] ?? 400
    const { headers, body = '' } = tell(failure(status, PARSER_WORDS[status] ?? 'Bad request'))
    const lines = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      'Connection: close',
      'Cache-Control: no-store',
      `${headers[0]}: ${headers[1]}`,
      `Content-Length: ${Buffer.byteLength(body)}`,
    ]
    socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy())
    observe({ route: 'unknown', status })
  }

  const behind = new WeakMap<Socket, number>()
  /** Whether too many were asked without a look at the answers. */
  const isPipelined = (socket: Socket, response: ServerResponse): boolean => {
    if (response.socket !== null) {
      behind.delete(socket)
      return false
    }
    const count = (behind.get(socket) ?? 0) + 1
    behind.set(socket, count)
    return count > MAX_PIPELINED
  }

  const handle = (message: IncomingMessage, response: ServerResponse): void => {
    if (isPipelined(message.socket, response)) {
      message.socket.destroy()
      return
    }
    const headers = readHeaders(message.rawHeaders, message.headers)
    const [method, url] = [String(message.method), String(message.url)] // a parsed request has both
    const mark = url.indexOf('?')
    if (isMalformed(message, headers)) {
      reject(message, response, 400, 'Bad request')
      return
    }
    const path = mark < 0 ? url : url.slice(0, mark)
    const { name, atOnce, handler, shape, idAt } = router(method, path)
    let readsBody = false
    const request: Request = {
      method,
      headers,
      id: path.slice(idAt),
      query: mark < 0 ? '' : url.slice(mark + 1),
      address: readAddress(headers),
      body: () => {
        readsBody = true
        return readBody(message)
      },
    }

    const finish = (answer: Reply): void => {
      const reply = answer.error === undefined ? answer : tell(answer, shape)
      // A body that was not read would be parsed as the next request: the connection ends with the answer.
      write(message, response, reply, !readsBody && hasBody(message))
      reply.afterwards?.()
      observe({ route: name, status: reply.status, reason: reply.reason, detail: reply.detail })
      if (reply.events) onEvents(reply.events, request)
    }

    const fail = (error: unknown): void => {
      if (error instanceof Aborted) return
      if (error instanceof TooLarge) {
        finish(failure(413, 'The request body is too large', { headers: ['Connection', 'close'] }))
        return
      }
      onFault(error, name)
      const { status, words = status === 503 ? 'Try again later' : 'Internal error' } =
        statusOfFault(error)
      const headers = status === 503 ? retryAfter(1) : []
      // nginx asks: it needs an empty answer, and 503 is how "cannot decide" is spelled there.
      if (/^check(?:_by_header)?$/.test(name)) finish({ status: 503, headers: retryAfter(1) })
      else finish(failure(status, words, { headers }))
    }

    try {
      const reply = atOnce?.(request)
      if (reply) finish(reply)
      else handler(request).then(finish).catch(fail)
    } catch (error) {
      fail(error)
    }
  }

  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      connectionsCheckingInterval: CHECK_TIMEOUTS_EVERY,
      keepAliveTimeout: KEEP_ALIVE,
      optimizeEmptyRequests: true, // no stream is set up for a request without a body, such as a check (2 µs)
      requireHostHeader: false, // isMalformed does: Node's own answer lacks no-store
    },
    handle,
  )
  server.maxConnections = parts.maxConnections
  server.timeout = STALLED
  server.on('clientError', answerParserError)
  server.on('checkExpectation', (message, response) => {
    reject(message, response, 417, 'Expectation failed')
  })
  return server
}
