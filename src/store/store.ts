// The port to what must be remembered. Every verb is one atomic step, so two hosts see one order and no
// caller can check first and act later. Nothing here knows of HTTP, tokens' texts or keys: refresh tokens
// arrive as hashes. One contract suite (test/store/contract.ts) runs against every adapter.

import type { Subscription } from '../streams/subscription.ts'

/*
 * For whoever writes an adapter
 *
 * It is a folder beside sqlite/ and redis/ with one opener, named in daemon/open-state.ts and nowhere else, and a test
 * that hands the opener to runStoreContract. What a single verb promises stands at the verb. All of them promise this:
 *
 * - One step. It happens whole or not at all, and calls that were made in an order happen in that order.
 * - It lasts. When a verb resolves, its change survives what STORE_VERBS says. When it rejects, the change may have
 *   happened: no caller repeats a rotation, and neither may the adapter.
 * - A fault is no answer. "Unknown" means that the store looked and there is nothing. A store that is away, damaged,
 *   full, a replica or not the one it was rejects with a StoreError whose message names the cure.
 * - It is told the time. `now` is the caller's, in Unix seconds; the adapter's own clock decides nothing here.
 * - It is bounded. A call is answered or refused within about a second; what cannot be taken is refused as `busy`.
 * - Names are literal: no folding of case, no trimming, any Unicode. A token is kept as its hash alone.
 * - The same sid or token a second time is a fault, never an overwrite.
 * - `close` answers what was asked before it. After it every verb rejects; closing twice is no fault.
 *
 * What instances that share a store need beyond that is in shared-store.ts. It is optional as a whole: an adapter for
 * one instance offers none of it, one for several offers all of it.
 *
 * Mistakes that are easily made, each of which lets somebody in who was thrown out:
 *
 * - Starting empty where something was. No file, or a server that lost its data, must be told from a first start.
 * - Forgetting an end with its session. It is kept until `accessUntil`, which every refresh may move, is past for
 *   certain (`countTime`): by no clock of the adapter's or its server's, and so by no TTL.
 * - Taking over a shorter `accessUntil`. It only grows: the longest access token counts, not the last one.
 * - Asking and then writing in `rotate`. Of fifty at once one is `rotated`; the others get its successor.
 * - Giving grace to any rotated token. Only the last one's predecessor has it, and only while the last one is unused.
 * - Taking a successor for unseen because nothing says that it was seen. What is kept says that it is unseen, of which
 *   number it is, and goes at the first sight: where it is missing, an older version's too, the older token is reused.
 * - Comparing ages with a sign. A clock that was set back would stretch the grace; `rotate` takes the distance.
 * - Believing an index. One that can lose an entry leaves out an end (SQLite's is read from the rows for that reason);
 *   one that outlives its row names nobody.
 * - Giving a user's number to another once its owner is gone, or when the count was lost.
 */

/** What the version before knew of a stream. */
export type LeftSubscription = Omit<
  Subscription,
  'kid' | 'worker' | 'number' | 'action' | 'connection' | 'cookie'
>

export type Dialect = 'softphone' | 'mikopbx'

/** One login. Instants are Unix seconds. */
export interface Session {
  readonly sid: string
  readonly userId: number
  readonly username: string
  readonly role: string
  readonly dialect: Dialect
  /** The user's credential mark at login: another one today means that the password was changed. */
  readonly credential: string
  readonly language: string
  /** Whether the refresh cookie outlives the browser ("remember me"). */
  readonly persistent: boolean
  readonly createdAt: number
  /** Absolute: no refresh moves it. */
  readonly expiresAt: number
  /** The latest `exp` of any access token issued: until then an end of the session must be remembered. */
  readonly accessUntil: number
  readonly seenAt: number
  readonly address: string
  readonly agent: string
}

