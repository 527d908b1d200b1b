// What can be wrong between us and Redis → a StoreError whose message names the cure. It must never turn a
// fault into an answer about a session: whatever it does not know is 'unavailable' as well.

import { findCertificateFault } from '../../files/certificates.ts'
import { StoreError } from '../store.ts'

const NO_CLUSTER =
  'it is part of a cluster, which is not supported: name a single server, or sentinels'

/** By the first word of Redis's error reply, or Node's `code`. */
const CURES: Readonly<Record<string, string>> = {
  READONLY: 'it is a read-only replica: point the url at the primary, or use redis+sentinel://',
  MASTERDOWN: 'it is a replica that lost its primary: point the url at the primary',
  LOADING: 'it is still loading its data: wait, or see its log',
  NOAUTH: 'it asks for a password: name its file in store.password_file, and restart',
  WRONGPASS:
    'it refuses the user or the password: correct the url or store.password_file, and restart',
  NOPERM:
    'its ACL refuses us: grant ~prefix* &prefix* +@read +@write +@scripting +@pubsub +@connection +info',
  OOM: 'its memory is full: raise its maxmemory, or give Postern a Redis of its own',
  EVICTS: 'it may evict sessions and ends of sessions: set its maxmemory-policy to noeviction',
  MISCONF: 'it cannot write to its disk: see its log, and make room there',
  BUSY: 'a script keeps it busy: look for it, and run SCRIPT KILL',
  NOREPLICAS: 'too few replicas are in step: bring them back, or lower its min-replicas-to-write',
  MOVED: NO_CLUSTER,
  CLUSTERDOWN: NO_CLUSTER,
  NOPRIMARY: 'its sentinels know no primary of that name: correct the url',
  ECONNREFUSED: 'nothing listens there: start it, or correct the url',
  ECONNRESET: 'the connection broke: it heals by itself when Redis is back',
  ENOENT: 'there is no such socket: start Redis, or correct the url',
  EACCES:
    'its socket may not be used by the user that Postern runs as: set its unixsocketperm to 770 and give that user its group (systemd: drop-ins/redis-socket.conf)',
  EAFNOSUPPORT:
    'the unit of Postern has no network: take drop-ins/outgoing-tcp.conf, or the socket of a Redis on this host',
  ENOTFOUND: 'its name is not known: correct the url, or check the DNS',
  EAI_AGAIN:
    'its name cannot be looked up now: check the DNS (systemd: drop-ins/outgoing-tcp.conf opens the way to it)',
  EHOSTUNREACH: 'there is no route to it: check the network',
  ENETUNREACH: 'there is no route to it: check the network',
  ETIMEDOUT: 'it does not answer: check whether it hangs, and the network',
}

export const CA_FILE = 'store.ca_file'

/** The package's own words. Its limit for connecting is ours too, and on a busy machine either may be first. */
const WORDS = new Map([
  ['Socket closed unexpectedly', 'ECONNRESET'],
  ['The client is closed', 'ECONNRESET'],
  ['Connection timeout', 'ETIMEDOUT'],
])

/** `READONLY` of "READONLY You can't write…", `ECONNREFUSED` of a socket's error. */
export const faultCode = (error: unknown): string => {
  const { code, message } = Object(error) as { code?: unknown; message?: unknown }
  if (typeof code === 'string') return code
  const text = String(message)
  return WORDS.get(text) ?? /^[A-Z]{2,}(?= |$)/.exec(text)?.[0] ?? ''
}

/** `label` names the server without its credentials. The error itself is its cause, for the log. */
export const toRedisFault = (error: unknown, label: string): StoreError => {
  if (error instanceof StoreError) return error
  const code = faultCode(error)
  // Replies are Redis's own text: a script's name and line may stand in them, values never do.
  const what =
    CURES[code] ??
    findCertificateFault(code, { name: CA_FILE, restart: true }) ??
    (error instanceof Error ? error.message : String(error))
  return new StoreError('unavailable', `${label}: ${code === '' ? '' : `${code}: `}${what}`, {
    cause: error,
  })
}

/** One for what no reply says: a wait that was cut short, or a policy that we found. */
export const redisFault = (code: string, label: string): StoreError =>
  toRedisFault(Object.assign(new Error(code), { code }), label)
