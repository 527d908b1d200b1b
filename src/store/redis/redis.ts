// The store on a Redis or Valkey that several hosts share. A user's sessions, tokens and indexes lie under one root,
// so every verb is one script. Tokens are kept as hashes only.

import { systemClock, type Time } from '../../clock.ts'
import type { Subscription } from '../../streams/subscription.ts'
import { createFeed, type Feed, toEndedSession } from './feed.ts'
import { createLayout } from './layout.ts'
import { openLink } from './link.ts'
import {
  BEAT,
  CLAIM,
  COUNT,
  DETAILS,
  END,
  END_ALL,
  FIND,
  IDENTIFY,
  MEMBERS,
  MOVE,
  OPEN,
  PING,
  PRUNE,
  RENEW,
  ROTATE,
  SUBSCRIBE,
  SUBSCRIPTIONS,
  TELL,
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
type Seen = readonly [sid: string, view: View]
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
  const layout = createLayout(prefix)
  const { roots, epochRoot, usersRoot, rootOf, tokenKey, sidKey, userHash } = layout
  const subscriptionsRoot = layout.subscriptionsRoot(nginx)
  const signalsChannel = `${prefix}{signals}`

  const onTold: ((text: string) => void)[] = []
  let feed: Feed | undefined
  const link = await openLink(
    { url, password, ca, timeout, clock, channels: [...roots, signalsChannel] },
    {
      up: () => feed?.up(),
      down: (fault) => feed?.down(fault),
      listening: () => feed?.up(),
      message(channel, text) {
        if (channel !== signalsChannel) feed?.message(text)
        else for (const hear of onTold) hear(text)
      },
    },
  )
  const { run } = link
  const ends = createFeed({ link, layout, pollSeconds, timeout, now, clock })
  feed = ends
  await ends.resync()

  const announce = (row: EndedRow): EndedSession => {
    const ended = toEndedSession(row)
    ends.ended(ended, Number(row[4]))
    return ended
  }

  const membersOf = async (index: string, now: number, from = roots): Promise<string[][]> =>
    (await Promise.all(from.map((root) => run(MEMBERS, root, [index, now])))) as string[][]

  /** Of those that are there, of whatever state; in slices. */
  const detailsOf = async (root: string, sids: readonly string[]): Promise<Seen[]> => {
    const found: Seen[] = []
    for (let at = 0; at < sids.length; at += DETAIL_SLICE) {
      found.push(...((await run(DETAILS, root, sids.slice(at, at + DETAIL_SLICE))) as Seen[]))
    }
    return found
  }

  const viewsOf = async (index: string, now: number, from = roots): Promise<Seen[]> => {
    const members = await membersOf(index, now, from)
    const views: Seen[] = []
    for (const [at, root] of from.entries())
      views.push(...(await detailsOf(root, members[at] ?? [])))
    return views
  }

  const viewsOfNames = async (names: readonly SessionName[]): Promise<Seen[]> => {
    const byRoot = Map.groupBy(names, ({ username }) => rootOf(username))
    const views = Array.from(byRoot, ([root, those]) =>
      detailsOf(root, [...new Set(those.map(({ sid }) => sid))]),
    )
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
      const start = highest > 0 || ends.losses() > 0 ? now() : 0
      const id = (await run(IDENTIFY, usersRoot, [username, highest, start])) as number
      highestId = Math.max(highestId, id)
      return id
    },
    async openSession(session, refreshHash, most = 0) {
      const { role, seenAt, accessUntil, ...unchanging } = session
      const { sid, username, credential, createdAt, expiresAt } = session
      const rows = await run(OPEN, rootOf(username), [
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
        tokenKey(refreshHash),
        sidKey(sid),
        layout.pointer(username, Math.max(expiresAt, accessUntil), sid),
      ])
      return (rows as EndedRow[]).map(announce)
    },
    async findByRefresh(refreshHash, now): Promise<Found> {
      const args = [prefix, Buffer.from(refreshHash)]
      const view = (await run(FIND, tokenKey(refreshHash), args)) as View | null
      return view ? { state: stateOf(view, now), session: toSession(view) } : { state: 'unknown' }
    },
    async renew(refreshHash, { now, role, accessUntil, idleTtl }): Promise<Found> {
      const args = [prefix, Buffer.from(refreshHash), now, role, accessUntil, idleTtl]
      const reply = await run(RENEW, tokenKey(refreshHash), args)
      if (!reply) return { state: 'unknown' }
      const [state, view] = reply as ['live' | 'ended' | 'expired', View]
      return { state, session: toSession(view) }
    },
    async rotate(presented, next, { now, role, accessUntil, idleTtl }, grace) {
      const reply = await run(ROTATE, tokenKey(presented), [
        prefix,
        Buffer.from(presented),
        now,
        role,
        accessUntil,
        idleTtl,
        Buffer.from(next.hash),
        Buffer.from(next.sealed).toString('base64'),
        grace,
        tokenKey(next.hash),
      ])
      if (!reply) return { outcome: 'unknown' }
      const [outcome, view, extra] = reply as
        | ['rotated' | 'ended' | 'expired', View, undefined]
        | ['replayed', View, string]
        | ['reused', View, EndedRow]
      const session = toSession(view)
      if (outcome === 'replayed') {
        return { outcome, session, sealed: new Uint8Array(Buffer.from(extra, 'base64')) }
      }
      if (outcome === 'reused') return { outcome, session, ended: announce(extra) }
      return { outcome, session }
    },
    async endSession(sid, cause, now) {
      const row = (await run(END, sidKey(sid), [prefix, cause, now])) as EndedRow | null
      if (!row) return undefined
      const ended = announce(row)
      return row[4] === '' ? undefined : ended
    },
    async endSessionsOf(username, cause, now) {
      const rows = await run(END_ALL, rootOf(username), [userHash(username), cause, now])
      const ended = (rows as EndedRow[]).map(announce)
      // What another host ended a moment ago is known here before this one says that all are over.
      await ends.resync()
      return ended
    },
    async listEnded(now) {
      return (await viewsOf('ended', now)).map(([sid, [, , , until, , cause, username]]) =>
        toEndedSession([sid, username, String(cause), until, '']),
      )
    },
    async listSessions(now, username) {
      const views =
        username === undefined
          ? await viewsOf('live', now)
          : await viewsOf(`u:${userHash(username)}`, now, [rootOf(username)])
      return views
        .filter(([, view]) => stateOf(view, now) === 'live')
        .map(([, view]) => toSession(view))
        .sort(newestFirst)
    },
    async countSessions(now) {
      const counts = await Promise.all(roots.map((root) => run(COUNT, root, [now])))
      return (counts as number[]).reduce((sum, count) => sum + count, 0)
    },
    async listCredentials(now) {
      const pairs = (await membersOf('cred', now)).flat()
      return pairs.map((pair) => {
        const [username, credential] = JSON.parse(pair) as [string, string]
        return { username, credential }
      })
    },
    async epoch() {
      return (await run(MOVE, epochRoot, [0])) as number
    },
    async moveEpoch(since) {
      await run(MOVE, epochRoot, [since])
      await ends.resync() // here at once, elsewhere within a second
    },
    async useTicket(id, requestId, now, until) {
      const args = [id, requestId, now, until, REPEAT_WITHIN]
      return (await run(USE_TICKET, rootOf(id), args)) as 'first' | 'repeat' | 'used'
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
      const refusal = ends.refusal()
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
    ends.close()
    const latest = clock.monotonic() + CLOSE_WITHIN
    while (underWay.size > 0 && clock.monotonic() < latest) await Promise.allSettled(underWay)
    link.close()
  }

  return {
    ...countedVerbs,
    inspect: () => inspectRedis(link),
    close: () => (closed ??= shut()),
    feed: ends,
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
