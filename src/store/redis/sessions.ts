// The verbs about sessions, their tokens and their ends. What lies under one root is read and changed by one script;
// a list is read root by root, and in slices, so that nobody waits behind it.

import type { Feed } from './feed.ts'
import { type EndedRow, toEndedSession } from './journal.ts'
import type { RedisLayout } from './layout.ts'
import type { Link } from './link.ts'
import {
  byPointer,
  COUNT,
  DETAILS,
  END,
  END_ALL,
  FIND,
  MEMBERS,
  OPEN,
  RENEW,
  ROTATE,
} from './scripts.ts'
import type { EndedSession, Found, Session, SessionName, StoreVerbs } from '../store.ts'

/** KEYS[1] a sid's pointer; prefix, the number of the token that was seen. */
export const SEE = byPointer(`
local key = root .. ':w:' .. sid
if string.match(redis.call('GET', key) or '', '^%d+') == ARGV[2] then redis.call('DEL', key) end
return false
`)

const DETAIL_SLICE = 500 // sessions a script: about 1 ms of the server

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

export const createRedisSessions = (
  { run }: Pick<Link, 'run'>,
  layout: RedisLayout,
  feed: Pick<Feed, 'ended' | 'resync'>,
) => {
  const { prefix, roots, rootOf, tokenKey, sidKey, userHash } = layout

  const announce = (row: EndedRow): EndedSession => {
    const ended = toEndedSession(row)
    feed.ended(ended, Number(row[4]))
    return ended
  }

  const membersOf = (index: string, now: number, from = roots) =>
    Promise.all(
      from.map(async (root) => {
        const members = (await run(MEMBERS, root, [index, now])) as string[]
        return { root, members }
      }),
    )

  /** Of those that are there, of whatever state; in slices. */
  const detailsOf = async (root: string, sids: readonly string[]): Promise<Seen[]> => {
    const found: Seen[] = []
    for (let at = 0; at < sids.length; at += DETAIL_SLICE) {
      found.push(...((await run(DETAILS, root, sids.slice(at, at + DETAIL_SLICE))) as Seen[]))
    }
    return found
  }

  /** `most`: of each root, those that expire last. */
  const viewsOf = async (index: string, now: number, from = roots, most = 0): Promise<Seen[]> => {
    const views: Seen[] = []
    for (const { root, members } of await membersOf(index, now, from)) {
      views.push(...(await detailsOf(root, members.slice(-most))))
    }
    return views
  }

  const viewsOfNames = async (names: readonly SessionName[]): Promise<Seen[]> => {
    const byRoot = Map.groupBy(names, ({ username }) => rootOf(username))
    const views = Array.from(byRoot, ([root, those]) =>
      detailsOf(root, [...new Set(those.map(({ sid }) => sid))]),
    )
    return (await Promise.all(views)).flat()
  }

  return {
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
      const reply = await run(FIND, tokenKey(refreshHash), args)
      if (!reply) return { state: 'unknown' }
      const [view, at] = reply as [View, string]
      return { state: stateOf(view, now), session: toSession(view), generation: Number(at) }
    },
    async renew(refreshHash, { now, role, accessUntil, idleTtl }): Promise<Found> {
      const args = [prefix, Buffer.from(refreshHash), now, role, accessUntil, idleTtl]
      const reply = await run(RENEW, tokenKey(refreshHash), args)
      if (!reply) return { state: 'unknown' }
      const [state, view, at] = reply as ['live' | 'ended' | 'expired', View, string]
      return { state, session: toSession(view), generation: Number(at) }
    },
    async rotate(presented, next, { now, role, accessUntil, idleTtl }, grace, unseenGrace = 0) {
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
        unseenGrace,
        Buffer.from(next.family ?? ''),
        next.family ? tokenKey(next.family) : '',
      ])
      if (!reply) return { outcome: 'unknown' }
      const [outcome, view, generation, extra] = reply as
        | ['rotated' | 'ended' | 'expired', View, number, undefined]
        | ['replayed' | 'recovered', View, number, string]
        | ['reused', View, number, EndedRow]
      const session = toSession(view)
      if (outcome === 'replayed' || outcome === 'recovered') {
        const sealed = new Uint8Array(Buffer.from(extra, 'base64'))
        return { outcome, session, generation, sealed }
      }
      if (outcome === 'reused') return { outcome, session, ended: announce(extra) }
      return outcome === 'rotated' ? { outcome, session, generation } : { outcome, session }
    },
    async seeSuccessor(sid, generation) {
      await run(SEE, sidKey(sid), [prefix, generation])
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
      await feed.resync()
      return ended
    },
    async listEnded() {
      return (await viewsOf('ended', -1)).map(([sid, [, , , until, , cause, username]]) =>
        toEndedSession([sid, username, String(cause), until, '']),
      )
    },
    async listSessions(now, username, most = 0) {
      const views =
        username === undefined
          ? await viewsOf('live', now, roots, Math.ceil(most / roots.length))
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
      const pairs = (await membersOf('cred', now)).flatMap(({ members }) => members)
      return pairs.map((pair) => {
        const [username, credential] = JSON.parse(pair) as [string, string]
        return { username, credential }
      })
    },
    async accessOf(names, now) {
      const views = await viewsOfNames(names)
      const live = views.filter(([, view]) => stateOf(view, now) === 'live')
      return new Map(live.map(([sid, view]) => [sid, { role: view[1], until: Number(view[3]) }]))
    },
  } satisfies Partial<StoreVerbs>
}
