// One live stream of a session, as far as it must be remembered to be ended: a subscription, or whatever else nginx
// serves over a connection that is followed.

/** Why a subscription was kicked. */
export const KICK_CAUSES = [
  'expired', // the session's last access token ran out
  'session_ended',
  'grant_removed', // a reload took the right away, or the key that admitted it
  'limit', // the session opened too many: the oldest goes
  'operator',
  'swept', // nobody seems to listen any more
] as const
export type KickCause = (typeof KICK_CAUSES)[number]

export interface Subscription {
  /** Random, names a private Nchan channel; never used again after a kick (Nchan then leaves streams open). */
  readonly kick: string
  readonly sid: string
  readonly username: string
  readonly userId: number
  readonly role: string
  readonly resource: string
  readonly startedAt: number
  /** Unix seconds: when the right to it ends unless the session refreshes. */
  readonly until: number
  readonly address: string
  readonly agent: string
  /** Of the key that signed the token it was admitted by; empty where the version before admitted it. */
  readonly kid: string
  /** The pid of nginx's worker that it opened in; empty where that is not known, or there is more than one. */
  readonly worker: string
  /** The user's own number, where they have one: what is theirs by it stays theirs. */
  readonly number?: string | undefined
  /** What was asked for; absent: subscribe. Empty, as its resource is then: more than is told apart of one connection. */
  readonly action?: string | undefined
  /** Its TCP connection, as nginx says it: the peer's address and port, then nginx's own. Absent: it cannot be cut. */
  readonly connection?: string | undefined
  /** The kernel's name for that socket, looked up before the stream was let in, in hexadecimal. */
  readonly cookie?: string | undefined
}
