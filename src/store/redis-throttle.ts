// Failed logins counted across hosts. Judging and counting are one step, so that fifty hosts at once cannot
// race past a limit. Names and addresses are kept as hashes only.

import { createHash } from 'node:crypto'

import type { Link } from './redis-link.ts'
import { TAKE_BACK, TRY } from './redis-scripts.ts'

export interface SharedLimit {
  /** Whom it counts: an account, an address, a pair of both. */
  readonly key: string
  readonly failures: number
  /** Seconds between tries past the limit; 0: none until the window ends. */
  readonly spacing: number
}

export type SharedAttempt =
  | { readonly refused: undefined }
  /** `first`: this refusal begins the ban. */
  | { readonly refused: string; readonly retryAfter: number; readonly first: boolean }

/** An ability beside the port: one host alone counts in memory. */
export interface SharedThrottle {
  /** Counts a failure under every key, or under none where one of them refuses, in the order given. */
  begin(limits: readonly SharedLimit[], window: number): Promise<SharedAttempt>
  /** Takes that failure back; of the keys of `cleared` all failures. */
  takeBack(keys: readonly string[], cleared?: readonly string[]): Promise<void>
}

const field = (key: string): string => createHash('sha256').update(key).digest('base64url')

/** All windows share one slot: logins are bound by their password hashes, at some hundreds a second. */
export const createSharedThrottle = (link: Pick<Link, 'run'>, root: string): SharedThrottle => ({
  async begin(limits, window) {
    const args = limits.flatMap(({ key, failures, spacing }) => [
      field(key),
      failures,
      spacing * 1000,
    ])
    const reply = await link.run(TRY, root, [window * 1000, ...args])
    const [at, left, first] = reply as [number, number, number]
    const refused = limits[at - 1]?.key
    if (refused === undefined) return { refused }
    return { refused, retryAfter: Math.max(1, Math.ceil(left / 1000)), first: first === 1 }
  },
  async takeBack(keys, cleared = []) {
    const args = keys.flatMap((key) => [field(key), cleared.includes(key) ? 1 : 0])
    await link.run(TAKE_BACK, root, args)
  },
})
