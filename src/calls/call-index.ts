// Recordings and their parties in a few flat arrays: a million costs about 50 MB, a look-up two microseconds, and an
// index crosses from thread to thread without being copied. Built once, then only read.

import { hash } from 'node:crypto'

/**
 * One entry for each recording and party, those of a stem (a path without its ending) in a list. A stem is known by 64
 * bits of a hash under a key of this process: nobody can make two that meet, and that a path meets one of a million by
 * chance has a probability of 5e-14.
 */
export interface CallIndex {
  /** Two words of the hash for each slot, open addressing; as many slots as `heads` is long. */
  readonly keys: Uint32Array<ArrayBuffer>
  /** First entry of the slot's list; 0: the slot is free. */
  readonly heads: Uint32Array<ArrayBuffer>
  /** By entry: the next one of its list, or 0. */
  readonly next: Uint32Array<ArrayBuffer>
  readonly endings: Uint8Array<ArrayBuffer>
  /** By entry: a number as `1` and its digits, so that 0202 is not 202; 0: the recording is known, and nobody yet. */
  readonly parties: Float64Array<ArrayBuffer>
}

/** Formats of one recording, and the two directions of one call. Any other ending is part of the stem. */
const ENDING = /(?:_(?:in|out))?\.(?:webm|mp3|wav)$/
const KINDS = ['webm', 'mp3', 'wav'].flatMap((kind) => [`.${kind}`, `_in.${kind}`, `_out.${kind}`])
const ENDINGS: ReadonlyMap<string, number> = new Map(['', ...KINDS].map((text, id) => [text, id]))

/** The end of each path that may stand for this one. */
export const stemOf = (path: string): string =>
  path.slice(path.lastIndexOf('/') + 1).replace(ENDING, '')

/** What so many numbers claim is no recording of one call; it also bounds the walk along a list. */
const MOST = 256
const SMALLEST = 1024 // slots
const ROOMY = 1.8 // slots for each stem that is expected
const FULL = 0.6 // of the slots: beyond, a walk to a free one gets long

const locate = (key: string, path: string) => {
  const ending = ENDING.exec(path)?.[0] ?? ''
  // As text: a Buffer would cost twice as much.
  const digest = hash('sha256', key + path.slice(0, path.length - ending.length), 'binary')
  const word = (at: number): number =>
    (digest.charCodeAt(at) |
      (digest.charCodeAt(at + 1) << 8) |
      (digest.charCodeAt(at + 2) << 16) |
      (digest.charCodeAt(at + 3) << 24)) >>>
    0
  return { ending: ENDINGS.get(ending) as number, high: word(0), low: word(4) }
}

type Slots = Pick<CallIndex, 'keys' | 'heads'>

/** The slot of a stem, or the free one where it belongs. */
const findSlot = ({ keys, heads }: Slots, high: number, low: number): number => {
  let slot = low % heads.length
  while (heads[slot] !== 0 && (keys[2 * slot] !== high || keys[2 * slot + 1] !== low)) {
    slot = (slot + 1) % heads.length
  }
  return slot
}

/**
 * Pages of its own, of which those that nobody touched cost nothing, and which go back to the system at once. What malloc
 * gives it keeps: each reading of a million rows left 30 MB more of it behind.
 */
const allocate = (bytes: number): ArrayBuffer =>
  new ArrayBuffer(bytes, { maxByteLength: Math.max(bytes, 1) })

const makeSlots = (count: number): Slots => ({
  keys: new Uint32Array(allocate(8 * count)),
  heads: new Uint32Array(allocate(4 * count)),
})

/** At once: 50 MB must not wait for a collection. */
export const release = (index: Partial<CallIndex>): void => {
  for (const { buffer } of Object.values(index)) buffer.transferToFixedLength(0)
}

