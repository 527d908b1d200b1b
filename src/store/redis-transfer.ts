// A Redis store as the source or the target of a copy. A target is a draft until it is finished: no daemon takes
// it for a store, and the next copy clears it away. It must never touch a store that holds anything.

import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'

import type { Subscription } from '../subscriptions/subscription.ts'
import { parseRedisUrl } from './redis-address.ts'
import { inspectRedis } from './redis-inspect.ts'
import { createLayout, FORMAT, type RedisLayout, writePointer } from './redis-layout.ts'
import { type Argument, type Link, openLink } from './redis-link.ts'
import type { Script } from './redis-scripts.ts'
import {
  DRAFT,
  FORGET,
  FORGET_REST,
  FORGET_SESSIONS,
  HEARD,
  HUSH,
  LISTENERS,
  LOOK,
  POINT_ALL,
  READ_NAMES,
  READ_SESSIONS,
  READ_SUBSCRIPTIONS,
  READ_TICKETS,
  REVEAL,
  TAKE,
  UNPOINT_ALL,
  WRITE_NAMES,
  WRITE_SESSIONS,
  WRITE_SUBSCRIPTIONS,
  WRITE_TICKETS,
} from './redis-transfer-scripts.ts'
import { KEEP_ENDED, KEEP_SEALED, KEEP_SUBSCRIPTIONS, type Session, StoreError } from './store.ts'
import {
  type Head,
  keptUntil,
  type Reader,
  type Refusal,
  type SessionRecord,
  SLICE,
  SLICE_TOKENS,
  type Slice,
  ticketKeptUntil,
  type TicketRecord,
  type UserRecord,
  type Writer,
} from './transfer.ts'

export interface RedisSide {
  url: string
  password?: string | undefined
  ca?: string | undefined
  prefix: string
  /** Whose subscriptions: a file holds those of one nginx only. */
  nginx: string
  now: number
  /** Seconds that the server may be silent while a call waits. */
  timeout?: number
}

const POINTERS = 200 // a call: about 1 ms of the server
const AT_ONCE = 256 // calls under way
const QUIET = 3 // seconds: a daemon that is at work is heard within two

interface Side {
  readonly link: Link
  readonly layout: RedisLayout
  readonly cluster: boolean
  readonly nginx: string
  readonly now: number
}

/** What LOOK tells of a root. */
interface Look {
  readonly kind: 'none' | 'hash' | 'draft' | 'foreign'
  readonly text: string
  readonly epoch: string | undefined
  readonly founded: number
  readonly moved: number
  readonly last: number
  /** Only of the users' root. */
  readonly format: number
  readonly held: number
}

const ignore = (): void => undefined

const openSide = async (given: RedisSide): Promise<Side> => {
  const { url, password, ca, prefix, nginx, now, timeout = 10 } = given
  const link = await openLink(
    { url, password, ca, timeout, channels: [] },
    { up: ignore, down: ignore, listening: ignore, message: ignore },
  )
  const cluster = parseRedisUrl(url).kind === 'cluster'
  return { link, layout: createLayout(prefix), cluster, nginx, now }
}

const look = async ({ link }: Side, root: string): Promise<Look> => {
  const [kind, text, founded = 0, moved = 0, last = 0, format = 0, held = 0] = (await link.run(
    LOOK,
    root,
  )) as [string, (string | null)?, number?, number?, number?, number?, number?]
  const is =
    kind === 'string' && text?.startsWith(DRAFT) === true
      ? 'draft'
      : kind === 'hash' || kind === 'none'
        ? kind
        : 'foreign'
  return {
    kind: is,
    text: text ?? '',
    epoch: is === 'hash' ? (text ?? undefined) : undefined,
    founded,
    moved,
    last,
    format,
    held,
  }
}

interface Looks {
  readonly users: Look
  readonly shards: readonly Look[]
  readonly all: readonly Look[]
}

