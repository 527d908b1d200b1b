// What an instance owes to the others on its store: to hear of every end there is, to tell what only another can
// act on, and to say so when it knows too little to decide. Alone on a store of its own, it knows everything.

import type { MachineKeys } from '../auth/machine-keys.ts'
import type { Revocations } from '../auth/revocations.ts'
import type { Time } from '../clock.ts'
import type { SessionSelector } from '../http/operator.ts'
import type { Log } from '../log.ts'
import type { SharedStore, StateChange } from '../store/shared-store.ts'
import { type Access, StoreError } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { StreamFile } from '../streams/stream-file.ts'
import type { Subscription } from '../streams/subscription.ts'
import type { Learner } from './learn.ts'
import { within } from './within.ts'

export interface PeersParts {
  shared: Pick<SharedStore, 'feed' | 'inspect' | 'label' | 'signals'>
  revocations: Pick<Revocations, 'add' | 'moveEpoch'>
  registry: Pick<Registry, 'kickSession' | 'review' | 'streamEnded'>
  /** Ends live streams here: those of the session or user, or all. */
  kick(which: SessionSelector): Promise<unknown>
  streamFile: Pick<StreamFile, 'neighbours'>
  learner: Learner
  machineKeys: Pick<MachineKeys, 'age' | 'read'>
  staleSeconds(): number
  log: Log
  allows(kind: string): boolean
  clock: Time
  /** The line for `systemctl status` has changed. */
  onStanding(line: string): void
}

const LOOK_EVERY = 1 // second, at the lists of the instances beside us
const MINUTE = 60 // seconds
const TRY_AGAIN = 1 // second, where what must be known could not be read though the store answers

type Signal = { stream: string } | { kick: SessionSelector } | { machineKeys: true }

/** Undefined for a signal that is not ours or a newer version's: it is ignored. Only `all` means everybody. */
const parseSignal = (text: string): Signal | undefined => {
  try {
    const { stream, kick, machineKeys } = Object(JSON.parse(text)) as Record<string, unknown>
    if (machineKeys === true) return { machineKeys }
    if (typeof stream === 'string') return { stream }
    const { id, user, all } = Object(kick) as Record<string, unknown>
    if (typeof id === 'string') return { kick: { id } }
    if (typeof user === 'string') return { kick: { user } }
    return all === true ? { kick: {} } : undefined
  } catch {
    return undefined
  }
}

// Seconds that whoever ended a session has for its answer, maybe over the connection that carries a stream of ours. What it
// let in itself it ends at once.
const ANSWERED_WITHIN = 0.25 // longer than an answer waits for streams that are kicked (kicks.ts)
const RENEW_WITHIN = 0.5 // seconds that an expired stream may wait for word of a refresh elsewhere

/** Which of these sessions were refreshed elsewhere. While the store is away, streams end with tokens we know of. */
export const renewFrom =
  (shared: Pick<SharedStore, 'accessOf'>, clock: Time) =>
  async (expired: readonly Subscription[]): Promise<ReadonlyMap<string, Access>> =>
    within(clock, RENEW_WITHIN, shared.accessOf(expired, clock.now())).catch(() => new Map())

