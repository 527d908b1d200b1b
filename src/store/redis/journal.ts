// The ends of sessions under one root, by number: read page by page, and held against what the server has
// acknowledged before. It must never pass over an end that is missing.

import { randomBytes } from 'node:crypto'

import type { Link } from './link.ts'
import { atRoot } from './scripts.ts'
import { END_CAUSES, type EndCause, type EndedSession } from '../store.ts'

/** The last end that the reader knows (number, sid), how many → epoch, founded, intact, { sid, user, cause, until, seq }, moved. */
export const READ_FEED = atRoot(`
local since, most = number(ARGV[1]), number(ARGV[3])
local head = redis.call('HMGET', root, 'epoch', 'founded', 'seq', 'trimmed', 'moved')
-- A primary that came back without our last ends may count past them again: the same number must be the same end.
local intact = number(head[3]) >= since and (since <= number(head[4])
  or number(redis.call('ZSCORE', root .. ':feed', ARGV[2])) == since)
local ends = {}
for _, sid in ipairs(redis.call('ZRANGEBYSCORE', root .. ':feed', '(' .. since, '+inf', 'LIMIT', 0, most)) do
  local f = redis.call('HMGET', root .. ':s:' .. sid, 'user', 'cause', 'access')
  local seq = redis.call('ZSCORE', root .. ':feed', sid)
  if f[1] then table.insert(ends, { sid, f[1], f[2], f[3], seq })
  else table.insert(ends, { sid, '', '', '', seq }) end -- gone with the TTL that an older version gave it
end
return { head[1], head[2], intact and 1 or 0, ends, number(head[5]) }
`)

/** The epoch that is to be replaced ('': none), the new one, since when it holds → the one that holds now. */
export const FOUND = atRoot(`
local epoch = redis.call('HGET', root, 'epoch') or ''
if epoch == ARGV[1] then
  local since = math.max(number(ARGV[3]), number(redis.call('HGET', root, 'founded')))
  redis.call('HSET', root, 'epoch', ARGV[2], 'founded', since)
end
return redis.call('HMGET', root, 'epoch', 'founded')
`)

/** An instant before which tokens no longer count; 0 only asks → the latest there was. */
export const MOVE = atRoot(`
local moved = math.max(number(ARGV[1]), number(redis.call('HGET', root, 'moved')))
if moved == 0 then return moved end
if moved > number(redis.call('HGET', root, 'moved')) then redis.call('UNLINK', root .. ':clock') end
redis.call('HSET', root, 'moved', moved)
return moved
`)

const PAGE = 500 // ends a step: about 2 ms of the server

/** A row of `finish`, or of READ_FEED. */
export type EndedRow = readonly [
  sid: string,
  username: string,
  cause: string,
  until: string,
  seq: string,
]

const toCause = (text: string): EndCause => END_CAUSES.find((cause) => cause === text) ?? 'operator' // a newer version's

export const toEndedSession = ([sid, username, cause, until]: EndedRow): EndedSession => ({
  sid,
  username,
  cause: toCause(cause),
  until: Number(until),
})

export const createJournal = (parts: {
  link: Pick<Link, 'run'>
  root: string
  now: () => number
  learn(ended: EndedSession): void
  /** The server lacks what it had acknowledged. */
  onLoss(): void
  /** Ends anew what is known to have ended under this root. */
  endAgain(): Promise<void>
}) => {
  const { link, root, now, learn, onLoss, endAgain } = parts
  let epoch = ''
  let founded = 0
  /** The store's epoch as the port knows it: an operator moved it. */
  let moved = 0
  /** The last end read: its number and whose it was. */
  let last = { seq: 0, sid: '' }
  /** Acknowledged to us, not read back yet. */
  const own = new Map<number, string>()
  /** What came back to life there is still to be ended again. */
  let behind = false

  const found = async (since: number): Promise<void> => {
    const next = randomBytes(12).toString('base64url')
    const reply = (await link.run(FOUND, root, [epoch, next, since])) as [string, string]
    epoch = reply[0]
    founded = Number(reply[1])
  }

  /** What went for good is answered by `trustedSince`; what came back to life is ended again. */
  const recover = async (stored: string | null): Promise<void> => {
    behind = true // first: an interruption must not forget it
    onLoss()
    // Where another host has founded it anew already, its epoch is taken over.
    const isOurs = stored === null || stored === epoch
    epoch = stored ?? ''
    if (isOurs) await found(now() + 1) // of this second there may be both kinds
    last = { seq: 0, sid: '' }
    own.clear()
  }

  type Page = [
    epoch: string | null,
    founded: string | null,
    intact: number,
    rows: EndedRow[],
    moved: number,
  ]

  /** Resolves to whether there is more to read. */
  const readPage = async (): Promise<boolean> => {
    const expected = [...own]
    const reply = await link.run(READ_FEED, root, [last.seq, last.sid, PAGE])
    const [stored, storedFounded, intact, rows, storedMoved] = reply as Page
    if (epoch === '' && stored === null) {
      await found(now())
      return true
    }
    const seen = new Map(rows.map((row) => [Number(row[4]), row[0]]))
    const isFull = rows.length === PAGE
    const reached = isFull ? Math.max(...seen.keys()) : Infinity
    const isMissing = expected.some(
      ([seq, sid]) => seq > last.seq && seq <= reached && seen.get(seq) !== sid,
    )
    const isOther = epoch !== '' && stored !== epoch
    if (stored === null || isOther || intact === 0 || isMissing) {
      await recover(stored)
      return true
    }
    epoch = stored
    founded = Number(storedFounded)
    // A primary that came back without the last move is told of it again.
    if (storedMoved < moved) await link.run(MOVE, root, [moved])
    else moved = storedMoved
    for (const row of rows) {
      if (row[2] !== '') learn(toEndedSession(row))
      last = { seq: Number(row[4]), sid: row[0] }
    }
    for (const [seq] of expected) if (seq <= last.seq) own.delete(seq)
    return isFull
  }

  return {
    /** Reads what is new. Rejects with a StoreError. */
    async read(): Promise<void> {
      for (;;) {
        if (await readPage()) continue
        if (!behind) return
        await endAgain() // and read what that ended
        behind = false
      }
    },
    /** This host has made an end, which the server acknowledged with that number. */
    acknowledged(sid: string, seq: number): void {
      if (seq > last.seq) own.set(seq, sid)
    },
    /** No earlier token may be believed. */
    trustedSince: () => Math.max(founded, moved),
  }
}
