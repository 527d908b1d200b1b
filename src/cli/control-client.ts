// What a command says to the running daemon: HTTP over its control socket. Nobody listening is an answer,
// not a fault: the command then acts on files alone, and says so.

import { asOwner } from '../files/owner.ts'
import { sendRequest } from '../http-client.ts'
import { BAD_CONFIG, IO_FAILED, Stop } from './io.ts'

const DAEMON = new URL('http://postern')
const UNEXPECTED = 'unexpected reply from the daemon: see its log'

export type Told =
  | { status: number; body: unknown }
  | 'not_running'
  /** It is there, but cannot be talked to: why, and the cure. */
  | { problem: string }

const TIMEOUT = 10 // seconds: ending thousands of sessions takes some
const MAX_ANSWER = 16 * 1024 * 1024 // bytes: the numbers of 100,000 users are 3 MiB

export const askDaemon = async (
  socket: string,
  method: 'GET' | 'POST',
  path: string,
  timeout = TIMEOUT,
  asked?: Readonly<Record<string, unknown>>,
): Promise<Told> => {
  const send = () =>
    sendRequest({
      method,
      url: DAEMON,
      path,
      socketPath: socket,
      headers: { 'content-type': 'application/json' },
      body: asked === undefined ? '' : JSON.stringify(asked),
      timeout,
      maxBytes: MAX_ANSWER,
    })
  const exchange = await asOwner(socket, send)
  if ('failed' in exchange) {
    switch (exchange.failed) {
      case 'ENOENT':
      case 'ECONNREFUSED':
        return 'not_running'
      case 'EACCES':
      case 'EPERM':
        return { problem: `${socket} may not be opened: run this as root (sudo)` }
      case 'TIMEOUT':
        return { problem: `the daemon did not answer within ${timeout} s: see its log` }
      default:
        return { problem: UNEXPECTED }
    }
  }
  try {
    return { status: exchange.status, body: JSON.parse(exchange.body) }
  } catch {
    return { problem: UNEXPECTED }
  }
}

/** The body of a 200; undefined where no daemon runs. Throws a Stop for anything else. */
export const orderDaemon = async (
  socket: string,
  method: 'GET' | 'POST',
  path: string,
  asked?: Readonly<Record<string, unknown>>,
): Promise<Readonly<Record<string, unknown>> | undefined> => {
  const told = await askDaemon(socket, method, path, undefined, asked)
  if (told === 'not_running') return undefined
  if ('problem' in told) throw new Stop(IO_FAILED, told.problem)
  const body = Object(told.body) as Readonly<Record<string, unknown>>
  if (told.status === 200) return body
  const { error } = body as { error?: unknown }
  throw new Stop(
    told.status === 409 ? BAD_CONFIG : IO_FAILED,
    typeof error === 'string' ? error : `the daemon answered ${told.status}: see its log`,
  )
}

/** The same, of what the running daemon alone has. */
export const askRunning = async (
  socket: string,
  what: string,
  method: 'GET' | 'POST',
  path: string,
  asked?: Readonly<Record<string, unknown>>,
): Promise<Readonly<Record<string, unknown>>> => {
  const body = await orderDaemon(socket, method, path, asked)
  if (body) return body
  throw new Stop(IO_FAILED, `the daemon is not running, and only it has the ${what}: start it`)
}
