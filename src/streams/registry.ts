// What is live in Nchan right now, until when, and its end. An id is written down before it is handed out, so
// that a crash orphans nothing; it is given to one session and one resource, and never again after a kick.
// A WebSocket never shares one: Nchan 1.3.6 left streams that came on its id after the kick open for good in 72
// of 180 rounds, in none of 360 where no WebSocket had come first; a fresh id closed 900 of 900 (measured).

import { randomBytes } from 'node:crypto'

import type { Time } from '../clock.ts'
import { createAgenda } from './agenda.ts'
import type { Kicker } from './kicker.ts'
import type { KickCause, Subscription } from './subscription.ts'

export interface SubscriptionStore {
  openSubscription(subscription: Subscription): Promise<void>
  closeSubscriptions(kicks: readonly string[]): Promise<void>
}

export interface Admission {
  sid: string
  username: string
  userId: number
  role: string
  resource: string
  until: number
  address: string
  agent: string
  /** A WebSocket: the id is for this one stream. */
  alone: boolean
}

export interface Registry {
  /** The kick id for a subscribe that the rules allow: at once where it may share one of its session. */
  admit(admission: Admission): string | Promise<string>
  /** The session got a token that lives until then: its subscriptions go on, where its role of today allows. */
  extend(session: { sid: string; role: string; until: number }): void
  /**
   * Resolves when everything of the session is closed as far as nginx can tell, also what is being kicked
   * already, or after a second. How many this call kicked.
   */
  kickSession(sid: string, cause: KickCause): Promise<number>
  /** Kicks what is no longer allowed. */
  review(isAllowed: (subscription: Subscription) => boolean, cause?: KickCause): void
  /** nginx says that one stream on this id has ended. False: no id of ours. */
  streamEnded(kick: string): boolean
  list(): Subscription[]
  count(): number
  /**
   * What an earlier process, or one beside us, handed out: ended like any other, but given to nobody, lest it
   * was kicked already.
   */
  adopt(subscriptions: readonly Subscription[]): void
  close(): void
}

export interface KickObservation {
  cause: KickCause
  result: 'ended' | 'nobody' | 'failed'
  /** Seconds. */
  took: number
}

const TICK = 0.2 // seconds: an expired stream is closed within half a second
const IN_FLIGHT = 10 // seconds: longer than nginx waits for a check, so that a check under way is caught
const SWEEP_EVERY = 60 // seconds: for ends that nginx told nobody of (long-poll, a reload)
const MISSES = 8 // Nchan counts nobody on a live stream in up to 40 % of the answers (measured): minutes, not one look
const RETRY_SLOW = 1 // seconds between tries where nginx is away
const ANSWER_WITHIN = 1 // second that a logout waits for its streams to close
const CHECKS_AT_ONCE = 64 // streams asked about in one tick, so that a sweep of 10,000 disturbs nobody

interface Entry extends Subscription {
  role: string
  until: number
  /** Its place among the session's: the resource, or the id itself where no check may share it. */
  readonly key: string
  /** Whether only one stream can ever hang on the id. */
  readonly alone: boolean
  /** How many times in a row nginx counted nobody. */
  misses: number
  /** By the monotonic clock: a check handed the id out then, whose stream may still open. */
  issuedAt: number
  written: Promise<void> | undefined
  /** Whether it is being asked if the session was refreshed elsewhere. */
  renewing: boolean
}

interface Kick {
  entry: Entry
  cause: KickCause
  startedAt: number
  nextAt: number
  /** Somebody was there and is gone. */
  observed: boolean
  busy: boolean
  done: PromiseWithResolvers<void>
}

const createKickId = (): string => `kick-${randomBytes(16).toString('base64url')}`