export const createPeers = (parts: PeersParts) => {
  const {
    shared,
    revocations,
    registry,
    kick,
    streamFile,
    learner,
    machineKeys,
    staleSeconds,
    log,
    allows,
    clock,
    onStanding,
  } = parts
  const { feed, signals, label } = shared
  let known = false
  let learning = false
  let closed = false
  let cancelRetry = (): void => {}

  const tell = (signal: Signal | { kick: { all: boolean } }): Promise<void> =>
    signals.tell(JSON.stringify(signal))

  const trust = (since: number): void => {
    if (since > clock.now() + MINUTE) {
      log.error(
        { since },
        'the shared store was founded, or its tokens ended, by a host whose clock is ahead: tokens are refused until that time (`since`); correct the clocks, and set a new store.prefix if that is too far away',
      )
    }
    revocations.moveEpoch(since)
    // What opened before stands on a token that no longer counts.
    registry.review(({ startedAt }) => startedAt >= since, 'session_ended')
  }

  /** One line for `systemctl status`. */
  const standing = (): string => {
    if (feed.state() !== 'ok') return `the store is away: ${feed.change().message}`
    return known ? 'deciding' : 'reading the shared store'
  }

  /** Reads what must be known before anything is decided; where the store is away, as soon as it is back. */
  const join = async (): Promise<void> => {
    if (known || learning || closed || feed.state() !== 'ok') return
    learning = true
    try {
      await learner.learn()
      if (closed) return
      trust(feed.trustedSince())
      known = true
      onStanding(standing())
      log.info({ store: label }, 'the shared store: everything is known, checks are decided')
      const warnings = await shared.inspect().catch(() => []) // away again: said already
      for (const warning of warnings) log.warn({ store: label }, warning)
    } catch (error) {
      if (closed) return
      onStanding(standing())
      if (allows('store learn'))
        log.warn({ err: error }, 'the shared store could not be read: tried again')
      cancelRetry = clock.after(TRY_AGAIN, () => void join())
    } finally {
      learning = false
    }
  }

  // The streams of an instance that died would outlive every logout: who stands beside the same nginx ends them.
  let looking = false
  const look = async (): Promise<void> => {
    if (looking || !known) return
    looking = true
    try {
      for (const { file, streams, taken } of streamFile.neighbours.silent()) {
        await learner.takeOver(streams)
        if (closed) return
        trust(feed.trustedSince()) // it may have moved while they were nobody's
        taken()
        const line = 'another instance is gone: its streams are ours'
        if (streams.length > 0) log.warn({ file, streams: streams.length }, line)
      }
    } catch (error) {
      // Where the store is away that is said elsewhere; they are taken over when it is back.
      if (!(error instanceof StoreError)) log.error({ err: error }, 'streams were not taken over')
    } finally {
      looking = false
    }
  }
  const stopLooking = clock.every(LOOK_EVERY, () => void look())

  feed.onEnded(({ sid, until }) => {
    revocations.add(sid, until)
    clock.after(ANSWERED_WITHIN, () => {
      if (!closed) void registry.kickSession(sid, 'session_ended')
    })
  })
  feed.onTrustedSince(trust)
  // Two faults may alternate several times a second: each is logged once per outage.
  const said = new Set<string>()
  const onState = ({ state, message }: StateChange): void => {
    if (closed) return // we closed it ourselves
    if (!said.has(message) && allows(`store ${state}`)) {
      said.add(message)
      const line = `the shared store: ${message}`
      if (state === 'ok') log.info({ state, store: label }, line)
      else log.error({ state, store: label }, line)
    }
    onStanding(standing())
    if (state !== 'ok') return
    said.clear()
    void join()
  }
  feed.onState(onState)
  if (feed.state() !== 'ok') onState(feed.change()) // it was away before anybody listened
  signals.onTold((text) => {
    const signal = parseSignal(text)
    if (!signal) return
    if ('stream' in signal) registry.streamEnded(signal.stream)
    else if ('machineKeys' in signal) void machineKeys.read().catch(() => undefined) // the poll does it
    else void kick(signal.kick)
  })

  const tooOld = (age: number): StoreError | undefined =>
    // Never less than a reading takes: with 0, a healthy store would count as too old every second.
    age <= Math.max(staleSeconds(), feed.bound)
      ? undefined
      : new StoreError('unavailable', `nothing is decided any more: ${standing()}`)

  return {
    join,
    /** What keeps a check from deciding on what is in memory; it is thrown, and becomes a 503. */
    obstacle(): StoreError | undefined {
      if (!known) return new StoreError('unavailable', `nothing is decided yet: ${standing()}`)
      return tooOld(feed.age())
    },
    /** The same, of machine keys, which are read for themselves. */
    keyObstacle: (): StoreError | undefined => tooOld(machineKeys.age()),
    /** They have changed here; what is not told is found a second later. */
    machineKeysChanged: (): Promise<void> => tell({ machineKeys: true }).catch(() => undefined),
    /** What is wrong with the store, though checks may go on for a while. */
    trouble: (): string | undefined => (known && feed.state() === 'ok' ? undefined : standing()),
    standing,
    state: feed.state,
    age: feed.age,
    losses: feed.losses,
    /** nginx told us of the end of a stream that another instance handed out. */
    streamEnded(stream: string): void {
      tell({ stream }).catch(() => undefined) // lost while the store is away: the sweep finds it
    },
    /**
     * The operator wants live streams ended, wherever they are. Rejects where the others could not be told. Everybody
     * is said outright (`all`): a name that got lost must not mean everybody.
     */
    kick: (which: SessionSelector): Promise<void> =>
      tell({ kick: { ...which, all: which.id === undefined && which.user === undefined } }),
    close(): void {
      closed = true
      stopLooking()
      cancelRetry()
    },
  }
}

export type Peers = ReturnType<typeof createPeers>

/** For an instance that shares its store with nobody. What `learn` throws ends the start. */
export const alone = ({ learn }: Pick<Learner, 'learn'>): Peers => ({
  join: learn,
  obstacle: () => undefined,
  keyObstacle: () => undefined,
  machineKeysChanged: async () => undefined,
  trouble: () => undefined,
  standing: () => 'deciding',
  state: () => 'ok',
  age: () => 0,
  losses: () => 0,
  streamEnded: () => undefined,
  kick: async () => undefined,
  close: () => undefined,
})
