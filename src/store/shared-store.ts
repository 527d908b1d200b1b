// What a store offers beyond the port where several instances share it. An instance alone on its store needs none
// of it: it has made every end itself. The daemon decides on what it holds in memory, so an adapter must never report
// `ok` while an end could be missing there.

import type { EndedSession, Store } from './store.ts'

/** `away`: it does not answer, or not usefully. `lost`: it answers, and lacks what it once acknowledged. */
export type StoreState = 'ok' | 'away' | 'lost'

export interface StateChange {
  readonly state: StoreState
  /** What is wrong, and the cure: once per change. */
  readonly message: string
}

/** How an instance learns of every end of a session, whoever made it: what lets it decide without asking. */
export interface RevocationFeed {
  state(): StoreState
  /** How often the server was found to lack what it had acknowledged. */
  losses(): number
  /** What was told last. */
  change(): StateChange
  /** Seconds since all ends were known for certain: what `stale_seconds` is compared with. */
  age(): number
  /**
   * No access token issued before this instant may be believed: ends of that time may be lost. It moves when
   * the server has lost data, when an operator moves the epoch, or at the very first start.
   */
  trustedSince(): number
  /** It moved, on whatever host. */
  onTrustedSince(listener: (since: number) => void): void
  /** Each end once, whoever made it: within milliseconds as a rule, within `bound` always while the state is ok. */
  onEnded(listener: (ended: EndedSession) => void): void
  onState(listener: (change: StateChange) => void): void
  /** Reads what is new now; never rejects. It is what the poll does. */
  resync(): Promise<void>
  /** Seconds in which an end reaches this host though its message was lost. */
  readonly bound: number
}

/** What every instance hears at once, itself included. A hint that may be lost: nothing may rest on it. */
export interface Signals {
  /** Rejects with a StoreError where it could not be said. */
  tell(text: string): Promise<void>
  onTold(listener: (text: string) => void): void
}

export interface SharedLimit {
  /** Whom it counts: an account, an address, a pair of both. */
  readonly key: string
  readonly failures: number
  /** Seconds between tries past the limit; 0: none until the window ends. */
  readonly spacing: number
  /** A success forgets the failures before it. */
  readonly forgiving?: boolean
}

export type SharedAttempt<Limit extends SharedLimit> =
  /** Counted. Resolves when it was sent, never rejects: what did not arrive is sent again by and by. */
  | { settle(outcome: 'succeeded' | 'failed' | 'not_judged'): Promise<void> }
  /** Too many are under way, anywhere, that may yet fail: not counted, ask again. */
  | { readonly wait: Limit }
  /** `first`: this refusal begins the ban. */
  | { readonly refused: Limit; readonly retryAfter: number; readonly first: boolean }

export interface SharedThrottle {
  /** Counts a try under every key, or under none where one of them stops it, in the order given. */
  begin<Limit extends SharedLimit>(
    limits: readonly Limit[],
    window: number,
  ): Promise<SharedAttempt<Limit>>
}

/** Beyond the port's verbs, and each as atomic as they are. */
export interface SharedVerbs {
  /** Who may make the keys that all instances share: the first who asked, for good. */
  claimKeys(who: string): Promise<string>
}

export interface SharedStore extends Store, SharedVerbs {
  readonly feed: RevocationFeed
  readonly throttle: SharedThrottle
  readonly signals: Signals
  /** For people: the server, without credentials. */
  readonly label: string
  /** What of the server's settings could un-revoke a token, each with its cure. */
  inspect(): Promise<string[]>
}
