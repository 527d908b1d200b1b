// The machine keys in force, in memory, so that a check waits for nothing. The store has all of them as one text; who
// changes it puts another in the place of the one that was read, so that two hosts see one order. One that was seen removed
// never counts again, whatever a store says that has forgotten it, or could not be told yet.

import type { Time } from '../clock.ts'
import type { MachineKey } from '../store/machine-key.ts'
import type { Store } from '../store/store.ts'
import type { Identity } from './check.ts'
import { type Refusal, refuse } from './decision.ts'
import { isAction } from './grants.ts'
import {
  createMachineKeyId,
  findMachineGrant,
  hashMachineKey,
  isWhole,
  type MachineGrants,
  machineUser,
  parseMachineGrants,
} from './machine-key.ts'

/** X-Auth-Role of all of them: what one may do stands in no role. */
const ROLE = 'machine-key'
const NOTHING: MachineGrants = { grants: [], users: [] }
/** The end of one that has none: of the year 9999, so that it is an instant like any other. */
export const NEVER = 253_402_300_799

interface Held extends MachineGrants {
  readonly key: MachineKey
  readonly identity: Identity
  mayComeFrom(address: string): boolean
}

type Use = Pick<MachineKey, 'usedAt' | 'usedFrom'>

/** As `postern machine-key` has read it. */
export type NewMachineKey = Pick<MachineKey, 'name' | 'hash' | 'grants' | 'from'> & {
  until?: number | undefined
}

/** What is to stand in their place, and what that means; asked again where another host was faster. */
type Edit<Result> = (
  keys: readonly MachineKey[],
) => readonly [next: readonly MachineKey[], result: Result]

const READ_EVERY = 1 // second, where others may change them, or what is to be written is not yet
const WRITE_EVERY = 60 // seconds: a last use is worth no more
const KEEP = 30 * 86_400 // seconds after its end: whoever still shows it then is told so, and is no guesser