export const createRegistry = (parts: {
  store: SubscriptionStore
  kicker: Kicker
  clock: Time
  /** Per session; beyond, the oldest is kicked. */
  perSession(): number
  observe(kick: KickObservation): void
  onFault(error: unknown): void
  /** Whether what is live would be allowed today. */
  stillAllowed(subscription: Subscription): boolean
  /** By sid, what those sessions have that were refreshed elsewhere; asked before they are kicked as expired. Never rejects. */
  renew?(
    expired: readonly Subscription[],
  ): Promise<ReadonlyMap<string, { role: string; until: number }>>
}): Registry => {
  const { store, kicker, clock, perSession, observe, onFault, stillAllowed, renew } = parts
  /** sid → key → entry. */
  const bySession = new Map<string, Map<string, Entry>>()
  const byKick = new Map<string, Entry>()
  /** When the right to it ends, by the wall clock. */
  const ends = createAgenda<Entry>()
  /** When to ask nginx whether anybody is left, by the monotonic clock. */
  const asks = createAgenda<Entry>()
  const kicks = new Map<string, Kick>()
  /** sid → its kicks under way: a second end of a session waits for the streams that the first one closes. */
  const kicksOf = new Map<string, Set<Kick>>()
  let away = false
  let closed = false

  /** Once an outage, and not once for each of 10,000 streams. */
  const complain = (error: unknown): void => {
    if (!away && !closed) onFault(error)
    away = true
  }

  const forget = (entry: Entry): void => {
    byKick.delete(entry.kick)
    ends.delete(entry)
    asks.delete(entry)
    const ofSession = bySession.get(entry.sid)
    if (ofSession?.get(entry.key) !== entry) return
    ofSession.delete(entry.key)
    if (ofSession.size === 0) bySession.delete(entry.sid)
  }

  const prolong = (entry: Entry, until: number): void => {
    entry.until = Math.max(entry.until, until)
    if (byKick.get(entry.kick) === entry) ends.set(entry, entry.until)
  }

  /** Over, and not written down as over yet. */
  const unwritten = new Set<string>()
  let unwriting = false
  let unwritable = false
  let unwriteAt = 0
  const flush = async (): Promise<void> => {
    if (unwriting || closed || unwritten.size === 0 || clock.monotonic() < unwriteAt) return
    unwriting = true
    const gone = [...unwritten]
    try {
      await store.closeSubscriptions(gone)
      for (const kick of gone) unwritten.delete(kick)
      unwritable = false
    } catch (error) {
      unwriteAt = clock.monotonic() + RETRY_SLOW
      if (!unwritable) onFault(error) // once an outage
      unwritable = true
    } finally {
      unwriting = false
    }
  }

  const unwrite = (entry: Entry): void => {
    unwritten.add(entry.kick)
    void flush()
  }

  const settle = (kick: Kick, result: KickObservation['result']): void => {
    if (!kick.observed) {
      observe({ cause: kick.cause, result, took: clock.monotonic() - kick.startedAt })
      kick.observed = true
    }
    kick.done.resolve()
  }

  /**
   * One DELETE. Its answer is the only sign there is: a kicked WebSocket is counted as there for minutes. The id
   * stays until no check under way can bring another stream.
   */
  const attempt = async (kick: Kick): Promise<void> => {
    const { entry } = kick
    const now = clock.monotonic()
    try {
      const outcome = await kicker.end(entry.kick)
      away = false
      if (outcome === 'ended') settle(kick, 'ended')
      const wasIt = outcome === 'ended' && entry.alone
      if (!wasIt && now < entry.issuedAt + IN_FLIGHT) {
        kick.nextAt = now + 0.1
        return
      }
      settle(kick, 'nobody')
      kicks.delete(entry.kick)
      const ofSession = kicksOf.get(entry.sid)
      ofSession?.delete(kick)
      if (ofSession?.size === 0) kicksOf.delete(entry.sid)
      unwrite(entry)
    } catch (error) {
      // nginx is away, and its streams with it, or it may not be reached: tried until it answers.
      kick.nextAt = now + RETRY_SLOW
      complain(error)
      settle(kick, 'failed')
    }
  }

  const run = (kick: Kick): void => {
    if (kick.busy) return
    kick.busy = true
    attempt(kick)
      .finally(() => {
        kick.busy = false
      })
      .catch(onFault)
  }

  const start = (entry: Entry, cause: KickCause): Promise<void> => {
    forget(entry) // from here on a check of this session and resource gets a fresh id
    const now = clock.monotonic()
    const kick: Kick = {
      entry,
      cause,
      startedAt: now,
      nextAt: now,
      observed: false,
      busy: false,
      done: Promise.withResolvers<void>(),
    }
    kicks.set(entry.kick, kick)
    kicksOf.set(entry.sid, (kicksOf.get(entry.sid) ?? new Set()).add(kick))
    run(kick)
    return kick.done.promise
  }

  const ask = async (entry: Entry): Promise<void> => {
    const there = await kicker.count(entry.kick)
    away = false
    if (byKick.get(entry.kick) !== entry) return // kicked while we asked
    entry.misses = there === 0 ? entry.misses + 1 : 0
    if (clock.monotonic() < entry.issuedAt + IN_FLIGHT) return
    if (there === 'unknown') {
      forget(entry)
      unwrite(entry)
    } else if (entry.misses >= MISSES) {
      // Kicked and not just forgotten: were somebody there after all, nothing could end that stream any more.
      void start(entry, 'swept')
    }
  }

  const expire = (entries: readonly Entry[]): void => {
    const wall = clock.now()
    for (const entry of entries) {
      entry.renewing = false
      if (wall >= entry.until && byKick.get(entry.kick) === entry) void start(entry, 'expired')
    }
  }

  const extend: Registry['extend'] = ({ sid, role, until }) => {
    for (const entry of bySession.get(sid)?.values() ?? []) {
      entry.role = role
      if (stillAllowed(entry)) prolong(entry, until)
      else void start(entry, 'grant_removed')
    }
  }

  const tick = (): void => {
    const wall = clock.now()
    const now = clock.monotonic()
    for (const kick of kicks.values()) if (kick.nextAt <= now) run(kick)
    void flush()
    const expired = [...ends.due(wall)].filter(({ renewing }) => !renewing)
    let asked = 0
    for (const entry of asks.due(now)) {
      if (++asked > CHECKS_AT_ONCE) break
      if (wall >= entry.until) continue // ended in this very tick
      asks.set(entry, now + SWEEP_EVERY)
      ask(entry).catch(complain)
    }
    if (expired.length === 0) return
    for (const entry of expired) entry.renewing = true
    if (!renew) {
      expire(expired)
      return
    }
    void renew(expired).then((renewed) => {
      for (const [sid, access] of renewed) extend({ sid, ...access })
      expire(expired)
    })
  }
  const stop = clock.every(TICK, tick)

  const insert = (entry: Entry, askAt: number): void => {
    ends.set(entry, entry.until)
    asks.set(entry, askAt)
    const ofSession = bySession.get(entry.sid) ?? new Map<string, Entry>()
    bySession.set(entry.sid, ofSession)
    ofSession.set(entry.key, entry)
    byKick.set(entry.kick, entry)
    for (const oldest of ofSession.values()) {
      if (ofSession.size <= perSession()) break
      void start(oldest, 'limit')
    }
  }

  return {
    admit(admission) {
      const now = clock.monotonic()
      const { alone } = admission
      const known = alone ? undefined : bySession.get(admission.sid)?.get(admission.resource)
      if (known) {
        known.issuedAt = now
        prolong(known, admission.until)
        return known.written ? known.written.then(() => known.kick) : known.kick
      }
      const kick = createKickId()
      const entry: Entry = {
        ...admission,
        kick,
        key: alone ? kick : admission.resource,
        misses: 0,
        startedAt: clock.now(),
        issuedAt: now,
        written: undefined,
        renewing: false,
      }
      // Known to a logout from now on, also while it is being written.
      insert(entry, now + SWEEP_EVERY)
      const { until, ...rest } = admission
      const { alone: _alone, ...subscription } = {
        ...rest,
        until,
        kick,
        startedAt: entry.startedAt,
      }
      entry.written = store.openSubscription(subscription)
      return entry.written.then(
        () => {
          entry.written = undefined
          return entry.kick
        },
        (error: unknown) => {
          forget(entry)
          throw error
        },
      )
    },
    extend,
    async kickSession(sid, cause) {
      const entries = [...(bySession.get(sid)?.values() ?? [])]
      for (const entry of entries) void start(entry, cause)
      const underWay = [...(kicksOf.get(sid) ?? [])]
      if (underWay.length === 0) return 0
      const late = Promise.withResolvers<void>()
      const cancel = clock.after(ANSWER_WITHIN, late.resolve)
      await Promise.race([Promise.all(underWay.map(({ done }) => done.promise)), late.promise])
      cancel()
      return entries.length
    },
    review(isAllowed, cause = 'grant_removed') {
      for (const entry of byKick.values()) {
        if (!isAllowed(entry)) void start(entry, cause)
      }
    },
    streamEnded(kick) {
      const entry = byKick.get(kick)
      if (entry?.alone) {
        forget(entry)
        unwrite(entry)
      } else if (entry) asks.set(entry, Math.max(clock.monotonic(), entry.issuedAt + IN_FLIGHT))
      return entry !== undefined
    },
    list: () => [...byKick.values()],
    count: () => byKick.size,
    adopt(subscriptions) {
      const now = clock.monotonic()
      for (const subscription of subscriptions) {
        if (byKick.has(subscription.kick)) continue
        // Spread over a minute, so that a restart with 10,000 streams asks nginx gently.
        const askAt = now + IN_FLIGHT + clock.chance() * SWEEP_EVERY
        const key = subscription.kick
        const entry = {
          ...subscription,
          key,
          alone: false,
          misses: 0,
          issuedAt: now,
          written: undefined,
          renewing: false,
        }
        insert(entry, askAt)
      }
    },
    close() {
      closed = true
      stop()
      for (const { done } of kicks.values()) done.resolve()
    },
  }
}