/** Rejects where the data are of a newer version: what we do not understand we might un-revoke. */
const lookAll = async (side: Side): Promise<Looks> => {
  const { usersRoot, roots } = side.layout
  const users = await look(side, usersRoot)
  if (users.format > FORMAT) {
    throw new StoreError(
      'newer',
      `${side.link.label} has data of format ${users.format}, this Postern knows ${FORMAT}: copy with the newer version`,
    )
  }
  const shards = await Promise.all(roots.map((root) => look(side, root)))
  return { users, shards, all: [users, ...shards] }
}

const inUse = ({ link }: Side): Refusal => ({
  refused: `${link.label} is in use: stop the daemon of every host first`,
})

const findListener = async (side: Side): Promise<Refusal | undefined> => {
  const { roots } = side.layout
  const counts = await Promise.all(roots.map((root) => side.link.run(LISTENERS, root, roots)))
  return counts.some((count) => count !== 0) ? inUse(side) : undefined
}

/** Whether a daemon is at work. On a cluster it may listen at a node that we never ask: its marks tell. */
const findDaemon = async (side: Side): Promise<Refusal | undefined> => {
  const marks = await side.link.run(HEARD, side.layout.usersRoot)
  return marks === 0 ? findListener(side) : inUse(side)
}

const waitForQuiet = async (side: Side): Promise<Refusal | undefined> => {
  await side.link.run(HUSH, side.layout.usersRoot)
  if (side.cluster) await pause(QUIET * 1000)
  return findDaemon(side)
}

type Fields = readonly [
  d: string,
  role: string,
  seen: string,
  access: string,
  ended: string | null,
  cause: string | null,
  rotated: string | null,
]
type SessionRow = readonly [sid: string, fields: Fields, chain: string, sealed: string | null]

/** `<hex> <number> <hex> <number> …` → hashes by number. */
const toTokens = (chain: string): Uint8Array[] => {
  const words = chain === '' ? [] : chain.split(' ')
  const tokens: [number: number, hash: Uint8Array][] = []
  for (let at = 0; at < words.length; at += 2) {
    tokens.push([Number(words[at + 1]), new Uint8Array(Buffer.from(words[at] as string, 'hex'))])
  }
  return tokens.toSorted(([one], [two]) => one - two).map(([, hash]) => hash)
}

const toRecord = ([, fields, chain, sealed]: SessionRow): SessionRecord => {
  const [d, role, seen, access, ended, cause, rotated] = fields
  const unchanging = JSON.parse(d) as Omit<Session, 'role' | 'seenAt' | 'accessUntil'>
  const tokens = toTokens(chain)
  return {
    session: { ...unchanging, role, seenAt: Number(seen), accessUntil: Number(access) },
    tokens,
    // Its tokens may go a moment before it does.
    rotatedAt: rotated === null || tokens.length < 2 ? undefined : Number(rotated),
    sealed: sealed === null ? undefined : new Uint8Array(Buffer.from(sealed, 'base64')),
    ended: ended === null ? undefined : { at: Number(ended), cause: String(cause) },
  }
}

/** Sessions of a shard from the one at `from` on, and where to go on. */
const readSessions = async (
  { link }: Side,
  root: string,
  from: number,
): Promise<{ next: number; records: SessionRecord[] }> => {
  const args = [from, SLICE, SLICE_TOKENS]
  const [next, rows] = (await link.run(READ_SESSIONS, root, args)) as [number, SessionRow[]]
  return { next, records: rows.map(toRecord) }
}

const readTickets = async (
  { link }: Side,
  root: string,
  from: number,
): Promise<{ next: number; records: TicketRecord[] }> => {
  const rows = (await link.run(READ_TICKETS, root, [from, SLICE])) as [
    id: string,
    requestId: string | null,
    usedAt: string | null,
    until: string,
  ][]
  const records = rows
    .filter(([, requestId]) => requestId !== null) // past its life, and still listed
    .map(([id, requestId, usedAt, until]) => ({
      id,
      requestId: String(requestId),
      usedAt: Number(usedAt),
      until: Number(until),
    }))
  return { next: from + rows.length, records }
}