export const createMachineKeys = (parts: {
  store: Pick<Store, 'machineKeys' | 'replaceMachineKeys'>
  /** Whether an address lies in one of these. */
  createNetworks(cidrs: readonly string[]): (address: string) => boolean
  /** Whether another instance may change them. */
  isShared: boolean
  clock: Pick<Time, 'every' | 'monotonic' | 'now'>
  /** They count no more, or less long: resolves once what hangs on them has ended. */
  onEnd(ids: ReadonlySet<string>): Promise<unknown>
}) => {
  const { store, createNetworks, isShared, clock, onEnd } = parts
  let text = '' // nothing is known
  let rows: readonly MachineKey[] = []
  let byHash = new Map<string, Held>()
  let byId = new Map<string, Held>()
  const removed = new Set<string>()
  const uses = new Map<string, number>()
  /** Those that the store does not know of. */
  const latest = new Map<string, Use>()
  let usesWrittenAt = -Infinity
  let readAt = -Infinity
  let isBehind = false

  const hold = (key: MachineKey): Held => {
    const { id, name, createdAt, until } = key
    const known = byId.get(id)
    if (known?.key.until === until) return { ...known, key } // it was used
    const read = parseMachineGrants(key.grants)
    const terms = 'problem' in read ? NOTHING : read // a newer version's
    const claims = {
      type: 'access',
      sub: '',
      username: machineUser(name),
      role: ROLE,
      sid: id,
      jti: id,
      iat: createdAt,
      nbf: createdAt,
      exp: until,
      kid: '',
      machine: terms,
    } as const
    const mayComeFrom = key.from.length > 0 ? createNetworks(key.from) : () => true
    return { ...terms, key, identity: Object.freeze({ claims, role: ROLE }), mayComeFrom }
  }

  const counts = ({ id, until, removedAt }: MachineKey): boolean =>
    removedAt === 0 && !removed.has(id) && clock.now() < until

  const standing = (id: string): Held | undefined => {
    const held = byId.get(id)
    return held && counts(held.key) ? held : undefined
  }

  /** Tells of those that counted a moment ago. */
  const take = async (next: readonly MachineKey[]): Promise<void> => {
    const held = next.map(hold)
    const before = byId
    rows = next
    byHash = new Map(held.map((one) => [one.key.hash, one]))
    byId = new Map(held.map((one) => [one.key.id, one]))
    const ended = [...before.values()].flatMap(({ key: { id, until } }) => {
      const now = byId.get(id)?.key
      return removed.has(id) || (now?.removedAt === 0 && now.until === until) ? [] : [id]
    })
    for (const { id, removedAt } of next) if (removedAt > 0) removed.add(id)
    if (ended.length > 0) await onEnd(new Set(ended))
  }

  /** Another host may know of a later one; one that is to come is of a clock that was ahead. */
  const withUse = (key: MachineKey, use?: Use): MachineKey =>
    use && (use.usedAt >= key.usedAt || key.usedAt > clock.now()) ? { ...key, ...use } : key

  const exchangeOnce = async <Result>(
    edit: Edit<Result>,
    withUses = true,
    isReading = false,
  ): Promise<Result> => {
    isBehind = true
    for (;;) {
      const began = clock.monotonic()
      const found = await store.machineKeys()
      const keys = found === text ? rows : (JSON.parse(found) as MachineKey[])
      const [edited, result] = edit(keys)
      const used = new Map(withUses ? latest : [])
      const next = edited.map((key) => {
        const today = withUse(key, used.get(key.id))
        if (key.removedAt > 0 || !removed.has(key.id)) return today
        return { ...today, removedAt: clock.now() } // a store that has lost its last seconds is told again
      })
      // Each second: to write thousands out takes milliseconds, in which no check is decided.
      const isSame = next.length === keys.length && next.every((key, at) => key === keys[at])
      const written = isSame ? found : JSON.stringify(next)
      const isWritten =
        written === found ||
        (await store.replaceMachineKeys(found, written).catch((fault: unknown) => {
          if (!isReading) throw fault
          return undefined // what was read is known all the same, as with a full disk
        }))
      if (isWritten === false) continue
      readAt = began
      isBehind = !isWritten
      if (isWritten && used.size > 0) usesWrittenAt = began
      for (const [id, use] of isWritten ? used : []) if (latest.get(id) === use) latest.delete(id)
      const before = text
      text = isWritten ? written : found
      if (text !== before) await take(isWritten ? next : keys)
      return result
    }
  }

  // One after the other: an older reading must not take the place of a newer one.
  let turn: Promise<unknown> = Promise.resolve()
  let waiting = 0
  const exchange = <Result>(...asked: Parameters<typeof exchangeOnce<Result>>): Promise<Result> => {
    waiting++
    const exchanging = turn
      .then(() => exchangeOnce(...asked))
      .finally(() => {
        waiting--
      })
    turn = exchanging.catch(() => undefined)
    return exchanging
  }
  const read = (withUses = false): Promise<void> =>
    exchange((keys) => [keys, undefined], withUses, true)
  const stop = clock.every(READ_EVERY, () => {
    if (waiting > 0) return
    const areDue = latest.size > 0 && clock.monotonic() >= usesWrittenAt + WRITE_EVERY
    if (areDue || isShared || isBehind) read(areDue).catch(() => undefined)
  })

  const make = ({ until = NEVER, ...terms }: NewMachineKey): MachineKey => ({
    ...terms,
    id: createMachineKeyId(),
    createdAt: clock.now(),
    until,
    removedAt: 0,
    usedAt: 0,
    usedFrom: '',
  })
  const counting = (keys: readonly MachineKey[], name: string): readonly MachineKey[] =>
    keys.filter((key) => key.name === name && counts(key))

  return {
    read: () => read(),
    /** Seconds since they were known for certain. */
    age: () => clock.monotonic() - readAt,
    /** Who shows it from there; '': who would, from where it may be, so that it is not used by that. */
    identify(token: string, address: string): Identity | Refusal {
      const hashed = hashMachineKey(token)
      const held = hashed === undefined ? undefined : byHash.get(hashed)
      if (!held) return refuse(isWhole(token) ? 'unknown_machine_key' : 'malformed_token')
      const { key, identity } = held
      if (removed.has(key.id)) return refuse('session_ended')
      const now = clock.now()
      if (now >= key.until) return refuse('expired')
      if (address === '') return identity
      if (!held.mayComeFrom(address)) return refuse('wrong_network')
      uses.set(key.name, (uses.get(key.name) ?? 0) + 1)
      latest.set(key.id, { usedAt: now, usedFrom: address })
      return identity
    },
    /** For the log: whose name a refused one bears. */
    nameOf(token: string): string | undefined {
      const held = byHash.get(hashMachineKey(token) ?? '')
      return held && machineUser(held.key.name)
    },
    stands: (id: string): boolean => standing(id) !== undefined,
    /** Whether it stands and may do this, for what was let in before. */
    grants(id: string, action: string, resource: string): boolean {
      const held = standing(id)
      return held && isAction(action) ? !!findMachineGrant(held, action, resource) : false
    },
    /** As the store has them, with the last uses that are known here. */
    async list(): Promise<readonly MachineKey[]> {
      await read()
      const known = rows.filter(({ id }) => !removed.has(id))
      const used = known.map((key) => withUse(key, latest.get(key.id)))
      return used.toSorted(
        (one, two) =>
          Number(one.name > two.name) - Number(one.name < two.name) ||
          one.createdAt - two.createdAt,
      )
    },
    /** Its id; undefined: the name is taken. */
    add: (asked: NewMachineKey): Promise<string | undefined> =>
      exchange((keys) => {
        if (counting(keys, asked.name).length > 0) return [keys, undefined]
        const made = make(asked)
        return [[...keys, made], made.id]
      }),
    /** Its id, and that of the one which it takes the place of; undefined: none of that name counts. */
    rotate: (
      { name, hash }: Pick<MachineKey, 'name' | 'hash'>,
      oldUntil = NEVER,
    ): Promise<{ id: string; old: string } | undefined> =>
      exchange((keys) => {
        const all = counting(keys, name)
        // Not the newest by its time: the clock may have been set back, or two were made in one second.
        const [old] = all.toSorted((one, two) => two.until - one.until)
        if (!old) return [keys, undefined]
        const { grants, from, until } = old
        const made = make({ name, hash, grants, from, until })
        const shortened = keys.map((key) =>
          all.includes(key) ? { ...key, until: Math.min(key.until, oldUntil) } : key,
        )
        return [[...shortened, made], { id: made.id, old: old.id }]
      }),
    /**
     * All of that name, or the one of that id; how many. Refused here and told of at once; rejects where it could not
     * be written, which is tried again each second.
     */
    async remove(which: string, tell: (key: MachineKey) => void): Promise<number> {
      const meant = new Set<string>()
      const mark = (keys: readonly MachineKey[]): Promise<unknown> => {
        const more = keys.filter(
          ({ id, name, removedAt }) =>
            (id === which || name === which) && removedAt === 0 && !meant.has(id),
        )
        for (const key of more) {
          meant.add(key.id)
          if (!removed.has(key.id)) tell(key)
          removed.add(key.id)
        }
        return onEnd(new Set(more.map(({ id }) => id)))
      }
      const ending = [mark(rows)]
      await Promise.all([exchange((keys) => [keys, ending.push(mark(keys))]), ...ending])
      await Promise.all(ending) // an heir that came with a reading under way has let in some too
      return meant.size // also of those that a reading under way has written down
    },
    /** Those that ended long before; `past` as for a store's `prune`. */
    forget: (past: number): Promise<void> =>
      exchange((keys) => {
        const isOld = (end: number): boolean => end <= past - KEEP
        const kept = keys.filter(
          ({ until, removedAt }) => !isOld(until) && (removedAt === 0 || !isOld(removedAt)),
        )
        return [kept, undefined]
      }, false),
    uses: (): ReadonlyMap<string, number> => uses,
    async close(): Promise<void> {
      stop()
      await read(true).catch(() => undefined)
    },
  }
}

export type MachineKeys = ReturnType<typeof createMachineKeys>
