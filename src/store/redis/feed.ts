// How every host learns of every end of a session: published at once, and read again every second, because
// a message may be lost. It also notices when the server has lost ends that were acknowledged, and must never
// report 'ok' while it cannot know that it has them all.

import { randomBytes } from 'node:crypto'

import type { Time } from '../../clock.ts'
import { faultCode, redisFault } from './fault.ts'
import { FORMAT, type RedisLayout } from './layout.ts'
import type { Link } from './link.ts'
import { END, FOUND, MARK, MOVE, READ_FEED } from './scripts.ts'
import type { RevocationFeed, StateChange, StoreState } from '../shared-store.ts'
import { END_CAUSES, type EndCause, type EndedSession, StoreError } from '../store.ts'

export interface Feed extends RevocationFeed {
  /** An end that this host made and that was acknowledged with that number. */
  ended(ended: EndedSession, seq: number): void
  /** Why nothing may rest on the server though it answers. */
  refusal(): StoreError | undefined
  up(): void
  down(fault: StoreError): void
  message(text: string): void
  close(): void
}

export interface FeedSettings {
  link: Pick<Link, 'drop' | 'info' | 'label' | 'run'>
  layout: RedisLayout
  pollSeconds: number
  timeout: number
  now: () => number
  clock: Time
}

interface Shard {
  readonly root: string
  epoch: string
  founded: number
  /** The store's epoch as the port knows it: an operator moved it. */
  moved: number
  /** The last end read: its number and whose it was. */
  seq: number
  sid: string
  /** Acknowledged to us, not read back yet. */
  readonly own: Map<number, string>
  /** What came back to life there is still to be ended again. */
  behind: boolean
}

const PAGE = 500 // ends a step: about 2 ms of the server
const MARGIN = 60 // seconds: an end is kept a little past the last token, as clocks are not one
const WRONG_SERVER = new Set(['READONLY', 'MASTERDOWN']) // after a fail-over: the right one is elsewhere

type Row = readonly [sid: string, username: string, cause: string, until: string, seq: string]

const toCause = (text: string): EndCause => END_CAUSES.find((cause) => cause === text) ?? 'operator' // a newer version's

/** A row of `finish` or of the feed. */
export const toEndedSession = ([sid, username, cause, until]: Row): EndedSession => ({
  sid,
  username,
  cause: toCause(cause),
  until: Number(until),
})

/** `allkeys-lru` with a limit to reach; '' where nothing can be evicted. */
export const evictingPolicy = (memory: string): string => {
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1] ?? 'noeviction'
  const limit = /^maxmemory:(\d+)/m.exec(memory)?.[1] ?? '0'
  return policy === 'noeviction' || limit === '0' ? '' : policy
}