// For how many seconds what is over is remembered, the same by every adapter.
const DAY = 86_400
/** How long the wall clock must have stood past something, by monotonic time, until it is over for certain. */
export const HOURS_TO_PASS = 24
/** As far as one call of `countTime` may move: what nobody looked at for longer says nothing. */
export const HOUR = 3600
/** Past any grace (at most 300): until then a late tab may ask for the successor. */
export const KEEP_SEALED = 600
/** Past any `unseenGrace` (at most a day): until then who lost a successor that nobody has seen may ask for it. */
export const KEEP_UNSEEN = DAY + HOUR

export const END_CAUSES = [
  'logout',
  'logout_everywhere',
  'refresh_reused',
  'user_removed',
  'user_disabled',
  'password_changed',
  'operator',
  'user', // by their own list of sessions, or a new login in the same browser
  'limit', // the user opened too many: the oldest goes
] as const
export type EndCause = (typeof END_CAUSES)[number]

export interface EndedSession {
  readonly sid: string
  readonly username: string
  readonly cause: EndCause
  /** No access token of the session can be valid after this instant. */
  readonly until: number
}

/** What a refresh brings up to date. */
export interface Renewal {
  now: number
  role: string
  accessUntil: number
  /** Seconds without any refresh after which a session is over; 0: never. */
  idleTtl: number
}

/** Whose session, so that its place is known. */
export interface SessionName {
  readonly sid: string
  readonly username: string
}

export interface Access {
  readonly until: number
  readonly role: string
}

export type Found =
  /** `generation`: how many rotations of the session led to this token. */
  | { state: 'live' | 'ended' | 'expired'; session: Session; generation: number }
  | { state: 'unknown' }

export type Rotation =
  /** `generation` is the successor's. */
  | { outcome: 'rotated'; session: Session; generation: number }
  /**
   * The successor that the first rotation stored, sealed: `replayed` inside the grace, `recovered` after it, where
   * nobody has seen that successor.
   */
  | {
      outcome: 'replayed' | 'recovered'
      session: Session
      generation: number
      sealed: Uint8Array
    }
  /** An older token, or one past its grace: the session has been ended in this same step. */
  | { outcome: 'reused'; session: Session; ended: EndedSession }
  | { outcome: 'ended' | 'expired'; session: Session }
  | { outcome: 'unknown' }

/** Used tickets of a session that are remembered: 64 streams that reconnect each second use them up in four. */
export const MOST_TICKETS = 256

/** nginx may repeat a check within one request: it must then get the same answer. */
export const REPEAT_WITHIN = 5

