// What a session's streams have in common, and whether there is room for one more. It must never refuse an honest client
// for the sake of what is gone.

import type { Time } from '../clock.ts'
import { findRoom, type Limits } from './limits.ts'
import { isCut, type LiveList, type LiveStream } from './live-list.ts'
import type { Subscription } from './subscription.ts'
import type { Sweep } from './sweep.ts'

export interface Admission extends Omit<Subscription, 'kick' | 'startedAt'> {
  /** A WebSocket: the id is for this one stream. */
  exclusive: boolean
}

// What a session's requests on one connection are for, told apart; all beyond count as one. Else a client could have a
// million of them remembered over a single HTTP/2 connection.
const MOST_APART = 64
const LOOKED_LATELY = 0.02 // seconds for which a look at a connection is believed: what a client leaves is gone within these

/** Whether it stands for more than is told apart. */
export const isFolded = ({ action }: Subscription): boolean => action === ''
export const isSubscription = ({ action = 'subscribe' }: Pick<Subscription, 'action'>): boolean =>
  action === 'subscribe'

/** One for each key: where that is removed, what it admitted ends, and nothing else. */
export const placeOf = ({ kid, resource, action, cookie }: Admission): string =>
  cookie === undefined ? `${kid} ${resource}` : `${cookie} ${kid} ${action} ${resource}`

export const createPlaces = (parts: {
  live: LiveList
  sweep: Pick<Sweep, 'add' | 'look'>
  limits(): Limits
  clock: Pick<Time, 'monotonic'>
}) => {
  const { live, sweep, limits, clock } = parts

  /** By sid, the looks that are under way. */
  const looking = new Map<string, Promise<void>>()

  /** What counts against the limits. */
  const subscriptionsOf = (sid: string): LiveStream[] =>
    live.ofSession(sid).filter((stream) => isSubscription(stream) && stream.open > 0)

  /** Whose id it gets too. */
  const sharedBy = (admission: Admission): LiveStream | undefined =>
    admission.exclusive && !isCut(admission)
      ? undefined
      : live.at(admission.sid, placeOf(admission))

  return {
    sharedBy,
    /** Which streams give way to it; undefined: it is refused. */
    roomFor(admission: Admission): readonly LiveStream[] | undefined {
      const { sid, resource, connection } = admission
      if (!isSubscription(admission)) return []
      const now = clock.monotonic()
      const look = (one: LiveStream): void => sweep.add(one, now)
      const surplus = findRoom(subscriptionsOf(sid), resource, limits(), now, look)
      // With what is on its own connection it would end itself.
      return surplus?.filter((one) => connection === undefined || one.connection !== connection)
    },
    /** As it is remembered, where its connection has so many already. */
    fold(admission: Admission): Admission {
      const { sid, connection } = admission
      if (connection === undefined || sharedBy(admission)) return admission
      const beside = live.onConnection(connection).filter((one) => one.sid === sid)
      return beside.length < MOST_APART ? admission : { ...admission, action: '', resource: '' }
    },
    /**
     * Looks whether a session's connections are still there, where they leave no room: each long-poll comes over one of its
     * own, and nothing tells its end.
     */
    async lookAgain(sid: string): Promise<void> {
      // Else whoever comes meanwhile would be counted with what it finds gone.
      const underWay = looking.get(sid)
      if (underWay) return underWay
      const before = clock.monotonic() - LOOKED_LATELY
      const due = subscriptionsOf(sid).filter((one) => isCut(one) && one.lookedAt < before)
      const look = Promise.all(due.map(sweep.look)).then(() => void looking.delete(sid))
      looking.set(sid, look)
      return look
    },
  }
}
