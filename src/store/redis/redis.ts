// The store on a Redis or Valkey that several hosts share. A user's sessions, tokens and indexes lie in one
// shard, so every verb is one script there; a token or sid leads to its shard by a pointer, which is never
// believed: the script looks again. Tokens are kept as hashes only.

import { systemClock, type Time } from '../../clock.ts'
import type { Subscription } from '../../streams/subscription.ts'
import { createFeed, type Feed, toEndedSession } from './feed.ts'
import { createLayout, isKeyPrefix, type Pointer, readPointer, writePointer } from './layout.ts'
import { type Argument, type Link, openLink } from './link.ts'
import {
  BEAT,
  CLAIM,
  COUNT,
  DETAILS,
  END,
  END_ALL,
  FIND,
  IDENTIFY,
  LOOK_UP,
  MEMBERS,
  MOVE,
  OF_USER,
  OPEN,
  PING,
  POINT,
  PRUNE,
  RENEW,
  ROTATE,
  type Script,
  SUBSCRIBE,
  SUBSCRIPTIONS,
  TELL,
  UNPOINT,
  UNSUBSCRIBE,
  USE_TICKET,
} from './scripts.ts'
import { createRedisThrottle } from './throttle.ts'
import { inspectRedis } from './inspect.ts'
import type { SessionName, SharedStore, SharedVerbs } from '../shared-store.ts'
import {
  type EndedSession,
  type Found,
  KEEP_ENDED,
  KEEP_SUBSCRIPTIONS,
  REPEAT_WITHIN,
  type Session,
  StoreError,
  type StoreVerbs,
} from '../store.ts'

export interface RedisSettings {
  url: string
  /** In the place of the url's own. */
  password?: string | undefined
  /** A file with the certificates (PEM) of who signed the server's. */
  ca?: string | undefined
  /** What every key begins with: two deployments may share a server. */
  prefix?: string
  /** The nginx that holds the streams of this instance; several instances may stand beside one. */
  nginx?: string
  /** Among those beside one nginx, the same after a restart. */
  instance?: string
  /** Seconds that the server may be silent while a call waits. */
  timeout?: number
  /** Seconds between readings of the ends of sessions. */
  pollSeconds?: number
  /** Unix seconds; only for the feed and for the users' numbers, all else is told the time. */
  now?: () => number
  /** Of waiting, and of silence. */
  clock?: Time
}

const PRUNE_SLICE = 1000 // sessions a step
const DETAIL_SLICE = 500 // sessions a script: about 1 ms of the server, so that nobody waits behind a long list
const SILENT = 5 // seconds without a word: an instance that says something each second is gone
const CLOSE_WITHIN = 1 // second: no call takes longer

type View = readonly [
  d: string,
  role: string,
  seen: string,
  access: string,
  ended: string | null,
  cause: string | null,
  user: string,
  expires: string,
]
type EndedRow = Parameters<typeof toEndedSession>[0]
type Unchanging = Omit<Session, 'role' | 'seenAt' | 'accessUntil'>

const toSession = ([d, role, seen, access]: View): Session => ({
  ...(JSON.parse(d) as Unchanging),
  role,
  seenAt: Number(seen),
  accessUntil: Number(access),
})

const stateOf = (view: View, now: number): 'live' | 'ended' | 'expired' => {
  if (view[4] !== null) return 'ended'
  return now >= Number(view[7]) ? 'expired' : 'live'
}

const newestFirst = (one: Session, two: Session): number =>
  two.createdAt - one.createdAt || (one.sid < two.sid ? -1 : 1)

/**
 * Resolves also while the server is away: `feed` and `ping` tell, and it heals by itself. Rejects where it never
 * could (url, ca file, package), with a StoreError that names the cure.
 */
