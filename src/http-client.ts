// One outgoing request over http, https or a unix socket, bounded in time and in size. It never follows a redirect: the
// password would go to wherever that leads.

import { request as httpRequest, type IncomingHttpHeaders } from 'node:http'
import { request as httpsRequest } from 'node:https'

import { systemClock } from './clock.ts'
import { systemTrust, type Trust } from './files/certificates.ts'

export interface Outgoing {
  method: 'POST' | 'GET'
  /** Over a unix socket the host part only fills the Host header. */
  url: URL
  /** Sent as it stands, where a URL parser would normalize it. */
  path?: string
  socketPath?: string | undefined
  headers: Record<string, string>
  body?: string
  /** Seconds for everything together: name, connection, TLS, answer and its whole body. */
  timeout: number
  /** A longer body counts as no answer. 0: only the head is wanted, whatever follows it. */
  maxBytes: number
  /** These authorities instead of the system's. */
  trust?: Trust | undefined
  /** Accept any certificate. Only a person may ask for this, and only for one run. */
  insecure?: boolean | undefined
  signal?: AbortSignal | undefined
}

export type Exchange = { status: number; headers: IncomingHttpHeaders; body: string } | Failure

/** No answer, or an incomplete one. Codes only: Node's own messages may quote what was sent. */
export interface Failure {
  /** `TIMEOUT`, `CLOSED`, `HALF_ANSWER`, `TOO_LARGE`, or a code of Node, TLS or the parser. */
  failed: string
  stage: 'connect' | 'answer' | 'body'
}

export const sendRequest = (outgoing: Outgoing): Promise<Exchange> =>
  new Promise((resolve) => {
    let stage: Failure['stage'] = 'connect'
    const { method, url, body = '' } = outgoing
    const secure = url.protocol === 'https:'
    const request = (secure ? httpsRequest : httpRequest)({
      method,
      path: outgoing.path ?? url.pathname + url.search,
      ...(outgoing.socketPath === undefined
        ? {
            // node:net wants an IPv6 address without the brackets that a URL puts round it
            host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
            port: url.port, // empty: Node takes 80 or 443
          }
        : { socketPath: outgoing.socketPath }),
      headers: {
        ...outgoing.headers,
        host: url.host,
        'content-length': Buffer.byteLength(body),
      },
      agent: false,
      signal: outgoing.signal,
      ...(secure &&
        (outgoing.insecure === true
          ? { rejectUnauthorized: false }
          : (outgoing.trust ?? systemTrust()))),
    })

    const finish = (exchange: Exchange): void => {
      cancelTimeout()
      resolve(exchange)
      request.destroy()
    }
    const fail = (failed: string): void => {
      finish({ failed, stage })
    }
    // One timer for the whole exchange: a server that sends a byte a second resets any idle timer.
    const cancelTimeout = systemClock.after(outgoing.timeout, () => {
      fail('TIMEOUT')
    })

    request.once('socket', (socket) => {
      socket.once(secure ? 'secureConnect' : 'connect', () => {
        stage = 'answer'
      })
    })
    request.on('error', (error: NodeJS.ErrnoException) => {
      const code = String(error.code)
      fail(code === 'ECONNRESET' && stage === 'answer' ? 'CLOSED' : code)
    })
    request.on('response', (response) => {
      stage = 'body'
      const chunks: Buffer[] = []
      let length = 0
      const whole = (): void => {
        finish({
          status: Number(response.statusCode),
          headers: response.headers,
          body: Buffer.concat(chunks).toString('utf8'),
        })
      }
      if (outgoing.maxBytes === 0) return whole()
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        chunks.push(chunk)
        if (length > outgoing.maxBytes) fail('TOO_LARGE')
      })
      response.on('error', () => {
        fail('HALF_ANSWER')
      })
      response.on('end', whole)
    })
    request.end(body)
  })

/** A body that should be one JSON object; undefined where it is anything else. */
export const parseObject = (body: string): Readonly<Record<string, unknown>> | undefined => {
  try {
    const value: unknown = JSON.parse(body)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Readonly<Record<string, unknown>>) : undefined
  } catch {
    return undefined
  }
}