async function* usersOf({ link, layout }: Side): AsyncGenerator<UserRecord[]> {
  const seen = new Set<string>() // a scan may show a name twice
  let cursor = '0'
  do {
    const [next, pairs] = (await link.run(READ_NAMES, layout.usersRoot, [cursor, SLICE])) as [
      string,
      string[],
    ]
    const records: UserRecord[] = []
    for (let at = 0; at < pairs.length; at += 2) {
      const name = pairs[at] as string
      if (!seen.has(name)) records.push({ name, id: Number(pairs[at + 1]) })
      seen.add(name)
    }
    yield records
    cursor = next
  } while (cursor !== '0')
}

const readSubscriptions = async ({ link, layout, nginx }: Side): Promise<Subscription[]> => {
  const texts = await link.run(READ_SUBSCRIPTIONS, layout.subscriptionsRoot(nginx))
  return (texts as string[]).map((text) => JSON.parse(text) as Subscription)
}

async function* readAll(side: Side): AsyncGenerator<Slice> {
  for await (const records of usersOf(side)) yield { kind: 'users', records }
  for (const root of side.layout.roots) {
    for (let from = 0; ;) {
      const { next, records } = await readSessions(side, root, from)
      if (next === from) break
      yield { kind: 'sessions', records }
      from = next
    }
    for (let from = 0; ;) {
      const { next, records } = await readTickets(side, root, from)
      if (next === from) break
      yield { kind: 'tickets', records }
      from = next
    }
  }
  yield { kind: 'subscriptions', records: await readSubscriptions(side) }
}

/** Rejects with a StoreError where the server cannot be reached, or is no primary. */
export const openRedisSource = async (given: RedisSide): Promise<Reader | Refusal> => {
  const side = await openSide(given)
  const { link } = side
  const { label } = link
  const find = async (): Promise<Refusal | undefined> => {
    const { users, shards } = await lookAll(side)
    if ([users, ...shards].some(({ kind }) => kind === 'draft')) {
      return { refused: `${label} holds a copy that was never finished: copy into it again` }
    }
    if (shards.some(({ epoch }) => epoch === undefined)) {
      return { refused: `${label} holds no store under ${given.prefix}: correct --prefix` }
    }
    return waitForQuiet(side)
  }
  try {
    const refusal = await find()
    if (refusal) {
      link.close()
      return refusal
    }
  } catch (error) {
    link.close()
    throw error
  }
  return {
    label,
    async head() {
      const { users, all } = await lookAll(side)
      return {
        epoch: Math.max(...all.flatMap(({ founded, moved }) => [founded, moved])),
        lastUser: users.last,
      }
    },
    slices: () => readAll(side),
    disturbed: () => findDaemon(side),
    close: () => link.close(),
  }
}

/** In waves: the link refuses a caller who asks for thousands of things at once. */
const inWaves = async (tasks: readonly (() => Promise<unknown>)[]): Promise<void> => {
  for (let at = 0; at < tasks.length; at += AT_ONCE) {
    await Promise.all(tasks.slice(at, at + AT_ONCE).map((task) => task()))
  }
}

/** Each of `width` arguments, of which the first is a key; on a cluster each has a slot of its own. */
const forPointers = async (
  { link, cluster }: Side,
  script: Script,
  width: number,
  args: readonly Argument[],
): Promise<void> => {
  const step = width * (cluster ? 1 : POINTERS)
  const tasks: (() => Promise<unknown>)[] = []
  for (let at = 0; at < args.length; at += step) {
    tasks.push(() => link.run(script, String(args[at]), args.slice(at, at + step)))
  }
  await inWaves(tasks)
}

const pointersOf = ({ layout }: Side, { session, tokens }: SessionRecord): string[] => [
  ...tokens.map(layout.tokenKey),
  layout.sidKey(session.sid),
]

