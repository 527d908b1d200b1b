// How a live subscription is ended: DELETE of its private channel at nginx, over a unix socket that only
// Postern may open. It only ever names one kick channel; it cannot touch a channel that carries messages.

import { Agent, request } from 'node:http'

import type { Ending } from './stream-ender.ts'
import type { Subscription } from './subscription.ts'

// Milliseconds: a kick takes 3 to 250, and up to 1110 while not every worker of an nginx runs yet: Nchan then asks
// the others again after a second (measured).
const TIMEOUT = 2500
const STALE: ReadonlySet<unknown> = new Set(['ECONNRESET', 'EPIPE'])
const SOCKETS = 16 // 200 kicks at once take 110 to 156 ms over as many
const MAX_ANSWER = 4096

/** nginx cannot be asked to end a stream: why, and the cure. */
export class KickSocketError extends Error {
  readonly code: string | undefined
  constructor(message: string, code?: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

interface Answer {
  status: number
  body: string
  /** Seconds for which Nchan keeps a message; NaN where nginx did not say it. */
  messageLife: number
}

const CURES: Readonly<Record<string, string>> = {
  // Over a reload nginx keeps listening on its old socket, also where the socket's file is gone (measured).
  ENOENT:
    'is not there: start nginx, or where it runs, `systemctl restart nginx` (a reload does not bring the socket back)',
  ECONNREFUSED:
    'has nobody listening: start nginx; where it was killed, remove that file first, else nginx does not start',
  EACCES:
    'may not be opened: its folder must have mode 0750, owner root and group postern (`systemd-tmpfiles --create postern.conf`)',
}

const explain = (socketPath: string, error: NodeJS.ErrnoException): KickSocketError => {
  const code = String(error.code)
  const cure = CURES[code] ?? `gets no answer from nginx (${code}): see nginx's error log`
  return new KickSocketError(`${socketPath} ${cure}`, code, { cause: error })
}

export const createKicker = (socketPath: string) => {
  const kicks = new Agent({ keepAlive: true, maxSockets: SOCKETS })
  // After a reload of nginx 10,000 clients come back at once, and no end may wait behind what is asked for them.
  const looks = new Agent({ keepAlive: true, maxSockets: SOCKETS })
  // nginx closes all idle connections at the same moment: after a dead one, the next kept one would be dead as well.
  const fresh = new Agent({ maxSockets: SOCKETS })

  const ask = (method: 'DELETE' | 'GET', path: string, anew = false): Promise<Answer> => {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    const kept = method === 'DELETE' ? kicks : looks
    const asked = request({
      socketPath,
      agent: anew ? fresh : kept,
      method,
      path,
      headers: { Accept: 'text/json', Host: 'nginx' },
      timeout: TIMEOUT,
    })
    asked.on('timeout', () =>
      asked.destroy(Object.assign(new Error('silence'), { code: 'ETIMEDOUT' })),
    )
    asked.on('error', (error: NodeJS.ErrnoException) => {
      // nginx closed an idle connection just as it was used: both methods may safely be repeated.
      if (asked.reusedSocket && STALE.has(error.code)) resolve(ask(method, path, true))
      else reject(explain(socketPath, error))
    })
    asked.on('response', (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        if (body.length < MAX_ANSWER) body += text
      })
      response.on('error', (error) => reject(explain(socketPath, error)))
      response.on('end', () => {
        const messageLife = parseInt(String(response.headers['x-message-life']), 10)
        resolve({ status: Number(response.statusCode), body, messageLife })
      })
    })
    asked.end()
    return promise
  }

  const unexpected = (status: number): KickSocketError =>
    new KickSocketError(
      `${socketPath}: nginx answered ${status} there: include postern-kick.conf as it stands`,
    )

  const kick = async (id: string): Promise<Ending> => {
    const { status } = await ask('DELETE', `/kick/${id}`)
    if (status === 404) return 'nobody'
    if (status !== 200 && status !== 202 && status !== 204) throw unexpected(status)
    return 'ended'
  }

  /** What Nchan says of itself, and what of it fits. */
  const read = async (pattern: RegExp): Promise<string> => {
    const { status, body } = await ask('GET', '/nchan', true)
    // Another server's 200 is no sign that streams can be ended.
    const found = status === 200 ? pattern.exec(body)?.[1] : undefined
    if (found === undefined) throw unexpected(status)
    return found
  }

  return {
    /** Nchan says `ended` also of a stream that ended a while ago. */
    end: (streams: readonly Subscription[]) => streams.map(({ kick: id }) => kick(id)),
    /**
     * How many streams hang on this id, as far as can be told: it may say 0 of a live one, and 1 of an ended one.
     * `unknown`: none, and none that ended lately.
     */
    async count({ kick: id }: Subscription): Promise<number | 'unknown'> {
      const { status, body } = await ask('GET', `/kick/${id}`)
      if (status === 404) return 'unknown'
      const found = status === 200 ? /"subscribers"\s*:\s*(\d+)/.exec(body)?.[1] : undefined
      if (found === undefined) throw unexpected(status)
      return Number(found)
    },
    /** Unix seconds until which the channel keeps its newest message; undefined where it keeps none. */
    async keepsUntil(channel: string): Promise<number | undefined> {
      const { body, messageLife } = await ask('GET', `/kept/${channel}`)
      const newest = /"messages": *[1-9][^]*"last_message_id": *"(\d+):/.exec(body)?.[1]
      return newest === undefined ? undefined : Number(newest) + messageLife
    },
    /**
     * How many channels Nchan has: the sign that streams can be ended. On a connection of its own: a kept one still
     * answers when the socket can no longer be reached.
     */
    countChannels: async () => Number(await read(/^channels: (\d+)/m)),
    /** Of all channels, whoever's they are; exact, also over ends and a restart of ours (measured). */
    countSubscribers: async () => Number(await read(/^subscribers: (\d+)/m)),
    /** Nchan's, as it says it. */
    version: () => read(/^nchan version: (\S+)/m),
    close(): void {
      kicks.destroy()
      looks.destroy()
      fresh.destroy()
    },
  }
}

export type Kicker = ReturnType<typeof createKicker>
