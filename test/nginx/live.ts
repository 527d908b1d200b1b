// A site as it runs: nginx with the shipped files, Nchan, and the daemon as a process of its own. Tests of what
// is live look at it as clients do, from outside; it must leave nothing behind.

import { request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'

import { type Nginx, type NginxOptions, startNginx } from '../fixtures/nginx.ts'
import {
  bearer,
  HASH,
  login,
  makePlace,
  type Place,
  type Run,
  run,
  serve,
  type Tokens,
} from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, type Reply, V1 } from './ask.ts'
import { eventSource, longPoll, type Listen, type Stream, webSocket } from './listen.ts'

export { bearer, HASH, login, type Tokens }

export interface Site {
  place: Place
  nginx: Nginx
  daemon(): Run
  enter(username?: string): Promise<Tokens>
  /** One of our own endpoints, straight at the daemon: nginx limits logins. */
  post(path: string, token: string, method?: string): Promise<Reply>
  publish(channel: string, body: string): Promise<Reply>
  /** Publishes until the test ends, so that the channel is never quiet. */
  keepBusy(t: Test, channel: string): void
  /** What the command says to the daemon. */
  control(path: string): Promise<Reply>
  /** Streams of the session, as far as the daemon has let them in. */
  admitted(token: string): Promise<number>
  /** `postern …`: its lines. */
  postern(...argv: string[]): Promise<string>
  kill(): Promise<void>
  start(): Promise<void>
}

export const ROOMS = 'subscribe:room-*'
const PATIENCE = 20_000 // milliseconds beyond a limit: a stream that ends late is told from one that never does

export const openSite = async (
  t: Test,
  options: {
    sections?: Readonly<Record<string, string>>
    /** More lines of [streams]. */
    streams?: string
    users?: readonly string[]
    nginx?: Partial<NginxOptions>
    /** What stands between nginx and the daemon's socket. */
    through?: (place: Place) => Promise<string>
  } = {},
): Promise<Site> => {
  const place = makePlace(t)
  place.configure({
    streams: `kick_socket = "${place.at('kick.sock')}"\n${options.streams ?? ''}`,
    // Logins under way count as failures until they are judged, and here many come at once.
    throttle: 'pair_failures = 1000000\naddress_failures = 1000000\naccount_failures = 1000000',
    'roles.user': `grants = ["${ROOMS}", "subscribe:me/*", "read:recordings/**"]`,
    ...options.sections,
  })
  place.users(
    `201:${HASH}:user:Anna`,
    `202:${HASH}:user:Bert`,
    `900:${HASH}:admin:Operator`,
    ...(options.users ?? []),
  )
  const postern = (await options.through?.(place)) ?? place.at('http.sock')
  const nginx = await startNginx(t, { postern, kick: place.at('kick.sock'), ...options.nginx })
  let daemon = await serve(t, place)
  const publish = (channel: string, body: string): Promise<Reply> =>
    ask(nginx.port, `${V1}/pub/${channel}`, { body })
  return {
    place,
    nginx,
    daemon: () => daemon,
    enter: (username = '201') => login(place.ask, username),
    post: (path, token, method = 'POST') =>
      place.ask(`${V1}${path}`, { method, headers: bearer(token) }),
    publish,
    keepBusy(busy, channel) {
      let count = 0
      const timer = setInterval(() => {
        publish(channel, `busy ${count++}`).catch(() => undefined)
      }, 50)
      busy.teardown(() => {
        clearInterval(timer)
      })
    },
    control: (path) => ask(0, path, { method: 'POST', socket: place.at('control.sock') }),
    async admitted(token) {
      const { body } = await ask(0, '/sessions', { socket: place.at('control.sock') })
      const { sessions } = JSON.parse(body) as {
        sessions: { id: string; subscriptions: unknown[] }[]
      }
      return sessions.find(({ id }) => id === claimsOf(token).sid)?.subscriptions.length ?? 0
    },
    async postern(...argv) {
      const command = run(t, [...argv, '--config', place.config])
      const { code } = await command.ended
      if (code !== 0) throw new Error(`postern ${argv.join(' ')}: ${code} ${command.err()}`)
      return command.out().trim()
    },
    async kill() {
      await daemon.end('SIGKILL')
    },
    async start() {
      daemon = await serve(t, place)
    },
  }
}

/** A channel with a credential in its query, as clients that cannot send headers write it. */
export const withToken = (channel: string, token: string): string =>
  `${channel}?authorization=${token}`

/** A long-poll that goes on by ETag, as clients do, until something else than a message comes. */
export const poller: Listen = (t, port, channel) => {
  let [text, live, stopped] = ['', true, false]
  const { promise, resolve } = Promise.withResolvers<string>()
  let from: Record<string, string> = {}
  const next = (): void => {
    const outgoing = request({
      host: '127.0.0.1',
      port,
      path: `${V1}/sub/${channel}`,
      headers: from,
      agent: false,
    })
    t.teardown(() => outgoing.destroy())
    outgoing.on('error', () => {
      live = false
      resolve('gone')
    })
    outgoing.on('response', (response) => {
      response.setEncoding('utf8').on('data', (part: string) => (text += part))
      response.on('end', () => {
        const { etag, 'last-modified': modified } = response.headers
        if (stopped || response.statusCode !== 200) {
          live = false
          resolve(String(response.statusCode))
          return
        }
        from = { 'If-None-Match': String(etag), 'If-Modified-Since': String(modified) }
        text += '\n'
        next()
      })
    })
    outgoing.end()
  }
  next()
  return Promise.resolve({
    get text() {
      return text
    },
    get live() {
      return live
    },
    ended: promise,
    close() {
      stopped = true
    },
  })
}

export const WAYS = [
  ['EventSource', eventSource],
  ['WebSocket', webSocket],
  ['long-poll', poller],
] as const

/** A single long-poll beside the two that stay: on a quiet channel it hangs as they do. */
export const QUIET_WAYS = [
  ['EventSource', eventSource],
  ['WebSocket', webSocket],
  ['long-poll', longPoll],
] as const

/** Milliseconds until all of them have ended, those of the machine left out; a fault where one has not. */
export const endsWithin = async (
  streams: readonly Stream[],
  limit: number,
  elapsed = startStopwatch(),
): Promise<number> => {
  const late = Symbol('late')
  const all = Promise.all(streams.map(({ ended }) => ended))
  const outcome = await Promise.race([all, delay(limit + PATIENCE, late, { ref: false })])
  if (outcome === late) {
    const open = streams.filter(({ live }) => live).length
    throw new Error(`${open} of ${streams.length} streams are still open`)
  }
  return elapsed().ours
}

/** The claims of a token, unverified. */
export const claimsOf = (token: string): { exp: number; sid: string } =>
  JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as {
    exp: number
    sid: string
  }
