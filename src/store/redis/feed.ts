// How every host learns of every end of a session: published at once, and read again every second, because
// a message may be lost. It also notices when the server has lost ends that were acknowledged, and must never
// report 'ok' while it cannot know that it has them all.

import type { Time } from '../../clock.ts'
import { faultCode, redisFault } from './fault.ts'
import { FORMAT, type RedisLayout } from './layout.ts'
import type { Link } from './link.ts'
import { createJournal, type EndedRow, toEndedSession } from './journal.ts'
import { END, plain } from './scripts.ts'
import type { RevocationFeed, StateChange, StoreState } from '../shared-store.ts'
import { type EndedSession, StoreError } from '../store.ts'

/** KEYS[1] where it is marked; our format → the highest that ever wrote there. A full server refuses it. */
export const MARK = plain(`
redis.call('HSET', KEYS[1], 'ping', '1')
local there = tonumber(redis.call('HGET', KEYS[1], 'format') or '0')
if there < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'format', ARGV[1]) end
return there
`)

const WRONG_SERVER = new Set(['READONLY', 'MASTERDOWN']) // after a fail-over: the right one is elsewhere

/** `allkeys-lru` with a limit to reach; '' where nothing can be evicted. */
export const evictingPolicy = (memory: string): string => {
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1] ?? 'noeviction'
  const limit = /^maxmemory:(\d+)/m.exec(memory)?.[1] ?? '0'
  return policy === 'noeviction' || limit === '0' ? '' : policy
}

export const createFeed = (settings: {
  link: Pick<Link, 'drop' | 'info' | 'label' | 'run'>
  layout: RedisLayout
  pollSeconds: number
  timeout: number
  now: () => number
  clock: Time
}) => {
  const { link, layout, pollSeconds, timeout, now, clock } = settings
  /** Whoever is not here has not ended, or is past for certain: a server that revives it can do no harm. */
  const known = new Map<string, EndedSession>()
  const onEnded: ((ended: EndedSession) => void)[] = []
  const onState: ((change: StateChange) => void)[] = []
  const onTrustedSince: ((since: number) => void)[] = []
  let trusted = 0
  let change: StateChange = { state: 'away', message: 'not connected yet' }
  let completeAt = -Infinity
  let refusal: StoreError | undefined
  let losses = 0

  const become = (state: StoreState, message: string): void => {
    if (change.state === state && change.message === message) return
    change = { state, message }
    for (const tell of onState) tell(change)
  }

  const learn = (ended: EndedSession): void => {
    if (known.has(ended.sid)) return
    known.set(ended.sid, ended)
    for (const tell of onEnded) tell(ended)
  }

  const onLoss = (): void => {
    losses++
    become(
      'lost',
      `${link.label} has lost data that it had acknowledged: earlier access tokens are refused; ` +
        'set appendonly yes, appendfsync always and min-replicas-to-write',
    )
  }

  const endAgain = async (root: string): Promise<void> => {
    for (const { sid, username, cause } of known.values()) {
      if (layout.rootOf(username) !== root) continue
      await link.run(END, layout.sidKey(sid), [layout.prefix, cause, now()])
    }
  }

  const journals = new Map(
    layout.roots.map((root) => {
      const parts = { link, root, now, learn, onLoss, endAgain: () => endAgain(root) }
      return [root, createJournal(parts)]
    }),
  )
  const trustedSince = (): number =>
    Math.max(...Array.from(journals.values(), (journal) => journal.trustedSince()))

  /** Before anything else is read or written: what we do not understand we might un-revoke. */
  const refuseNewer = async (): Promise<void> => {
    const format = (await link.run(MARK, layout.usersRoot, [FORMAT])) as number
    if (format <= FORMAT) return
    refusal = new StoreError(
      'newer',
      `${link.label} has data of format ${format}, this Postern knows ${FORMAT}: install the newer version here too`,
    )
    throw refusal
  }

  const refuseEviction = async (): Promise<void> => {
    // Where the ACL hides it nothing can be said: `inspect` warns of that.
    const memory = await link.info('memory').catch((error: StoreError) => {
      if (faultCode(error.cause) === 'NOPERM') return ''
      throw error
    })
    refusal = evictingPolicy(memory) === '' ? undefined : redisFault('EVICTS', link.label)
    if (refusal) throw refusal
  }

  const read = async (): Promise<void> => {
    const startedAt = clock.monotonic()
    try {
      await refuseNewer()
      const outcomes = await Promise.allSettled([
        refuseEviction(),
        ...Array.from(journals.values(), (journal) => journal.read()),
      ])
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
      completeAt = startedAt
      const since = trustedSince()
      if (since > trusted) for (const tell of onTrustedSince) tell(since)
      trusted = Math.max(trusted, since)
      become('ok', 'in step')
    } catch (error) {
      const fault = error as StoreError // nothing else leaves a link
      become('away', fault.message)
      if (WRONG_SERVER.has(faultCode(fault.cause))) link.drop(fault)
    }
  }

  let running: Promise<void> | undefined
  let next: Promise<void> | undefined
  const start = (): Promise<void> => {
    running = read().finally(() => {
      running = undefined
    })
    return running
  }
  const resync = (): Promise<void> => {
    if (!running) return start()
    // What is under way may have read too early for this caller.
    next ??= running.then(() => {
      next = undefined
      return start()
    })
    return next
  }

  const stop = clock.every(pollSeconds, () => void resync())

  const port: RevocationFeed = {
    state: () => change.state,
    change: () => change,
    age: () => clock.monotonic() - completeAt,
    trustedSince,
    onTrustedSince: (listener) => void onTrustedSince.push(listener),
    onEnded: (listener) => void onEnded.push(listener),
    onState: (listener) => void onState.push(listener),
    resync,
    bound: pollSeconds + 2 * timeout,
    losses: () => losses,
  }
  return {
    ...port,
    /** An end that this host made and that was acknowledged with that number. */
    ended(ended: EndedSession, seq: number): void {
      journals.get(layout.rootOf(ended.username))?.acknowledged(ended.sid, seq)
      learn(ended)
    },
    forget(past: number): void {
      for (const [sid, { until }] of known) if (until <= past) known.delete(sid)
    },
    /** Why nothing may rest on the server though it answers. */
    refusal: () => refusal,
    up: () => void resync(),
    down: (fault: StoreError): void => become('away', fault.message),
    message: (text: string): void => learn(toEndedSession(JSON.parse(text) as EndedRow)),
    close: stop,
  }
}

export type Feed = ReturnType<typeof createFeed>
