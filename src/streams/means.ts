// By which means a stream will end: decided while it is let in, and never afterwards. A connection whose socket was not
// found then is never looked up again, for its addresses may be a stranger's by the time.

import type { Time } from '../clock.ts'
import type { Cutter } from './cutter.ts'

/** Why a stream cannot be cut; what stands behind each is for the log, with the cure where there is one. */
export const WHYS = {
  unix: 'nginx was asked over a unix socket, which has no connection to cut: let it listen on an address',
  http3: 'HTTP/3 has no connection that the kernel knows: leave `listen … quic` away',
  shared:
    'a proxy in front brings many over one HTTP/2 connection: let it speak HTTP/1.1 to this nginx',
  old_nginx:
    'nginx does not say which connection it is: `nginx -t && systemctl reload nginx`, with the nginx files of this version',
  malformed:
    'nginx says otherwise than by its files which connection it is: take those of this version',
  away: 'the cutter cannot be asked: see the line about it, and `postern doctor`',
  silent: 'the cutter has not answered in time: `journalctl -u postern-cut`',
  gone: 'the cutter does not find the connection: it must run in the network namespace of nginx',
  port: 'the port of nginx does not stand in the list of the cutter: add it to its unit',
  owner: 'the connection is not one of nginx’s, by its unit or user: see the unit of the cutter',
  ambiguous: 'two interfaces have a client by this link-local address and port',
  denied:
    'the kernel denies it to the cutter: it needs CAP_NET_ADMIN, and CONFIG_INET_DIAG_DESTROY',
  rate: 'the cutter is asked for more than it takes in a second: `journalctl -u postern-cut`',
  other: 'the cutter refuses it: `journalctl -u postern-cut`',
} as const
export type Why = keyof typeof WHYS

// Seconds that a check waits for the socket's cookie, which takes 0.0001. A machine without a processor to spare may need
// more (load 13 on two cores: 33 of 4,000), which is waited for where nothing else would ever end the stream.
const PATIENCE = { kick: 0.05, nothing: 0.5 }
const START = 1 // second: the cutter is started when it is first asked

/** No stream is let in that cannot be cut. */
export class UncuttableError extends Error {}

/** As nginx says it; or why it is none to cut. */
export type Connection = { connection: string } | { why: Why }

/** What ends a stream that cannot be cut. */
export type OrElse = keyof typeof PATIENCE

const isWhy = (text: string): text is Why => Object.hasOwn(WHYS, text)

export const createMeans = (parts: {
  cutter: Pick<Cutter, 'look' | 'isStarting'>
  end(): 'auto' | 'cut' | 'kick'
  clock: Pick<Time, 'deadline'>
  onUncuttable(why: Why): void
}) => {
  const { cutter, end, clock, onUncuttable } = parts

  const cookieOf = (connection: string): Promise<{ cookie: string } | { why: Why }> =>
    cutter.look(connection).then(
      (found) => {
        if (found === 'gone') return { why: 'gone' }
        if ('cookie' in found) return { cookie: found.cookie }
        return { why: isWhy(found.refused) ? found.refused : 'other' }
      },
      () => ({ why: 'away' }),
    )

  const find = async (
    connection: string,
    orElse: OrElse,
  ): Promise<{ cookie: string } | { why: Why }> => {
    const late = Promise.withResolvers<{ why: Why }>()
    const patience = cutter.isStarting() ? START : PATIENCE[orElse]
    const cancel = clock.deadline(patience, () => late.resolve({ why: 'silent' }))
    return Promise.race([cookieOf(connection), late.promise]).finally(cancel)
  }

  return {
    /** Whether connections are looked up at all. */
    areCut: () => end() !== 'kick',
    /**
     * The connection and its socket's cookie; undefined where it cannot be cut. Throws where only what can be cut may be
     * let in.
     */
    async find(
      at: Connection,
      orElse: OrElse,
    ): Promise<{ connection: string; cookie: string } | undefined> {
      if (end() === 'kick') return undefined
      const found = 'why' in at ? at : await find(at.connection, orElse)
      if ('connection' in at && 'cookie' in found) {
        return { connection: at.connection, cookie: found.cookie }
      }
      const { why } = found as { why: Why }
      onUncuttable(why)
      // Whoever makes its own connection one of two could keep what is served over it.
      if (end() !== 'cut' && why !== 'ambiguous') return undefined
      throw new UncuttableError(
        `streams.end = "${end()}", and this stream cannot be cut (${why}): ${WHYS[why]}`,
      )
    },
  }
}

export type Means = ReturnType<typeof createMeans>
