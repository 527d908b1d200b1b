// One client's line to one host: requests over its unix socket, on connections that are kept. Says whether a
// request can have reached the host at all; it never asks twice.

import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http'

export interface Called {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface Call {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

/** unsent: nobody listened (said after a while, as a client that backs off). broken: the connection ended before the answer did. late: no answer in time. */
export type NotCalled = 'unsent' | 'broken' | 'late'

export interface Caller {
  call(path: string, call?: Call): Promise<Called | NotCalled>
  close(): void
}

const PATIENCE = 15 // seconds: far beyond any limit of the product's, on a machine that may be busy
const BACK_OFF = 30 // milliseconds: a start must not fight with its clients for the processor
const NOBODY_THERE = new Set(['ECONNREFUSED', 'ENOENT', 'EAGAIN'])

export const createCaller = (socketPath: string, patience = PATIENCE): Caller => {
  const agent = new Agent({ keepAlive: true })
  const call: Caller['call'] = (path, { method, headers, body } = {}) => {
    const { promise, resolve } = Promise.withResolvers<Called | NotCalled>()
    const outgoing = request({
      socketPath,
      agent,
      path,
      method: method ?? 'GET',
      headers: {
        ...headers,
        ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
      },
    })
    const impatient = setTimeout(() => {
      resolve('late')
      outgoing.destroy()
    }, patience * 1000)
    const settle = (outcome: Called | NotCalled): void => {
      clearTimeout(impatient)
      resolve(outcome)
    }
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(impatient)
      if (NOBODY_THERE.has(error.code ?? '')) setTimeout(() => resolve('unsent'), BACK_OFF)
      else resolve('broken')
    })
    outgoing.on('response', (incoming: IncomingMessage) => {
      const parts: Buffer[] = []
      incoming.on('data', (part: Buffer) => void parts.push(part))
      incoming.on('error', () => {
        settle('broken')
      })
      incoming.on('end', () => {
        const { statusCode = 0, headers } = incoming
        settle({ status: statusCode, headers, body: Buffer.concat(parts).toString('utf8') })
      })
    })
    outgoing.end(body)
    return promise
  }
  return {
    call,
    close() {
      agent.destroy()
    },
  }
}