export interface StoreVerbs {
  /** The user's number: given at first sight, never changed, never given to another. */
  identify(username: string): Promise<number>
  /**
   * Remembers a login and its first refresh token. Where the user then has more than `most` live sessions, the oldest
   * others are ended in the same step; 0 or none: no limit.
   */
  openSession(session: Session, refreshHash: Uint8Array, most?: number): Promise<EndedSession[]>
  /** Of a token that is kept, rotated or not, or of a family. */
  findByRefresh(refreshHash: Uint8Array, now: number): Promise<Found>
  /** A refresh that keeps its refresh token; one that was ever traded for a successor is unknown to it. */
  renew(refreshHash: Uint8Array, renewal: Renewal): Promise<Found>
  /**
   * Trades a refresh token for its successor, exactly once. For `grace` seconds it gets the same one again; for
   * `unseenGrace` as well, while nobody has seen that one. `family`: what both have in common, by which it is found for
   * as long as the session as a token that was traded long ago. Of a family no more than that, the last token and its
   * predecessor are kept: who refreshes in a loop makes nothing grow.
   */
  rotate(
    presented: Uint8Array,
    next: { hash: Uint8Array; sealed: Uint8Array; family?: Uint8Array | undefined },
    renewal: Renewal,
    grace: number,
    unseenGrace?: number,
  ): Promise<Rotation>
  /**
   * The refresh token of this generation, or an access token issued with it, was shown: its answer has arrived, and its
   * predecessor has no more than the grace that it always has. Nothing where there is none such.
   */
  seeSuccessor(sid: string, generation: number): Promise<void>
  /**
   * Ends one session; undefined where it is not there or ended already. Also one that has expired: were the clock
   * ahead, it would come back to life with its tokens once that is corrected.
   */
  endSession(sid: string, cause: EndCause, now: number): Promise<EndedSession | undefined>
  /** Ends every session of a user in one step, expired ones too. */
  endSessionsOf(username: string, cause: EndCause, now: number): Promise<EndedSession[]>
  /**
   * Every end there is, whatever the clock says: what a daemon must know before it decides. A session that is not
   * among them has not ended, or its tokens are past for certain.
   */
  listEnded(): Promise<EndedSession[]>
  /** Live sessions, newest first; of one user where a name is given, else `most` or about as many where that is. */
  listSessions(now: number, username?: string, most?: number): Promise<Session[]>
  countSessions(now: number): Promise<number>
  /** Who has live sessions, under which credential marks. */
  listCredentials(now: number): Promise<{ username: string; credential: string }[]>
  /** Tokens issued before this instant no longer count, whatever their session; 0: all count. */
  epoch(): Promise<number>
  /** Moves the epoch to `since`, never back. It stands in for every end that was forgotten: `countTime` begins anew. */
  moveEpoch(since: number): Promise<void>
  /**
   * Uses a single-use ticket of a session. `repeat`: the same request asked already, within REPEAT_WITHIN seconds by either
   * sign. One that is not remembered is unused, or past for certain and refused before it comes here: where a session has
   * used more than MOST_TICKETS, those that run out first are forgotten, and no ticket of it that runs out no later than
   * these passes any more.
   */
  useTicket(
    id: string,
    requestId: string,
    now: number,
    until: number,
    sid: string,
  ): Promise<'first' | 'repeat' | 'used'>
  /**
   * The live ones of these sessions: until when they have access tokens, and in which role. What is not among them is
   * unknown, has ended, or has no token left.
   */
  accessOf(sessions: readonly SessionName[], now: number): Promise<ReadonlyMap<string, Access>>
  /** All machine keys, as the text that `replaceMachineKeys` was given last. */
  machineKeys(): Promise<string>
  /** Puts `next` in the place of `known`; false, and nothing has changed, where another text stands there. */
  replaceMachineKeys(known: string, next: string): Promise<boolean>
  /** The streams that the version before left in the store; one version more. */
  listSubscriptions(): Promise<LeftSubscription[]>
  closeSubscriptions(kicks: readonly string[]): Promise<void>
  /**
   * Told again and again what the wall clock says, and how many seconds of monotonic time went by since this caller
   * last said so (0: it says so for the first time). Resolves to the latest instant that is past for certain: for
   * HOURS_TO_PASS hours of that time, added up over restarts, no caller's clock stood before it. 0: none is.
   */
  countTime(now: number, elapsed: number): Promise<number>
  /**
   * Forgets what ended up to `past`, a slice at a time; how much went (0: nothing is left). `past` comes
   * from `countTime`: whoever asks for less finds nothing, and must refuse what would depend on it. With `idleTtl`, also
   * sessions that nobody has refreshed for so long: each call looks at some of them.
   */
  prune(now: number, past: number, idleTtl?: number): Promise<number>
  /** Resolves when the store can write. */
  ping(): Promise<void>
}

export type StoreVerb = keyof StoreVerbs

export interface Store extends StoreVerbs {
  close(): Promise<void>
}

export type StoreErrorCode =
  /** Cannot write now (disk full, read-only, away): may heal. */
  | 'unavailable'
  /** Every place in the queue is taken: try again. */
  | 'busy'
  /** The file is damaged. */
  | 'damaged'
  /** Written by a newer version. */
  | 'newer'
  /** Another process has it open. */
  | 'locked'
  /** The file should be there and is not. */
  | 'missing'

/** A fault of the store: never an answer about a session. */
export class StoreError extends Error {
  readonly code: StoreErrorCode
  constructor(code: StoreErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StoreError'
    this.code = code
  }
}