/** Removes what a copy has written so far, under whatever text. */
const clear = async (side: Side): Promise<void> => {
  const { link, layout } = side
  for (const root of layout.roots) {
    for (;;) {
      const { next, records } = await readSessions(side, root, 0)
      if (next === 0) break
      // First: once its session is forgotten nothing leads to a pointer.
      const keys = records.flatMap((record) => pointersOf(side, record))
      await forPointers(side, UNPOINT_ALL, 1, keys)
      await link.run(FORGET_SESSIONS, root, [next])
    }
    while (((await link.run(FORGET_REST, root, [SLICE])) as number) > 0);
  }
  await link.run(FORGET, `${layout.usersRoot}:names`, [''])
}

const sessionArguments = (
  { layout, now }: Side,
  record: SessionRecord,
  seq: number | '',
): Argument[] => {
  const { session, tokens, rotatedAt, sealed, ended } = record
  const { role, seenAt, accessUntil, ...unchanging } = session
  const { sid, username, credential, createdAt, expiresAt } = session
  const until = keptUntil(record)
  const sealedFor = KEEP_SEALED - Math.abs(now - (rotatedAt ?? now))
  return [
    sid,
    username,
    layout.userHash(username),
    layout.pair(username, credential),
    JSON.stringify(unchanging),
    role,
    seenAt,
    accessUntil,
    expiresAt,
    createdAt,
    rotatedAt ?? '',
    ended?.at ?? '',
    ended?.cause ?? '',
    seq,
    until - KEEP_ENDED,
    until - now,
    sealed ? Buffer.from(sealed).toString('base64') : '',
    sealedFor,
    tokens.length,
    ...tokens.map((hash) => Buffer.from(hash)),
  ]
}

const createDraft = (side: Side, text: string, warnings: readonly string[]): Writer => {
  const { link, layout, now } = side
  const seqs = new Map<number, number>()
  const subscriptionsRoot = layout.subscriptionsRoot(side.nginx)

  /** What is no longer ours was cleared by another copy, or the server has lost it. */
  const write = async (script: Script, root: string, args: readonly Argument[]): Promise<void> => {
    if ((await link.run(script, root, [text, ...args])) === 1) return
    throw new StoreError(
      'unavailable',
      `${link.label} has lost what was copied so far, or another copy goes on there: see that it keeps its data (appendonly yes), and copy again`,
    )
  }

  const writeSessions = async (records: readonly SessionRecord[]): Promise<void> => {
    const byShard = Map.groupBy(records, ({ session }) => layout.shardOf(session.username))
    const numbered = Array.from(byShard, ([shard, those]) => {
      const args = those.flatMap((record) => {
        if (!record.ended) return sessionArguments(side, record, '')
        const seq = (seqs.get(shard) ?? 0) + 1
        seqs.set(shard, seq)
        return sessionArguments(side, record, seq)
      })
      return write(WRITE_SESSIONS, layout.rootAt(shard), args)
    })
    await Promise.all(numbered)
    // After the sessions: by these they are found again if the copy has to be cleared away.
    const pointers = records.flatMap((record) => {
      const { sid, username } = record.session
      const keepUntil = keptUntil(record) - KEEP_ENDED
      const pointer = writePointer({ shard: layout.shardOf(username), keepUntil, sid })
      const ttl = keepUntil + KEEP_ENDED - now
      return pointersOf(side, record).flatMap((key) => [key, pointer, ttl])
    })
    await forPointers(side, POINT_ALL, 3, pointers)
  }

  const writeTickets = async (records: readonly TicketRecord[]): Promise<void> => {
    for (const [shard, those] of Map.groupBy(records, ({ id }) => layout.shardOf(id))) {
      const args = those.flatMap((ticket) => {
        const { id, requestId, usedAt, until } = ticket
        return [id, requestId, usedAt, until, ticketKeptUntil(ticket) - now]
      })
      await write(WRITE_TICKETS, layout.rootAt(shard), args)
    }
  }

  const writeSubscriptions = async (records: readonly Subscription[]): Promise<void> => {
    const past = Math.max(...records.map(({ until }) => until - now), 0) + KEEP_SUBSCRIPTIONS
    const args = records.flatMap((one) => [one.kick, JSON.stringify(one)])
    await link.run(WRITE_SUBSCRIPTIONS, subscriptionsRoot, [past, ...args])
  }

  return {
    label: link.label,
    warnings,
    async write(slice) {
      switch (slice.kind) {
        case 'users': {
          const args = slice.records.flatMap(({ name, id }) => [name, id])
          await write(WRITE_NAMES, layout.usersRoot, args)
          break
        }
        case 'sessions':
          await writeSessions(slice.records)
          break
        case 'tickets':
          await writeTickets(slice.records)
          break
        case 'subscriptions':
          await writeSubscriptions(slice.records)
          break
      }
    },
    slices: () => readAll(side),
    async finish({ epoch, lastUser }: Head) {
      for (const [shard, root] of layout.roots.entries()) {
        const fields = { epoch: randomBytes(12).toString('base64url'), founded: 0 }
        const moved = shard === 0 && epoch > 0 ? ['moved', epoch] : []
        const seq = seqs.get(shard) ?? 0
        await write(REVEAL, root, [...Object.entries(fields).flat(), 'seq', seq, ...moved])
      }
      // Last: until then a daemon cannot do its first step here.
      await write(REVEAL, layout.usersRoot, ['last', lastUser, 'format', FORMAT])
    },
    async abandon() {
      try {
        if ((await look(side, layout.usersRoot)).text !== text) return // another copy's, or finished
        await clear(side)
        await link.run(FORGET, subscriptionsRoot, [''])
        for (const root of [...layout.roots, layout.usersRoot]) await link.run(FORGET, root, [text])
      } catch {
        // The next copy does it.
      }
    },
    close: () => link.close(),
  }
}

