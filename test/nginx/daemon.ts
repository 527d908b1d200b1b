// A scripted daemon on a unix socket: nginx's own behaviour is tested against it, so it must never decide
// anything by itself. It writes down what nginx sent.
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

import { readResume } from '../../src/http/resume.ts'

/** `hang` answers never, `cut` closes the connection without an answer. */
export type Answer =
  | { status: number; headers?: Record<string, string | string[]>; body?: string }
  | 'hang'
  | 'cut'

export interface Asked {
  method: string
  url: string
  /** What a check asks for; undefined where this is none. */
  resource: string | undefined
  /** Names as they came, in their order. */
  names: string[]
  headers: IncomingMessage['headers']
  body: string
}

export interface Daemon {
  readonly socket: string
  readonly asked: Asked[]
  /** The kick ids of streams that ended, as nginx told. Not among the asked. */
  readonly ended: string[]
  readonly connections: number
  /** What the next requests get. The last word counts. */
  answer: (request: Asked) => Answer | Promise<Answer>
  /** What nginx gets that tells of an end. */
  answerEnded: Answer
  /** The last request, or a fault where none came. */
  last(): Asked
  stop(): Promise<void>
  listen(): Promise<void>
}

/** Everyone passes as 201. */
export const PASS = {
  status: 204,
  headers: {
    'X-Auth-User': '201',
    'X-Auth-Role': 'user',
    'X-Auth-Session': 's1',
    'X-Auth-Expires': '1800000000',
  },
}

const resourceOf = (url: string): string | undefined => {
  const [, id] = /^\/check\/(.*)/.exec(url) ?? []
  const bytes = id?.replaceAll(/%(..)/g, (_, hex: string) =>
    String.fromCharCode(Number(`0x${hex}`)),
  )
  return bytes && Buffer.from(bytes, 'latin1').toString()
}

/** A kick id as the daemon makes them, never the same twice. */
export const kickId = (): string => `kick-${randomBytes(16).toString('base64url')}`

/** Passes a `subscribe`, naming both; from a message id where one is given. */
export const open = (channel: string, kick: string, resume?: string): Answer => ({
  status: 204,
  headers: {
    ...PASS.headers,
    'X-Auth-Channels': `${channel},${kick}`,
    ...(resume !== undefined && { 'X-Auth-Resume': resume }),
  },
})

/** The id that the client goes on from, where it looks right. */
export const resumeOf = ({ headers }: Asked): string | undefined =>
  readResume(String(headers['x-original-resume'] ?? '||'), String(headers['x-original-uri']), 'two')

/** Passes, with the asked channel and a fresh kick id as the daemon does for `subscribe`. */
export function pass(request: Asked): Answer {
  const { resource: channel } = request
  const subscribes = request.headers['x-auth-action'] === 'subscribe' && channel !== undefined
  return subscribes ? open(channel, kickId(), resumeOf(request)) : PASS
}

export function refuse(status: 401 | 403, reason: string): Answer {
  const challenge =
    status === 401 ? 'Bearer error="invalid_token"' : 'Bearer error="insufficient_scope"'
  return { status, headers: { 'WWW-Authenticate': challenge, 'X-Auth-Reason': reason } }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
  return Buffer.concat(parts).toString()
}

function write(response: ServerResponse, answer: Answer): void {
  if (answer === 'hang') return
  if (answer === 'cut') return void response.destroy()
  const length = Buffer.byteLength(answer.body ?? '')
  // A body, or chunked, would make nginx drop the kept-alive connection.
  const framing = answer.status === 204 ? {} : { 'Content-Length': length }
  response.writeHead(answer.status, { ...answer.headers, ...framing }).end(answer.body)
}

export async function startDaemon(t: Test): Promise<Daemon> {
  // Not in t.testdir(): a unix socket's path ends at 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'postern-stub-'))
  const asked: Asked[] = []
  const ended: string[] = []
  let connections = 0
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const one = {
      method: String(request.method),
      url: String(request.url),
      resource: resourceOf(String(request.url)),
      names: request.rawHeaders.filter((_, index) => index % 2 === 0),
      headers: request.headers,
      body: await readBody(request),
    }
    if (one.url === '/subscription-ended') {
      ended.push(String(one.headers['x-auth-kick']))
      write(response, daemon.answerEnded)
      return
    }
    asked.push(one)
    write(response, await daemon.answer(one))
  }
  // 75 s: more than the 60 s for which nginx keeps a connection.
  const server = createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
    void serve(request, response)
  })
  server.on('connection', () => connections++)

  const daemon: Daemon = {
    socket: join(folder, 'http.sock'),
    asked,
    ended,
    get connections() {
      return connections
    },
    answer: pass,
    answerEnded: { status: 204 },
    last: () => {
      const one = asked.at(-1)
      if (one === undefined) throw new Error('nothing was asked')
      return one
    },
    listen: async () => {
      server.listen(daemon.socket)
      await once(server, 'listening')
    },
    stop: async () => {
      if (!server.listening) return
      server.close()
      server.closeAllConnections()
      await once(server, 'close')
    },
  }
  await daemon.listen()
  t.teardown(async () => {
    await daemon.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  return daemon
}