export const openRedisStore = async (settings: RedisSettings): Promise<SharedStore> => {
  const {
    url,
    password,
    ca,
    prefix = 'postern:',
    nginx = '',
    instance = '',
    timeout = 0.25,
    pollSeconds = 1,
  } = settings
  const { clock = systemClock, now = clock.now } = settings
  if (!isKeyPrefix(prefix)) {
    throw new StoreError(
      'unavailable',
      'the prefix of the Redis store may hold a-z 0-9 : . _ - only',
    )
  }
  const layout = createLayout(prefix)
  const { roots, usersRoot, rootAt, shardOf, tokenKey, sidKey, userHash } = layout
  const subscriptionsRoot = layout.subscriptionsRoot(nginx)
  const signalsChannel = `${prefix}{signals}`

  let opened: Link | undefined
  const feed: Feed = createFeed({
    link: () => opened,
    roots,
    health: usersRoot,
    pollSeconds,
    timeout,
    now,
    clock,
  })
  const onTold: ((text: string) => void)[] = []
  const link = await openLink(
    { url, password, ca, timeout, clock, channels: [...roots, signalsChannel] },
    {
      up: feed.up,
      down: feed.down,
      listening: feed.up,
      message(channel, text) {
        if (channel !== signalsChannel) feed.message(channel, text)
        else for (const hear of onTold) hear(text)
      },
    },
  ).catch((error: unknown) => {
    feed.close()
    throw error
  })
  opened = link
  const { run } = link
  await feed.resync()

  const everywhere = async <T>(script: Script, args: readonly Argument[]): Promise<T[]> =>
    (await Promise.all(roots.map((root) => run(script, root, args)))) as T[]

  const lookUp = async (key: string): Promise<Pointer | undefined> => {
    const text = (await run(LOOK_UP, key)) as string | null
    return text === null ? undefined : readPointer(text)
  }

  /** Only for what has not happened: a pointer to nothing does no harm, it only takes room until it expires. */
  const unpoint = async (key: string): Promise<void> => {
    await run(UNPOINT, key).catch(() => undefined)
  }

  const point = async (key: string, pointer: Pointer, now: number): Promise<void> => {
    const ttl = Math.max(pointer.keepUntil - now, 0) + KEEP_ENDED
    if ((await run(POINT, key, [writePointer(pointer), ttl])) === 0) {
      throw new Error('a session of this sid, or with this token, is there already')
    }
  }

  const announce = (shard: number, row: EndedRow): EndedSession => {
    const ended = toEndedSession(row)
    feed.ended(rootAt(shard), ended, Number(row[4]))
    return ended
  }

  const membersOf = (index: string, now: number): Promise<string[][]> =>
    everywhere<string[]>(MEMBERS, [index, now])

  /** All sessions of an index, of every shard, in slices. */
  const viewsOf = async (index: string, now: number): Promise<[sid: string, view: View][]> => {
    const views: [string, View][] = []
    const members = await membersOf(index, now)
    for (const [shard, sids] of members.entries()) {
      for (let at = 0; at < sids.length; at += DETAIL_SLICE) {
        const slice = sids.slice(at, at + DETAIL_SLICE)
        views.push(...((await run(DETAILS, rootAt(shard), slice)) as [string, View][]))
      }
    }
    return views
  }

  const toLive = (views: readonly (readonly [string, View])[], now: number): Session[] =>
    views
      .filter(([, view]) => stateOf(view, now) === 'live')
      .map(([, view]) => toSession(view))
      .sort(newestFirst)

  /** Of those sessions that are there, of whatever state. */
  const viewsOfNames = async (names: readonly SessionName[]): Promise<[string, View][]> => {
    const byShard = Map.groupBy(names, ({ username }) => shardOf(username))
    const views = Array.from(byShard, async ([shard, those]) => {
      const found: [string, View][] = []
      const sids = [...new Set(those.map(({ sid }) => sid))]
      for (let at = 0; at < sids.length; at += DETAIL_SLICE) {
        const slice = sids.slice(at, at + DETAIL_SLICE)
        found.push(...((await run(DETAILS, rootAt(shard), slice)) as [string, View][]))
      }
      return found
    })
    return (await Promise.all(views)).flat()
  }

  let highestId = 0
  const subscriptionsWhere = async (
    isMeant: (by: string | undefined) => boolean,
  ): Promise<Subscription[]> => {
    const texts = (await run(SUBSCRIPTIONS, subscriptionsRoot)) as string[]
    const all = texts
      .map((text) => JSON.parse(text) as Subscription & { by?: string })
      .filter(({ by }) => isMeant(by))
    const views = await viewsOfNames(all)
    const until = new Map(views.map(([sid, view]) => [sid, Number(view[3])]))
    return all
      .map(({ by: _by, ...one }) => ({
        ...one,
        until: Math.max(one.until, until.get(one.sid) ?? 0),
      }))
      .sort((one, two) => one.startedAt - two.startedAt || (one.kick < two.kick ? -1 : 1))
  }

  const verbs: StoreVerbs & SharedVerbs = {
    async identify(username) {
      const highest = highestId
      // Where the count was lost it goes on far above any that was given: one user a second is never reached.
      const start = highest > 0 || feed.losses() > 0 ? now() : 0
      const id = (await run(IDENTIFY, usersRoot, [username, highest, start])) as number
      highestId = Math.max(highestId, id)
      return id
    },
    async openSession(session, refreshHash, most = 0) {
      const { role, seenAt, accessUntil, ...unchanging } = session
      const { sid, username, credential, createdAt, expiresAt } = session
      const shard = shardOf(username)
      const pointer = { shard, sid, keepUntil: Math.max(expiresAt, accessUntil) }
      await point(tokenKey(refreshHash), pointer, createdAt)
      try {
        await point(sidKey(sid), pointer, createdAt)
      } catch (error) {
        if (!(error instanceof StoreError)) await unpoint(tokenKey(refreshHash))
        throw error
      }
      const rows = (await run(OPEN, rootAt(shard), [
        sid,
        Buffer.from(refreshHash),
        createdAt,
        username,
        userHash(username),
        layout.pair(username, credential),
        JSON.stringify(unchanging),
        role,
        seenAt,
        accessUntil,
        expiresAt,
        most,
      ])) as EndedRow[] | null
      if (rows === null) throw new Error('a session of this sid is there already')
      return rows.map((row) => announce(shard, row))
    },
    async findByRefresh(refreshHash, now): Promise<Found> {
      const pointer = await lookUp(tokenKey(refreshHash))
      if (!pointer) return { state: 'unknown' }
      const args = [pointer.sid, Buffer.from(refreshHash)]
      const view = (await run(FIND, rootAt(pointer.shard), args)) as View | null
      return view ? { state: stateOf(view, now), session: toSession(view) } : { state: 'unknown' }
    },
    async renew(refreshHash, { now, role, accessUntil, idleTtl }): Promise<Found> {
      const pointer = await lookUp(tokenKey(refreshHash))
      if (!pointer) return { state: 'unknown' }
      const args = [pointer.sid, Buffer.from(refreshHash), now, role, accessUntil, idleTtl]
      const [state, view] = (await run(RENEW, rootAt(pointer.shard), args)) as
        | ['unknown']
        | ['live' | 'ended' | 'expired', View]
      return state === 'unknown' ? { state } : { state, session: toSession(view) }
    },
    async rotate(presented, next, { now, role, accessUntil, idleTtl }, grace) {
      const pointer = await lookUp(tokenKey(presented))
      if (!pointer) return { outcome: 'unknown' }
      const { shard, sid } = pointer
      // First, so that a token which was made can always be found. Nobody has it yet.
      await point(tokenKey(next.hash), pointer, now)
      const [outcome, view, extra] = (await run(ROTATE, rootAt(shard), [
        sid,
        Buffer.from(presented),
        now,
        role,
        accessUntil,
        idleTtl,
        Buffer.from(next.hash),
        Buffer.from(next.sealed).toString('base64'),
        grace,
      ])) as
        | ['unknown', undefined, undefined]
        | ['rotated' | 'ended' | 'expired', View, undefined]
        | ['replayed', View, string]
        | ['reused', View, EndedRow]
      if (outcome === 'rotated') return { outcome, session: toSession(view) }
      await unpoint(tokenKey(next.hash))
      if (outcome === 'unknown') return { outcome }
      const session = toSession(view)
      if (outcome === 'replayed') {
        return { outcome, session, sealed: new Uint8Array(Buffer.from(extra, 'base64')) }
      }
      if (outcome === 'reused') return { outcome, session, ended: announce(shard, extra) }
      return { outcome, session }
    },
    async endSession(sid, cause, now) {
      const pointer = await lookUp(sidKey(sid))
      if (!pointer) return undefined
      const row = (await run(END, rootAt(pointer.shard), [sid, cause, now])) as EndedRow | null
      if (!row) return undefined
      const ended = announce(pointer.shard, row)
      return row[4] === '' ? undefined : ended
    },
    async endSessionsOf(username, cause, now) {
      const shard = shardOf(username)
      const rows = await run(END_ALL, rootAt(shard), [userHash(username), cause, now])
      const ended = (rows as EndedRow[]).map((row) => announce(shard, row))
      // What another host ended a moment ago is known here before this one says that all are over.
      await feed.resync()
      return ended
    },
    async listEnded(now) {
      return (await viewsOf('ended', now)).map(([sid, [, , , until, , cause, username]]) =>
        toEndedSession([sid, username, String(cause), until, '']),
      )
    },
    async listSessions(now, username) {
      if (username === undefined) return toLive(await viewsOf('live', now), now)
      const views = await run(OF_USER, rootAt(shardOf(username)), [userHash(username), now])
      return toLive(views as [string, View][], now)
    },
    async countSessions(now) {
      return (await everywhere<number>(COUNT, [now])).reduce((sum, count) => sum + count, 0)
    },
    async listCredentials(now) {
      const pairs = (await membersOf('cred', now)).flat()
      return pairs.map((pair) => {
        const [username, credential] = JSON.parse(pair) as [string, string]
        return { username, credential }
      })
    },
    async epoch() {
      return (await run(MOVE, rootAt(0), [0])) as number
    },
    async moveEpoch(since) {
      await run(MOVE, rootAt(0), [since])
      await feed.resync() // here at once, elsewhere within a second
    },
    async useTicket(id, requestId, now, until) {
      const args = [id, requestId, now, until, REPEAT_WITHIN]
      return (await run(USE_TICKET, rootAt(shardOf(id)), args)) as 'first' | 'repeat' | 'used'
    },
    async openSubscription(subscription) {
      const { kick, startedAt, until } = subscription
      const ttl = Math.max(until - startedAt, 0) + KEEP_SUBSCRIPTIONS
      const by = instance === '' ? {} : { by: instance }
      const args = [kick, JSON.stringify({ ...subscription, ...by }), ttl]
      if ((await run(SUBSCRIBE, subscriptionsRoot, args)) === 0) {
        throw new Error('a subscription of this kick id is there already')
      }
    },
    async closeSubscriptions(kicks) {
      for (let at = 0; at < kicks.length; at += DETAIL_SLICE) {
        await run(UNSUBSCRIBE, subscriptionsRoot, kicks.slice(at, at + DETAIL_SLICE))
      }
    },
    // Its own, and an older version's, which are nobody's.
    listSubscriptions: () => subscriptionsWhere((by) => by === undefined || by === instance),
    subscriptionsOf: (instances) =>
      subscriptionsWhere((by) => by !== undefined && instances.includes(by)),
    beat: async () =>
      (await run(BEAT, `${subscriptionsRoot}:by`, [instance, now(), SILENT])) as string[],
    async prune(now) {
      let gone = 0
      for (const root of roots) {
        if (gone >= PRUNE_SLICE) break
        gone += (await run(PRUNE, root, [now - KEEP_ENDED, PRUNE_SLICE - gone])) as number
      }
      return gone
    },
    async ping() {
      await run(PING, usersRoot)
    },
    async claimKeys(who) {
      return (await run(CLAIM, `${usersRoot}:keys`, [who])) as string
    },
    async accessOf(sessions, now) {
      const views = await viewsOfNames(sessions)
      const live = views.filter(([, view]) => stateOf(view, now) === 'live')
      return new Map(live.map(([sid, view]) => [sid, { role: view[1], until: Number(view[3]) }]))
    },
  }

  const underWay = new Set<Promise<unknown>>()
  let closed: Promise<void> | undefined

  /** Counts what is under way, so that close can wait for it, and takes nothing more after. */
  const counted =
    (verb: (...args: never[]) => Promise<unknown>) =>
    async (...args: never[]): Promise<unknown> => {
      if (closed) throw new StoreError('unavailable', `the store ${link.label} is closed`)
      const refusal = feed.refusal()
      if (refusal) throw refusal
      const answer = verb(...args)
      underWay.add(answer)
      try {
        return await answer
      } finally {
        underWay.delete(answer)
      }
    }
  const countedVerbs = Object.fromEntries(
    Object.entries(verbs).map(([name, verb]) => [name, counted(verb)]),
  ) as unknown as typeof verbs

  const shut = async (): Promise<void> => {
    feed.close()
    const latest = clock.monotonic() + CLOSE_WITHIN
    while (underWay.size > 0 && clock.monotonic() < latest) await Promise.allSettled(underWay)
    link.close()
  }

  return {
    ...countedVerbs,
    inspect: () => inspectRedis(link),
    close: () => (closed ??= shut()),
    feed,
    throttle: createRedisThrottle(link, `${prefix}{throttle}`, clock),
    signals: {
      async tell(text) {
        await run(TELL, signalsChannel, [text])
      },
      onTold: (listener) => void onTold.push(listener),
    },
    label: link.label,
  }
}
