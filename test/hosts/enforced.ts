// What a session's end means on another host: when checks there begin to refuse it, and when its streams close.
// nginx stands where the test does: unix sockets lead to its daemon, whatever namespace that is in.

import type { Test } from 'tap'

import { nginxMissing, type Nginx, startNginx } from '../fixtures/nginx.ts'
import { nginxFound, type Tokens } from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { endsWithin, QUIET_WAYS, withToken } from '../nginx/live.ts'
import type { Stream } from '../nginx/listen.ts'
import { type Bed, type Host, IN_MEMORY, openHosts, PATIENT } from './bed.ts'
import type { createAsker } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

export const STREAMS_WITHIN = 500 // milliseconds after the end of the right
export const NEEDS_STREAMS = {
  skip: NEEDS_HOSTS.skip === false ? nginxMissing() : NEEDS_HOSTS.skip,
}

/** Asks without a pause until it is refused: when the last check was asked that still passed. */
export const lastAllowed = async (
  ask: ReturnType<typeof createAsker>,
  token: string,
): Promise<number> => {
  const deadline = performance.now() + 20_000
  for (let last = -Infinity; ;) {
    const { at, status, reason } = await ask(token)
    if (status === 401) return last
    if (status !== 204) throw new Error(`a check: ${status} ${reason}`)
    if (at > deadline) throw new Error('never refused')
    last = at
  }
}

/** Streams of all kinds at B's nginx, by a login of A's. */
export const listen = async (t: Test, port: number, { access }: Tokens): Promise<Stream[]> => {
  const streams: Stream[] = []
  for (const [, open] of QUIET_WAYS) {
    streams.push(await open(t, port, withToken('room-quiet', access)))
  }
  return streams
}

export interface WithStreams {
  readonly bed: Bed
  readonly a: Host
  readonly b: Host
  /** Beside B. */
  readonly nginx: Nginx
  /** Milliseconds until the streams on B of a session that this host ends are closed. */
  closes(t: Test, from: Host, limit: number): Promise<number>
}

export const openWithStreams = async (t: Test): Promise<WithStreams> => {
  const { bed, hosts } = await openHosts(t, ['a', 'b'], PATIENT, IN_MEMORY)
  const [a, b] = hosts
  const nginx = await startNginx(t, { postern: b.socket, kick: b.place.at('kick.sock') })
  await nginxFound(b.place)
  const closes = async (t: Test, from: Host, limit: number): Promise<number> => {
    const tokens = await from.login()
    const streams = await listen(t, nginx.port, tokens)
    const elapsed = startStopwatch()
    t.equal(await from.logout(tokens.access), 200)
    const took = await endsWithin(streams, limit, elapsed)
    t.equal(await b.check(tokens.access), '401 session_ended')
    return took
  }
  return { bed, a, b, nginx, closes }
}
