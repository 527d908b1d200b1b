// What is live in nginx, by its id, by its session and by its connection. It only remembers.

import type { Subscription } from './subscription.ts'

export interface LiveStream extends Subscription {
  role: string
  until: number
  /** Its place among the session's: what it is for, and the key; or the id itself where no check may share it. */
  readonly place: string
  /** Whether only one stream can ever hang on the id. */
  readonly exclusive: boolean
  worker: string
  /** Whether nginx told the end of what hung on the id. */
  endTold: boolean
  /** Of a cut stream's subscriptions, as far as is told: how many are open. */
  open: number
  /** When the kernel was last asked for its connection, by the monotonic clock. */
  lookedAt: number
  /** How many times in a row nginx counted nobody. */
  misses: number
  /** By the monotonic clock: when a check last handed the id out; its stream may still open. */
  issuedAt: number
  /** When it was last opened, as far as is known; by the same clock. */
  openedAt: number
  /** Whether nginx has shown that somebody came by the id; `asked`: not yet, and it was asked early. */
  sighting: 'none' | 'asked' | 'seen'
  /** Whether the store is being asked if the session was refreshed elsewhere. */
  renewing: boolean
}

/** Whether it ends by the kernel's hand. */
export const isCut = ({ cookie }: Pick<Subscription, 'cookie'>): boolean => cookie !== undefined

const kindOf = (stream: LiveStream) => {
  if (isCut(stream)) return 'cut'
  const { exclusive, place, kick } = stream
  if (exclusive) return 'websocket'
  return place === kick ? 'adopted' : 'shared'
}

export const createLiveList = () => {
  const counts = { cut: 0, websocket: 0, shared: 0, adopted: 0 }
  const byKick = new Map<string, LiveStream>()
  /** sid → place → stream. */
  const bySession = new Map<string, Map<string, LiveStream>>()
  const byConnection = new Map<string, Set<LiveStream>>()
  return {
    add(stream: LiveStream): void {
      const ofSession = bySession.get(stream.sid) ?? new Map<string, LiveStream>()
      bySession.set(stream.sid, ofSession.set(stream.place, stream))
      byKick.set(stream.kick, stream)
      counts[kindOf(stream)]++
      const { connection } = stream
      if (connection === undefined) return
      const beside = byConnection.get(connection) ?? new Set()
      byConnection.set(connection, beside.add(stream))
    },
    delete(stream: LiveStream): void {
      if (byKick.delete(stream.kick)) counts[kindOf(stream)]--
      const beside = byConnection.get(String(stream.connection))
      if (beside?.delete(stream) && beside.size === 0)
        byConnection.delete(String(stream.connection))
      const ofSession = bySession.get(stream.sid)
      if (ofSession?.get(stream.place) !== stream) return // its place is another's by now
      ofSession.delete(stream.place)
      if (ofSession.size === 0) bySession.delete(stream.sid)
    },
    has: (stream: LiveStream) => byKick.get(stream.kick) === stream,
    get: (kick: string) => byKick.get(kick),
    at: (sid: string, place: string) => bySession.get(sid)?.get(place),
    ofSession: (sid: string) => [...(bySession.get(sid)?.values() ?? [])],
    onConnection: (connection: string) => [...(byConnection.get(connection) ?? [])],
    all: () => [...byKick.values()],
    count: () => byKick.size,
    countByKind: () => counts,
  }
}

export type LiveList = ReturnType<typeof createLiveList>
