// One request as handlers see it: what nginx said, and nothing a client could have forged past it.

import { isIP } from 'node:net'

import type { Headers } from './headers.ts'
import type { Reply } from './reply.ts'

export interface Request {
  readonly method: string
  readonly headers: Headers
  /** What stands for `:id` in the route's path, else empty. */
  readonly id: string
  /** The text after `?`, raw. */
  readonly query: string
  /** The client's address as nginx gives it (X-Real-IP); never X-Forwarded-For, which anybody can send. */
  readonly address: string
  /** The whole body, bounded; a reply where it is too large or breaks off. */
  body(): Promise<Buffer | Reply>
}

export type Handler = (request: Request) => Promise<Reply>

/** `unknown` rather than a guess: it throttles all who come without an address together. */
export const readAddress = (headers: Headers): string => {
  const address = headers.get('x-real-ip') ?? ''
  return isIP(address) > 0 ? address : 'unknown'
}

const MAX_AGENT = 256

/** Text of the client's own choice, cut and stripped for lists and logs. */
export const readAgent = (headers: Headers): string =>
  (headers.get('user-agent') ?? '').replaceAll(/[^ -~]/g, '?').slice(0, MAX_AGENT)
