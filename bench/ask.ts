// One request over a unix socket or to a port of this machine, with its whole answer.

import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'

export interface Answer {
  status: number
  cookies: readonly string[]
  body: string
}

export interface Ask {
  method?: string
  headers?: Readonly<Record<string, string>>
  body?: string
}

const LIMIT = 60_000 // milliseconds

export const ask = async (
  to: string | number,
  path: string,
  { body, headers = {}, method = body === undefined ? 'GET' : 'POST' }: Ask = {},
): Promise<Answer> => {
  const where = typeof to === 'string' ? { socketPath: to } : { host: '127.0.0.1', port: to }
  const asked = request({
    ...where,
    path,
    method,
    headers: {
      ...headers,
      ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
    },
    signal: AbortSignal.timeout(LIMIT),
  })
  asked.end(body)
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  let text = ''
  for await (const part of response.setEncoding('utf8') as AsyncIterable<string>) text += part
  const cookies = response.headers['set-cookie'] ?? []
  return { status: Number(response.statusCode), cookies, body: text }
}

/** The status, or 0 where nobody answers. */
export const statusOf = async (to: string | number, path: string): Promise<number> =>
  ask(to, path).then(
    ({ status }) => status,
    () => 0,
  )
