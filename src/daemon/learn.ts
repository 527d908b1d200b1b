// What must be known before anything is decided: the ends of sessions, the streams that another process handed out,
// and what changed while nobody looked.

import type { MachineKeys } from '../auth/machine-keys.ts'
import type { Revocations } from '../auth/revocations.ts'
import type { Clock } from '../clock.ts'
import type { Store } from '../store/store.ts'
import type { Kicker, KickSocketError } from '../streams/kicker.ts'
import type { Registry } from '../streams/registry.ts'
import { type StreamFile, StreamFileError } from '../streams/stream-file.ts'
import type { Subscription } from '../streams/subscription.ts'
import type { Workers } from '../streams/workers.ts'
import type { UserFollower } from './follow-users.ts'
import type { TermsInForce } from './in-force.ts'
import type { Observer } from './observe.ts'

const NO_NGINX: ReadonlySet<unknown> = new Set(['ENOENT', 'ECONNREFUSED'])

export const createLearner = (parts: {
  store: Pick<
    Store,
    'accessOf' | 'closeSubscriptions' | 'countTime' | 'epoch' | 'listEnded' | 'listSubscriptions'
  >
  revocations: Pick<Revocations, 'add' | 'forget' | 'isBeforeEpoch' | 'moveEpoch'>
  registry: Pick<Registry, 'adopt'>
  streamFile: Pick<StreamFile, 'list' | 'loss' | 'neighbours' | 'open'>
  kicker: Pick<Kicker, 'countSubscribers'>
  workers: Pick<Workers, 'loseList'>
  follower: Pick<UserFollower, 'endSessionsOfChangedUsers'>
  terms: Pick<TermsInForce, 'isForeign'>
  machineKeys: Pick<MachineKeys, 'read'>
  observer: Pick<Observer, 'streamsLost'>
  clock: Clock
}) => {
  const { store, revocations, registry, streamFile, kicker, workers, follower, observer } = parts
  const { terms, machineKeys, clock } = parts

  /** What the version before left in the store. It stays there where it could not be written down. */
  const moveOver = async (): Promise<readonly Subscription[]> => {
    const left = (await store.listSubscriptions()).map((one) => ({ ...one, kid: '', worker: '' }))
    try {
      for (const stream of left) streamFile.open(stream)
    } catch (error) {
      if (error instanceof StreamFileError) return left // it is said, and no new stream is let in
      throw error
    }
    if (left.length > 0) await store.closeSubscriptions(left.map(({ kick }) => kick))
    return left
  }

  /** Streams of another process. What the store does not know of a session is no sign that it lives. */
  const takeOver = async (found: readonly Subscription[]): Promise<void> => {
    const own = found.filter(({ username }) => !terms.isForeign(username))
    const access = own.length > 0 ? await store.accessOf(own, clock.now()) : new Map()
    const today = found.map((stream) => {
      const known = access.get(stream.sid)
      return known
        ? { ...stream, role: known.role, until: Math.max(stream.until, known.until) }
        : stream
    })
    registry.adopt(
      today,
      ({ sid, username, startedAt }) =>
        !revocations.isBeforeEpoch(startedAt) && (terms.isForeign(username) || access.has(sid)),
    )
  }

  /** Whether nginx holds streams; where it is there and does not say, it may. */
  const nginxHoldsAny = (): Promise<boolean> =>
    kicker.countSubscribers().then(
      (count) => count > 0,
      ({ code }: KickSocketError) => !NO_NGINX.has(code),
    )

  return {
    takeOver,
    async learn(): Promise<void> {
      await machineKeys.read()
      for (const { sid, until } of await store.listEnded()) revocations.add(sid, until)
      // After that: what another instance forgets meanwhile is in the list, or past.
      revocations.forget(await store.countTime(clock.now(), 0))
      revocations.moveEpoch(await store.epoch())
      const left = await moveOver()
      await follower.endSessionsOfChangedUsers()
      await takeOver([...streamFile.list(), ...left])
      // A new instance beside others, or the first start after the upgrade, has nothing to miss.
      const { loss } = streamFile
      const isNew = loss === 'missing' && (left.length > 0 || streamFile.neighbours.isThere())
      if (loss === undefined || isNew || !(await nginxHoldsAny())) return
      workers.loseList()
      observer.streamsLost(loss)
    },
  }
}

export type Learner = ReturnType<typeof createLearner>
