// A request as handlers see it: what nginx says of it, and nothing that a client could have forged.

import { isIP } from 'node:net'

import type { Headers } from './headers.ts'
import type { Reply } from './reply.ts'

export interface Request {
  readonly method: string
  readonly headers: Headers
  /** What stands for `:id` or `*` in the route's path, as it came, else empty. */
  readonly id: string
  /** The text after `?`, raw. */
  readonly query: string
  /** The client's address from nginx's X-Real-IP; never from X-Forwarded-For, which anybody can send. */
  readonly address: string
  /** The whole body. What it rejects with where there is none is the server's to answer. */
  body(): Promise<Buffer>
}

export type Handler = (request: Request) => Promise<Reply>

/** `unknown` rather than a guess: all who come without an address are throttled together. */
export const readAddress = (headers: Headers): string => {
  const address = headers.get('x-real-ip') ?? ''
  return isIP(address) > 0 ? address : 'unknown'
}

const MAX_AGENT = 256

/** Chosen by the client: cut, and stripped of what is not printable. */
export const readAgent = (headers: Headers): string =>
  (headers.get('user-agent') ?? '').replaceAll(/[^ -~]/g, '?').slice(0, MAX_AGENT)