const takeOver = async (side: Side, drafts: readonly Look[]): Promise<Writer | undefined> => {
  const { link, layout, nginx } = side
  const text = `${DRAFT}${randomBytes(12).toString('hex')} ${layout.subscriptionsRoot(nginx)}`
  // The users' root first: without it no daemon opens a session, wherever this is cut off.
  for (const root of [layout.usersRoot, ...layout.roots]) {
    /* c8 ignore next: a daemon that came between looking and taking, and gave somebody a number */
    if ((await link.run(TAKE, root, [text])) === 0) return undefined
  }
  for (const { text: earlier } of drafts) {
    await link.run(FORGET, earlier.split(' ').at(-1) as string, [''])
  }
  await clear(side)
  // Where an ACL hides them there is nothing to warn of.
  const warnings = await inspectRedis(link).catch(() => [])
  return createDraft(side, text, warnings)
}

/** Whether anything stands there that somebody may miss. */
const holdsAnything = async (side: Side, { users, all }: Looks): Promise<boolean> => {
  if (all.some(({ kind }) => kind === 'foreign')) return true
  // Under a draft the sessions are the draft's; the users' numbers are only where that is the users' root.
  if (all.some(({ kind }) => kind === 'draft')) return users.held > 0
  if (all.some(({ held, moved }) => held > 0 || moved > 0)) return true
  return (await readSubscriptions(side)).length > 0
}

/** Clears an earlier draft away. Rejects with a StoreError where the server cannot be reached. */
export const openRedisTarget = async (given: RedisSide): Promise<Writer | Refusal> => {
  const side = await openSide(given)
  const { link } = side
  const begin = async (): Promise<Writer | Refusal> => {
    const looks = await lookAll(side)
    const held = {
      refused: `${link.label} holds a store already under ${given.prefix}: take another --prefix (it is store.prefix in the config), or remove its keys`,
    }
    if (await holdsAnything(side, looks)) return held
    const { users, all } = looks
    const refusal = users.kind === 'draft' ? await findListener(side) : await waitForQuiet(side)
    if (refusal) return refusal
    const drafts = all.filter(({ kind }) => kind === 'draft')
    /* c8 ignore next: see there */
    return (await takeOver(side, drafts)) ?? held
  }
  try {
    const writer = await begin()
    if ('refused' in writer) link.close()
    return writer
  } catch (error) {
    link.close()
    throw error
  }
}