export const createFeed = (settings: FeedSettings): Feed => {
  const { link, layout, pollSeconds, timeout, now, clock } = settings
  const { prefix, roots, rootOf, sidKey } = layout
  const shards = roots.map((root): Shard => ({
    root,
    epoch: '',
    founded: 0,
    moved: 0,
    seq: 0,
    sid: '',
    own: new Map(),
    behind: false,
  }))
  const known = new Map<string, EndedSession>()
  const onEnded: ((ended: EndedSession) => void)[] = []
  const onState: ((change: StateChange) => void)[] = []
  const onTrustedSince: ((since: number) => void)[] = []
  let trusted = 0
  let change: StateChange = { state: 'away', message: 'not connected yet' }
  let completeAt = -Infinity
  let refusal: StoreError | undefined
  let newer: StoreError | undefined
  let losses = 0
  let sweptAt = 0

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

  const found = async (shard: Shard, since: number): Promise<void> => {
    const epoch = randomBytes(12).toString('base64url')
    const args = [shard.epoch, epoch, since]
    const [holds, founded] = (await link.run(FOUND, shard.root, args)) as [string, string]
    shard.epoch = holds
    shard.founded = Number(founded)
  }

  /** What went for good is answered by `trustedSince`; what came back to life is ended again. */
  const recover = async (shard: Shard, stored: string | null): Promise<void> => {
    losses++
    shard.behind = true // first: an interruption must not forget it
    become(
      'lost',
      `${link.label} has lost data that it had acknowledged: access tokens of before are refused; ` +
        'set appendonly yes, appendfsync always and min-replicas-to-write',
    )
    // Where another host has founded it anew already, its epoch is taken over.
    if (stored === null || stored === shard.epoch) {
      shard.epoch = stored ?? ''
      await found(shard, now() + 1) // of this second there may be both kinds
    } else {
      shard.epoch = stored
    }
    shard.seq = 0
    shard.sid = ''
    shard.own.clear()
  }

  const endAgain = async (shard: Shard): Promise<void> => {
    for (const { sid, username, cause } of known.values()) {
      if (rootOf(username) !== shard.root) continue
      await link.run(END, sidKey(sid), [prefix, cause, now()])
    }
    shard.behind = false
  }

  const readShard = async (shard: Shard): Promise<void> => {
    for (;;) {
      const expected = [...shard.own]
      const args = [shard.seq, shard.sid, PAGE]
      const [epoch, founded, intact, rows, moved] = (await link.run(
        READ_FEED,
        shard.root,
        args,
      )) as [string | null, string | null, number, Row[], number]
      if (shard.epoch === '' && epoch === null) {
        await found(shard, now())
        continue
      }
      const seen = new Map(rows.map((row) => [Number(row[4]), row[0]]))
      const full = rows.length === PAGE
      const last = full ? Math.max(...seen.keys()) : Infinity
      const missing = expected.some(
        ([seq, sid]) => seq > shard.seq && seq <= last && seen.get(seq) !== sid,
      )
      const other = shard.epoch !== '' && epoch !== shard.epoch
      if (epoch === null || other || intact === 0 || missing) {
        await recover(shard, epoch)
        continue
      }
      shard.epoch = epoch
      shard.founded = Number(founded)
      // A primary that came back without the last move is told of it again.
      if (moved < shard.moved) await link.run(MOVE, shard.root, [shard.moved])
      else shard.moved = moved
      for (const row of rows) {
        if (row[2] !== '') learn(toEndedSession(row))
        shard.seq = Number(row[4])
        shard.sid = row[0]
      }
      for (const [seq] of expected) if (seq <= shard.seq) shard.own.delete(seq)
      if (full) continue
      if (!shard.behind) return
      await endAgain(shard) // and read what that ended
    }
  }

  /** Before anything else is read or written: what we do not understand we might un-revoke. */
  const refuseNewer = async (): Promise<void> => {
    const format = (await link.run(MARK, layout.usersRoot, [FORMAT])) as number
    newer =
      format > FORMAT
        ? new StoreError(
            'newer',
            `${link.label} has data of format ${format}, this Postern knows ${FORMAT}: install the newer version here too`,
          )
        : undefined
    if (newer) throw newer
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

  const trustedSince = (): number =>
    Math.max(...shards.map(({ founded, moved }) => Math.max(founded, moved)))

  const read = async (): Promise<void> => {
    const startedAt = clock.monotonic()
    try {
      await refuseNewer()
      const outcomes = await Promise.allSettled([refuseEviction(), ...shards.map(readShard)])
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
    if (now() - sweptAt < MARGIN) return
    sweptAt = now()
    for (const [sid, ended] of known) if (ended.until + MARGIN <= sweptAt) known.delete(sid)
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

  return {
    state: () => change.state,
    change: () => change,
    age: () => clock.monotonic() - completeAt,
    trustedSince,
    onTrustedSince: (listener) => void onTrustedSince.push(listener),
    onEnded: (listener) => void onEnded.push(listener),
    onState: (listener) => void onState.push(listener),
    resync,
    bound: pollSeconds + 2 * timeout,
    ended(ended, seq) {
      const root = rootOf(ended.username)
      const shard = shards.find((one) => one.root === root)
      if (shard && seq > shard.seq) shard.own.set(seq, ended.sid)
      learn(ended)
    },
    refusal: () => newer ?? refusal,
    losses: () => losses,
    up: () => void resync(),
    down: (fault) => become('away', fault.message),
    message(text) {
      learn(toEndedSession(JSON.parse(text) as Row))
    },
    close() {
      stop()
    },
  }
}
