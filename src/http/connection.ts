// Which TCP connection a request came over, as nginx says it. It must never be what a client could write: of it a whole
// connection is cut.

import type { Headers } from './headers.ts'
import type { Handler } from './request.ts'

const PLAIN = /^[0-9A-Fa-f.:]{2,45} \d{1,5} [0-9A-Fa-f.:]{2,45} \d{1,5}$/

/** The peer's address and port, then nginx's own, as one text; or in one word why it is none to cut. */
export type Connection =
  | { connection: string }
  | { why: 'unix' | 'http3' | 'shared' | 'malformed' | 'old_nginx' }

/** Empty where nothing of the request is followed. */
const said = (headers: Headers): string => headers.get('x-original-connection') ?? ''

export const isFollowed = (headers: Headers): boolean => said(headers) !== ''

export const readConnection = (headers: Headers): Connection => {
  const text = said(headers)
  if (text === '') return { why: 'old_nginx' }
  const [protocol = '', peer, peerPort, local, localPort, ...client] = text.split(' ')
  if (peer === 'unix:') return { why: 'unix' }
  if (protocol.startsWith('HTTP/3')) return { why: 'http3' }
  const connection = `${peer} ${peerPort} ${local} ${localPort}`
  if (!PLAIN.test(connection)) return { why: 'malformed' }
  // Many people come over one connection of a proxy that nginx trusts.
  const isAlone = client.join(' ') === `${peer} ${peerPort}`
  return protocol.startsWith('HTTP/2') && !isAlone ? { why: 'shared' } : { connection }
}

/** Whoever ends a session over the very connection that carries its streams sees the answer first. */
export const answerFirst =
  (hold: (connection: string) => () => void, handler: Handler): Handler =>
  async (request) => {
    const from = readConnection(request.headers)
    if ('why' in from) return handler(request)
    const release = hold(from.connection)
    try {
      return { ...(await handler(request)), afterwards: release }
    } catch (error) {
      release()
      throw error
    }
  }
