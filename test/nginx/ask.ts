// One HTTP request exactly as written: fetch would tidy the path up first. Never follows, never retries.
import { once } from 'node:events'
import { type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'

export interface Reply {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

export interface Ask {
  method?: string
  headers?: Record<string, string | string[]>
  body?: string | Buffer
  /** The address we call from. */
  from?: string
  /** Calls this unix socket, not the port. */
  socket?: string
}

export const V1 = '/pbxcore/api/module-softphone-backend/v1'
export const V3 = '/pbxcore/api/v3'
export const RECORDINGS = '/pbxcore/softphone/recordings'
export const SIP = '/pbxcore/softphone/ws'

export async function ask(port: number, path: string, options: Ask = {}): Promise<Reply> {
  const outgoing = request({
    ...(options.socket === undefined
      ? { host: '127.0.0.1', port }
      : { socketPath: options.socket }),
    ...(options.from === undefined ? {} : { localAddress: options.from }),
    path,
    method: options.method ?? (options.body === undefined ? 'GET' : 'POST'),
    headers: {
      ...options.headers,
      ...(options.body === undefined ? {} : { 'Content-Length': Buffer.byteLength(options.body) }),
    },
    agent: false,
    // Far beyond what nginx waits for the check: a busy machine takes its time.
    signal: AbortSignal.timeout(60_000),
  })
  outgoing.end(options.body)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
  const parts: Buffer[] = []
  for await (const part of response as AsyncIterable<Buffer>) parts.push(part)
  return {
    status: Number(response.statusCode),
    headers: response.headers,
    body: Buffer.concat(parts).toString('latin1'),
  }
}
