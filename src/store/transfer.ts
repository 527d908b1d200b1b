// Everything that a store holds, as records that any adapter can read and write, and the way from one into
// another, a slice at a time. It must never put anything in place that was not read back and found equal.

import { createHash } from 'node:crypto'

import type { Subscription } from '../subscriptions/subscription.ts'
import { KEEP_ENDED, KEEP_SEALED, type Session, StoreError } from './store.ts'

export interface UserRecord {
  readonly id: number
  readonly name: string
}

export interface SessionRecord {
  readonly session: Session
  /** Hashes in the order of their making: all but the last have been traded in. */
  readonly tokens: readonly Uint8Array[]
  /** When the last of them was made; undefined where nothing was traded in yet. */
  readonly rotatedAt: number | undefined
  /** The last one, for whoever still holds the one before. */
  readonly sealed: Uint8Array | undefined
  /** As it stands there: a newer version may know more causes. */
  readonly ended: { readonly at: number; readonly cause: string } | undefined
}

export interface TicketRecord {
  readonly id: string
  readonly requestId: string
  readonly usedAt: number
  readonly until: number
}

export type Slice =
  | { readonly kind: 'users'; readonly records: readonly UserRecord[] }
  | { readonly kind: 'sessions'; readonly records: readonly SessionRecord[] }
  | { readonly kind: 'tickets'; readonly records: readonly TicketRecord[] }
  | { readonly kind: 'subscriptions'; readonly records: readonly Subscription[] }

export interface Head {
  /** Tokens issued before this instant count no more; 0: none. */
  readonly epoch: number
  /** The highest number that a user ever got. */
  readonly lastUser: number
}

/** Why nothing was copied, with the cure. */
export interface Refusal {
  readonly refused: string
}

export interface Reader {
  /** For people. */
  readonly label: string
  head(): Promise<Head>
  /** From the beginning, each time it is asked. */
  slices(): AsyncIterable<Slice>
  /** Who is at work on it, so that what was read may be of two moments. */
  disturbed(): Promise<Refusal | undefined>
  close(): void
}

/** A draft, which no daemon takes for a store until it is finished. */
export interface Writer {
  readonly label: string
  /** What of its settings could bring a dead token back, each with its cure. */
  readonly warnings: readonly string[]
  write(slice: Slice): Promise<void>
  /** What was written, read back. */
  slices(): AsyncIterable<Slice>
  /** Puts it in place. */
  finish(head: Head): Promise<void>
  /** Takes the draft away as well as it can; never rejects. */
  abandon(): Promise<void>
  close(): void
}

const VANISHING = 3600 // seconds: what Redis may forget by itself while the copy runs is not compared

/** Records of a slice: sessions with many tokens come fewer at a time. */
export const SLICE = 500
export const SLICE_TOKENS = 10_000

/** How long both adapters keep a session: a day past the last that anybody can ask of it. */
export const keptUntil = ({ session, ended }: SessionRecord): number =>
  KEEP_ENDED + (ended ? session.accessUntil : Math.max(session.accessUntil, session.expiresAt))

export const ticketKeptUntil = ({ until }: TicketRecord): number => until + KEEP_ENDED

/** Without what is due to be forgotten. */
const keepLasting = (slice: Slice, now: number): Slice => {
  if (slice.kind === 'sessions') {
    const records = slice.records
      .filter((record) => keptUntil(record) > now)
      .map((record) => {
        const age = Math.abs(now - (record.rotatedAt ?? -Infinity))
        return record.ended || age >= KEEP_SEALED ? { ...record, sealed: undefined } : record
      })
    return { kind: slice.kind, records }
  }
  if (slice.kind === 'tickets') {
    return { kind: slice.kind, records: slice.records.filter((one) => ticketKeptUntil(one) > now) }
  }
  return slice
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Without the sealed successor, which lives for minutes only. */
const textOfSession = ({ session, tokens, rotatedAt, ended }: SessionRecord): string => {
  const { sid, userId, username, role, dialect, credential, language, persistent } = session
  const { createdAt, expiresAt, accessUntil, seenAt, address, agent } = session
  return JSON.stringify([
    [sid, userId, username, role, dialect, credential, language, persistent],
    [createdAt, expiresAt, accessUntil, seenAt, address, agent],
    tokens.map(hex),
    rotatedAt,
    ended?.at,
    ended?.cause,
  ])
}

const textOfSubscription = (subscription: Subscription): string => {
  const { kick, sid, username, userId, role, resource } = subscription
  const { startedAt, until, address, agent } = subscription
  return JSON.stringify([
    kick,
    sid,
    username,
    userId,
    role,
    resource,
    startedAt,
    until,
    address,
    agent,
  ])
}

/** What is compared: a text for each record that cannot vanish meanwhile. */
const textsOf = (slice: Slice, now: number): string[] => {
  switch (slice.kind) {
    case 'users':
      return slice.records.map(({ id, name }) => JSON.stringify([id, name]))
    case 'sessions':
      return slice.records.filter((one) => keptUntil(one) > now + VANISHING).map(textOfSession)
    case 'tickets':
      return slice.records
        .filter((one) => ticketKeptUntil(one) > now + VANISHING)
        .map(({ id, requestId, usedAt, until }) => JSON.stringify([id, requestId, usedAt, until]))
    case 'subscriptions':
      return slice.records.map(textOfSubscription)
  }
}

const WIDTH = (1n << 256n) - 1n

/** The same for the same records in any order: two adapters have two orders. */
const digestOf = async (slices: AsyncIterable<Slice>, now: number): Promise<bigint> => {
  let sum = 0n
  for await (const slice of slices) {
    for (const text of textsOf(keepLasting(slice, now), now)) {
      const digest = createHash('sha256').update(`${slice.kind} ${text}`).digest('hex')
      sum = (sum + BigInt(`0x${digest}`)) & WIDTH
    }
  }
  return sum
}

/** How much was copied. */
export interface Copied {
  live: number
  ended: number
  expired: number
  users: number
  tickets: number
  subscriptions: number
}

const count = (copied: Copied, slice: Slice, now: number): void => {
  if (slice.kind !== 'sessions') {
    copied[slice.kind] += slice.records.length
    return
  }
  for (const { session, ended } of slice.records) {
    if (ended) copied.ended++
    else if (session.expiresAt > now) copied.live++
    else copied.expired++
  }
}

/** Copies, reads both sides again, and puts the copy in place where they agree. */
export const copyStore = async (
  source: Reader,
  target: Writer,
  now: number,
): Promise<Copied | Refusal> => {
  const copied: Copied = { live: 0, ended: 0, expired: 0, users: 0, tickets: 0, subscriptions: 0 }
  try {
    for await (const all of source.slices()) {
      const slice = keepLasting(all, now)
      count(copied, slice, now)
      await target.write(slice)
    }
    const head = await source.head()
    const there = await digestOf(source.slices(), now)
    const here = await digestOf(target.slices(), now)
    const refusal = await source.disturbed()
    if (refusal) {
      await target.abandon()
      return refusal
    }
    if (there !== here) {
      throw new StoreError(
        'unavailable',
        `${target.label} does not give back what ${source.label} holds, and nothing was put in place: ` +
          'see that nothing else uses either, and copy again',
      )
    }
    await target.finish(head)
    return copied
  } catch (error) {
    await target.abandon()
    throw error
  }
}
