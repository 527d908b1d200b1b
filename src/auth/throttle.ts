// How often somebody may try a password. What is under way counts as if it failed, so fifty tries at once
// cannot race past the limit; those of an honest crowd wait for each other. Nothing here locks an owner out:
// what others do to an account slows it to one try a second, never to none.

import type { Clock } from '../clock.ts'

export interface ThrottleLimits {
  /** Seconds over which failures are counted. */
  window: number
  /** Failures of one account from one address. */
  pairFailures: number
  /** Failures from one address, whatever the account: one guessing through many names. */
  addressFailures: number
  /** Failures of one account from anywhere; beyond, one try a second. */
  accountFailures: number
}

/** Which count stopped a try. */
export type CountedBy = 'pair' | 'address' | 'account'

export type Attempt =
  | { settle(outcome: 'succeeded' | 'failed' | 'not_judged'): void }
  /** As many tries are under way as may still fail: ask again when one of them is judged. */
  | { wait: Promise<void>; by: CountedBy }
  /** `first`: this refusal begins the ban, so it is logged; the ones after it are only counted. */
  | { retryAfter: number; by: CountedBy; first: boolean }

export interface Throttle {
  begin(username: string, address: string): Attempt | Promise<Attempt>
}

/** One that counts in this process, so that it has to ask nobody. */
export interface LocalThrottle extends Throttle {
  begin(username: string, address: string): Attempt
}

const MAX_ENTRIES = 100_000 // about 20 MB: a botnet of names and addresses cannot fill the memory

const MAX_WAITING = 64 // tries of one pair or address that wait for others: beyond, they are sent away

interface Window {
  failures: number
  /** Tries whose password is being looked at. */
  pending: number
  waiting: (() => void)[]
  startedAt: number
  banLogged: boolean
  lastTryAt: number
}

/** IPv6 hosts choose their last 64 bits freely: the /64 is the smallest thing that costs an attacker something. */
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

/** One count for all spellings of a name (CVE-2025-24806): only the count folds, the look-up never does. */
const throttleName = (username: string): string => username.normalize('NFKC').trim().toLowerCase()

/** Whom a try is counted for. Lists in JSON: no choice of name and address can spell another pair (CVE-2026-39972). */
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

/** `limitsNow` is asked at each attempt: a reload moves the limits and keeps the counts. */
export const createThrottle = (limitsNow: () => ThrottleLimits, clock: Clock): LocalThrottle => {
  const windows = new Map<string, Window>()

  const find = (key: string, now: number): Window | undefined => {
    const known = windows.get(key)
    return known && now - known.startedAt < limitsNow().window ? known : undefined
  }

  const open = (key: string, now: number): Window => {
    const known = find(key, now)
    if (known) return known
    windows.delete(key)
    if (windows.size >= MAX_ENTRIES) {
      const oldest = windows.keys().next()
      if (!oldest.done) windows.delete(oldest.value)
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
      const keys = throttleKeys(username, address)
      const left = (window: Window): number => window.startedAt + limits.window - now
      // A refused try opens no window: else 50,000 of them, which cost nothing, would drive out the ban itself.
      const knownPair = find(keys.pair, now)
      if (knownPair && knownPair.failures >= limits.pairFailures) {
        return refuse(knownPair, 'pair', left(knownPair))
      }
      const knownAddress = find(keys.address, now)
      if (knownAddress && knownAddress.failures >= limits.addressFailures) {
        return refuse(knownAddress, 'address', left(knownAddress))
      }
      const knownAccount = find(keys.account, now)
      const justTried = knownAccount && now - knownAccount.lastTryAt < 1
      if (justTried && knownAccount.failures >= limits.accountFailures) {
        return refuse(knownAccount, 'account', 1)
      }
      if (knownPair && knownPair.failures + knownPair.pending >= limits.pairFailures) {
        return waitFor(knownPair, 'pair')
      }
      if (knownAddress && knownAddress.failures + knownAddress.pending >= limits.addressFailures) {
        return waitFor(knownAddress, 'address')
      }
      // Else a thousand addresses at once would have a thousand tries before the first of them has failed.
      if (justTried && knownAccount.failures + knownAccount.pending >= limits.accountFailures) {
        return waitFor(knownAccount, 'account')
      }
      const pair = open(keys.pair, now)
      const byAddress = open(keys.address, now)
      const byAccount = open(keys.account, now)
      byAccount.lastTryAt = now
      const windows = [pair, byAddress, byAccount]
      for (const window of windows) window.pending++
      return {
        settle(outcome) {
          for (const window of windows) {
            window.pending--
            if (outcome === 'failed') window.failures++
          }
          // The owner is in: their earlier slips from this address count no more.
          if (outcome === 'succeeded') pair.failures = 0
          for (const window of windows) for (const wake of window.waiting.splice(0)) wake()
        },
      }
    },
  }
}
