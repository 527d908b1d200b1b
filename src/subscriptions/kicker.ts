// How a live subscription is ended: DELETE of its private channel at nginx, over a unix socket that only
// Postern may open. It only ever names one kick channel; it cannot touch a channel that carries messages.

import { Agent, request } from 'node:http'

export interface Kicker {
  /** `ended`: nginx had somebody to end, or had had; `nobody`: nobody has subscribed with this id (yet). */
  end(kick: string): Promise<'ended' | 'nobody'>
  /** How many streams hang on this id, as far as Nchan knows: it may say 0 of a live one, and 1 of an ended one. */
  count(kick: string): Promise<number | 'unknown'>
  /** What Nchan counts of itself, by its own words: `channels`, `subscribers`, `stored messages` … */
  status(): Promise<ReadonlyMap<string, number>>
  close(): void
}

const TIMEOUT = 1000 // milliseconds: a kick takes 3 to 250
const SOCKETS = 16 // 200 kicks at once take 110 to 156 ms over as many
const MAX_ANSWER = 4096

export const createKicker = (socketPath: string): Kicker => {
  const agent = new Agent({ keepAlive: true, maxSockets: SOCKETS })

  const ask = (
    method: 'DELETE' | 'GET',
    path: string,
    isRetry = false,
  ): Promise<{ status: number; body: string }> => {
    const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>()
    const asked = request({
      socketPath,
      agent,
      method,
      path,
      headers: { Accept: 'text/json', Host: 'nginx' },
      timeout: TIMEOUT,
    })
    asked.on('timeout', () => asked.destroy(new Error('nginx does not answer on its kick socket')))
    asked.on('error', (error: NodeJS.ErrnoException) => {
      // nginx closed an idle connection at the moment of its use: both verbs may be said twice.
      const stale = asked.reusedSocket && error.code === 'ECONNRESET' && !isRetry
      if (stale) resolve(ask(method, path, true))
      else reject(error)
    })
    asked.on('response', (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        if (body.length < MAX_ANSWER) body += text
      })
      response.on('error', reject)
      response.on('end', () => {
        resolve({ status: Number(response.statusCode), body })
      })
    })
    asked.end()
    return promise
  }

  const unexpected = (status: number): Error =>
    new Error(`nginx answered ${status} on its kick socket: include postern-kick.conf as it stands`)

  return {
    async end(kick) {
      const { status } = await ask('DELETE', `/kick/${kick}`)
      if (status === 404) return 'nobody'
      if (status !== 200 && status !== 202 && status !== 204) throw unexpected(status)
      return 'ended'
    },
    async count(kick) {
      const { status, body } = await ask('GET', `/kick/${kick}`)
      if (status === 404) return 'unknown'
      const found = status === 200 ? /"subscribers"\s*:\s*(\d+)/.exec(body)?.[1] : undefined
      if (found === undefined) throw unexpected(status)
      return Number(found)
    },
    async status() {
      const { status, body } = await ask('GET', '/nchan')
      if (status !== 200) throw unexpected(status)
      // Lines such as `channels: 3` and `shared memory used: 16K`.
      const lines = body.matchAll(/^([a-z][a-z ]*): (\d+)(K?)/gm)
      return new Map(
        Array.from(lines, ([, name = '', count, kilo]) => [
          name,
          Number(count) * (kilo === 'K' ? 1024 : 1),
        ]),
      )
    },
    close() {
      agent.destroy()
    },
  }
}
