// How often somebody may try a password. A try under way counts as a failure, so fifty at once cannot race past the
// limit; an honest crowd waits for one another. Nobody can lock an owner out: attacks on an account from elsewhere
// slow it to one try a second, and not at all where its owner has logged in before.

import type { Clock } from '../clock.ts'
import type { SharedLimit } from '../store/shared-store.ts'

export interface ThrottleLimits {
  /** Seconds over which failures are counted. */
  window: number
  /** Failures of one account from one address. */
  pairFailures: number
  /** Failures from one address, whatever the account: guessing through many names. */
  addressFailures: number
  /** Failures of one account from anywhere; beyond, one try a second. */
  accountFailures: number
}

/** Which count stopped a try. */
export type CountedBy = 'pair' | 'address' | 'account'

export type Attempt =
  | { settle(outcome: 'succeeded' | 'failed' | 'not_judged'): void }
  /** So many tries are under way that their failure would reach the limit: ask again when one is decided. */
  | { wait: Promise<void>; by: CountedBy }
  /** `first`: this refusal begins the ban, so it is logged; later ones are only counted. */
  | { retryAfter: number; by: CountedBy; first: boolean }

export interface Throttle {
  begin(username: string, address: string): Attempt | Promise<Attempt>
}

/** Counts in this process, and answers at once. */
export interface LocalThrottle extends Throttle {
  begin(username: string, address: string): Attempt
  /**
   * Whether the account has logged in from there, as far as is remembered. The count of the account does not stop
   * such a try: who asks 370 times a second from changing addresses would take every second's one from the owner.
   */
  hasLoggedIn(username: string, address: string): boolean
  /** That it has: the latest last. */
  remember(username: string, address: string): void
}

const MAX_ENTRIES = 100_000 // about 20 MB: a botnet of names and addresses cannot fill the memory

const MAX_WAITING = 64 // tries waiting on one count; more are sent away

interface Window {
  failures: number
  /** Tries that are not decided yet. */
  pending: number
  waiting: (() => void)[]
  startedAt: number
  banLogged: boolean
  lastTryAt: number
}

/** IPv6 hosts choose their last 64 bits freely: a /64 is the least that costs an attacker anything. */
export const throttleAddress = (address: string): string => {
  if (!address.includes(':')) return address
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped) return mapped
  const [head = '', tail] = address.toLowerCase().split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const missing = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length)
  const groups = [...left, ...Array<string>(missing).fill('0'), ...right]
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}

/** One count for all spellings of a name (CVE-2025-24806): folded for counting only, never for look-up. */
const throttleName = (username: string): string => username.normalize('NFKC').trim().toLowerCase()

/** What a try is counted under. JSON, so that no name and address can spell another pair (CVE-2026-39972). */
export const throttleKeys = (
  username: string,
  address: string,
): Readonly<Record<CountedBy, string>> => {
  const name = throttleName(username)
  const from = throttleAddress(address)
  return {
    pair: JSON.stringify(['pair', name, from]),
    address: JSON.stringify(['address', from]),
    account: JSON.stringify(['account', name]),
  }
}

/** The three counts of a try, in the order in which they stop it; a shared store counts the same. */
export const limitsOf = (
  keys: Readonly<Record<CountedBy, string>>,
  limits: ThrottleLimits,
): readonly (SharedLimit & { readonly by: CountedBy })[] => [
  { by: 'pair', key: keys.pair, failures: limits.pairFailures, spacing: 0, forgiving: true },
  { by: 'address', key: keys.address, failures: limits.addressFailures, spacing: 0 },
  { by: 'account', key: keys.account, failures: limits.accountFailures, spacing: 1 },
]

/** `limitsNow` is asked at each attempt: a reload moves the limits and keeps the counts. */
export const createThrottle = (limitsNow: () => ThrottleLimits, clock: Clock): LocalThrottle => {
  const windows = new Map<string, Window>()
  /** Pairs of account and address, the latest last. Each has cost a right password. */
  const owners = new Set<string>()

  const remember = (username: string, address: string): void => {
    const { pair } = throttleKeys(username, address)
    owners.delete(pair)
    owners.add(pair)
    if (owners.size <= MAX_ENTRIES) return
    const [oldest = ''] = owners
    owners.delete(oldest)
  }

  const find = (key: string, now: number): Window | undefined => {
    const known = windows.get(key)
    return known && now - known.startedAt < limitsNow().window ? known : undefined
  }

  const open = (key: string, now: number): Window => {
    const known = find(key, now)
    if (known) return known
    windows.delete(key)
    if (windows.size >= MAX_ENTRIES) {
      const [oldest = ''] = windows.keys()
      windows.delete(oldest)
    }
    const fresh: Window = {
      failures: 0,
      pending: 0,
      waiting: [],
      startedAt: now,
      banLogged: false,
      lastTryAt: -Infinity,
    }
    windows.set(key, fresh)
    return fresh
  }

  const refuse = (window: Window, by: CountedBy, retryAfter: number): Attempt => {
    const first = !window.banLogged
    window.banLogged = true
    return { retryAfter: Math.max(1, Math.ceil(retryAfter)), by, first }
  }

  const waitFor = (window: Window, by: CountedBy): Attempt => {
    if (window.waiting.length >= MAX_WAITING) return { retryAfter: 1, by, first: false }
    const { promise, resolve } = Promise.withResolvers<void>()
    window.waiting.push(resolve)
    return { wait: promise, by }
  }

  return {
    begin(username, address) {
      const limits = limitsNow()
      const now = clock.monotonic()
      const left = (window: Window): number => window.startedAt + limits.window - now
      // A refused try opens no window: 50,000 of them, which cost nothing, would evict the ban itself.
      const keys = throttleKeys(username, address)
      const isOwners = owners.has(keys.pair)
      const counts = limitsOf(keys, limits).map((limit) => {
        const known = find(limit.key, now)
        const isFree =
          known && limit.spacing > 0 && (isOwners || now - known.lastTryAt >= limit.spacing)
        return { ...limit, known: isFree ? undefined : known }
      })
      for (const { known, failures, by, spacing } of counts) {
        if (known && known.failures >= failures) return refuse(known, by, spacing || left(known))
      }
      // Else a thousand addresses at once would have a thousand tries before the first has failed.
      for (const { known, failures, by } of counts) {
        if (known && known.failures + known.pending >= failures) return waitFor(known, by)
      }
      const opened = counts.map(({ key, forgiving = false }) => ({
        key,
        window: open(key, now),
        forgiving,
      }))
      for (const { window } of opened) {
        window.lastTryAt = now
        window.pending++
      }
      return {
        settle(outcome) {
          if (outcome === 'succeeded') remember(username, address)
          for (const { window, forgiving } of opened) {
            window.pending--
            if (outcome === 'failed') window.failures++
            // The owner is in: their earlier slips from this address no longer count.
            if (outcome === 'succeeded' && forgiving) window.failures = 0
          }
          for (const { window } of opened) for (const wake of window.waiting.splice(0)) wake()
          // What holds no failure is forgotten: 50,000 tries that hashed nothing would evict a ban.
          for (const { key, window } of opened) {
            const isEmpty = window.failures === 0 && window.pending === 0
            if (isEmpty && windows.get(key) === window) windows.delete(key)
          }
        },
      }
    },
    remember,
    hasLoggedIn: (username, address) => owners.has(throttleKeys(username, address).pair),
  }
}
