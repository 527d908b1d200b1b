// What a command says to the running daemon: HTTP over its control socket. Nobody listening is an answer
// and no fault: the command then acts on files alone, and says so.
import { request } from 'node:http'

export type Told =
  | { status: number; body: unknown }
  | 'not_running'
  /** It is there, but cannot be talked to: why, and the cure. */
  | { problem: string }

const TIMEOUT = 10 // seconds: ending thousands of sessions takes some
const MAX_ANSWER = 16 * 1024 * 1024 // bytes: the numbers of 100,000 users are 3 MiB

export async function askDaemon(
  socket: string,
  method: 'GET' | 'POST',
  path: string,
  timeout = TIMEOUT,
  asked?: Readonly<Record<string, unknown>>,
): Promise<Told> {
  const signal = AbortSignal.timeout(timeout * 1000)
  const json = asked === undefined ? '' : JSON.stringify(asked)
  try {
    const { status, text } = await send(socket, method, path, json, signal)
    return { status, body: JSON.parse(text) }
  } catch (error) {
    const code = readCode(error)
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return 'not_running'
    if (code === 'EACCES' || code === 'EPERM')
      return { problem: `${socket} may not be opened: run this as root (sudo)` }
    if (code === 'ABORT_ERR')
      return { problem: `the daemon did not answer within ${timeout} s: see its log` }
    return { problem: 'the daemon did not answer rightly: see its log' }
  }
}

function send(
  socketPath: string,
  method: string,
  path: string,
  json: string,
  signal: AbortSignal,
): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>()
  const asked = request(
    {
      socketPath,
      method,
      path,
      signal,
      agent: false,
      headers: {
        host: 'postern',
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(json),
      },
    },
    (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (part: string) => {
        text += part
        if (text.length > MAX_ANSWER) asked.destroy(new Error('the answer is too long'))
      })
      answer.on('end', () => resolve({ status: Number(answer.statusCode), text }))
      answer.on('error', reject)
    },
  )
  asked.on('error', reject)
  asked.end(json)
  return promise
}

function readCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}
