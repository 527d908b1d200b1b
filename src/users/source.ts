// The port to wherever users are kept. A source says who somebody is; it never says what they may do:
// that is the config's roles. Nothing here knows of HTTP requests, tokens or sessions.

/** A user as a source knows them. Names are compared byte by byte: no folding, no trimming. */
export interface User {
  name: string
  role: string
  displayName: string
  /**
   * Changes whenever the stored password does (a short hash of the stored secret, never the secret).
   * A session remembers the mark it was opened under: another mark means the password was changed,
   * also when that happened while the daemon was down. Of an answer to a password it is that password's.
   */
  credential: string
  /** Where several passwords are right, as of several devices: the marks of all of them. */
  credentials?: readonly string[]
  /** ASCII digits, under which the user's calls are found; without, nobody knows of any. */
  number?: string
}

/** A user of a source that stands in files. */
export interface HeldUser extends User {
  disabled: boolean
}

/** What one source answers to a name and a password. */
export type Authentication =
  | { user: User }
  | { refused: 'unknown_user' | 'wrong_password' | 'disabled' }
  /** The hash queue is full or the source is away: no password was checked. `retryAfter`: seconds. */
  | { unavailable: 'hash_queue_full' | 'source_away'; retryAfter: number }

/** What one source answers to a name alone. */
export type Lookup =
  | { user: User }
  | { refused: 'unknown_user' | 'disabled' }
  | { unavailable: 'source_away' }

export interface UserSource {
  readonly name: 'file' | 'asterisk' | 'http'
  /** Never hashes for a name it does not know: the directory does that once for all sources (`hashDecoy`). */
  authenticate(username: string, password: string): Promise<Authentication>
  lookup(username: string): Promise<Lookup>
  /** The answer without waiting, for sources held in memory; undefined if the source would have to be asked. */
  peek(username: string): Lookup | undefined
  /** Everybody that it holds in memory, the disabled ones too. */
  names(): Iterable<string>
  /**
   * Reads its files again, after any reading under way, and answers what is wrong with them: the last good state then
   * stays in force. Rejects if the change could not be applied. `isMeant`: whoever asks means what the files say now,
   * also where that removes most users.
   */
  reread(isMeant: boolean): Promise<readonly string[]>
  close(): void
}