/** `expected`: about how many recordings there will be; what has to grow leaves holes in memory. */
export const buildCallIndex = (key: string, expected = 0) => {
  let slots = makeSlots(Math.max(SMALLEST, Math.ceil(expected * ROOMY)))
  let stems = 0
  let entries = 1 // none is entry 0
  let recordings = 0
  let room = Math.max(SMALLEST, 2 * expected) // memory that is not touched costs nothing
  const makeEntries = (count: number) => ({
    next: new Uint32Array(allocate(4 * count)),
    endings: new Uint8Array(allocate(count)),
    parties: new Float64Array(allocate(8 * count)),
  })
  let { next, endings, parties } = makeEntries(room)

  const extend = (): void => {
    const before = { next, endings, parties }
    room *= 2
    ;({ next, endings, parties } = makeEntries(room))
    next.set(before.next)
    endings.set(before.endings)
    parties.set(before.parties)
    release(before)
  }
  const grow = (): void => {
    const before = slots
    slots = makeSlots(2 * before.heads.length)
    for (const [from, head] of before.heads.entries()) {
      if (head === 0) continue
      const high = before.keys[2 * from] as number
      const low = before.keys[2 * from + 1] as number
      put(findSlot(slots, high, low), high, low, head)
    }
    release(before)
  }
  const put = (slot: number, high: number, low: number, head: number): void => {
    slots.keys[2 * slot] = high
    slots.keys[2 * slot + 1] = low
    slots.heads[slot] = head
  }
  /** A new entry at the end of its list; returns its number. */
  const append = (ending: number, party: number): number => {
    if (entries === room) extend()
    endings[entries] = ending
    parties[entries] = party
    return entries++
  }

  const add = (high: number, low: number, ending: number, party: number): void => {
    const slot = findSlot(slots, high, low)
    const head = slots.heads[slot] as number
    let last = 0
    let walked = 0
    let isKnown = false
    for (let entry = head; entry !== 0; entry = next[entry] as number) {
      last = entry
      walked++
      if (endings[entry] !== ending) continue
      isKnown = true
      if (party === 0 || parties[entry] === party) return
      if (parties[entry] === 0) {
        parties[entry] = party
        return
      }
    }
    if (walked >= MOST) return
    if (!isKnown) recordings++
    const entry = append(ending, party)
    if (last !== 0) next[last] = entry
    else {
      put(slot, high, low, entry)
      if (++stems > slots.heads.length * FULL) grow()
    }
  }

  return {
    add(path: string, numbers: readonly string[]): void {
      const { high, low, ending } = locate(key, path)
      if (numbers.length === 0) add(high, low, ending, 0)
      for (const number of numbers) add(high, low, ending, Number(`1${number}`))
    },
    /** Nothing may be added any more. */
    finish(): { index: CallIndex; recordings: number } {
      for (const array of [next, endings, parties]) {
        array.buffer.resize(entries * array.BYTES_PER_ELEMENT)
      }
      return { index: { ...slots, next, endings, parties }, recordings }
    },
  }
}

/**
 * Who took part, by all of them together. A recording that is not named itself is known by another ending, where one alone
 * has that stem.
 */
export const findParties = (
  indexes: readonly CallIndex[],
  key: string,
  path: string,
): string[] | undefined => {
  const { high, low, ending } = locate(key, path)
  const own = new Set<number>()
  const others = new Set<number>()
  let isNamed = false
  let other: number | undefined
  let isAlone = true
  for (const { keys, heads, next, endings, parties } of indexes) {
    const head = heads[findSlot({ keys, heads }, high, low)] as number
    for (let entry = head; entry !== 0; entry = next[entry] as number) {
      const isOwn = endings[entry] === ending
      if (isOwn) isNamed = true
      else {
        isAlone &&= other === undefined || other === endings[entry]
        other = endings[entry]
      }
      if (parties[entry] !== 0) (isOwn ? own : others).add(parties[entry] as number)
    }
  }
  if (!isNamed && (other === undefined || !isAlone)) return undefined
  return Array.from(isNamed ? own : others, (party) => String(party).slice(1))
}
