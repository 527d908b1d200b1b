// The machine keys in force, in memory, so that a check waits for nothing: the store's, less those that were removed here
// and could not be written yet. One that was seen removed never counts again, whatever a store says that has forgotten it.

import type { Time } from '../clock.ts'
import type { MachineKey } from '../store/machine-key.ts'
import type { Store } from '../store/store.ts'
import type { Identity } from './check.ts'
import { type Refusal, refuse } from './decision.ts'
import { findGrant, isAction } from './grants.ts'
import {
  hashMachineKey,
  isWhole,
  type MachineGrants,
  machineUser,
  parseMachineGrants,
} from './machine-key.ts'
import { NOBODY } from './pattern.ts'

/** X-Auth-Role of all of them: what one may do stands in no role. */
const ROLE = 'machine-key'
const NOTHING: MachineGrants = { grants: [], users: [] }

interface Held extends MachineGrants {
  readonly key: MachineKey
  readonly identity: Identity
  mayComeFrom(address: string): boolean
}

const READ_EVERY = 1 // second, where others may change them, or a removal is not written yet
const WRITE_EVERY = 60 // seconds: a last use is worth no more

export const createMachineKeys = (parts: {
  store: Pick<Store, 'addMachineKey' | 'listMachineKeys' | 'removeMachineKeys' | 'useMachineKey'>
  /** Whether an address lies in one of these. */
  createNetworks(cidrs: readonly string[]): (address: string) => boolean
  /** Whether another instance may change them. */
  isShared: boolean
  clock: Pick<Time, 'every' | 'monotonic' | 'now'>
  /** They count no more, or less long: resolves once what hangs on them has ended. */
  onEnd(ids: ReadonlySet<string>): Promise<unknown>
}) => {
  const { store, createNetworks, isShared, clock, onEnd } = parts
  let rows: readonly MachineKey[] = []
  let byHash = new Map<string, Held>()
  let byId = new Map<string, Held>()
  const removed = new Set<string>()
  /** Removed here, and not known to be written. */
  const owed = new Set<string>()
  const uses = new Map<string, number>()
  const writtenAt = new Map<string, number>()
  let readAt = -Infinity

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

  const known = (): readonly MachineKey[] => rows.filter(({ id }) => !removed.has(id))

  const stands = (id: string): boolean => {
    const held = byId.get(id)
    return held !== undefined && !removed.has(id) && clock.now() < held.key.until
  }

  /** Tells of those that counted a moment ago. */
  const replace = async (next: readonly MachineKey[]): Promise<void> => {
    for (const { id, removedAt } of next) if (removedAt > 0) removed.add(id)
    const held = next.map(hold)
    const before = byId
    rows = next
    byHash = new Map(held.map((one) => [one.key.hash, one]))
    byId = new Map(held.map((one) => [one.key.id, one]))
    const ended = [...before.values()].flatMap(({ key: { id, until, removedAt } }) => {
      const now = byId.get(id)?.key
      return removedAt > 0 || (now?.removedAt === 0 && now.until === until) ? [] : [id]
    })
    if (ended.length > 0) await onEnd(new Set(ended))
  }

  const writeOwed = async (): Promise<void> => {
    const ids = [...owed]
    if (ids.length === 0) return
    await store.removeMachineKeys(ids, clock.now())
    for (const id of ids) owed.delete(id)
  }

  const readOnce = async (): Promise<void> => {
    await writeOwed()
    const began = clock.monotonic()
    const next = await store.listMachineKeys()
    readAt = began
    // A store that has lost its last seconds is told again.
    for (const { id, removedAt } of next) if (removedAt === 0 && removed.has(id)) owed.add(id)
    if (next !== rows) await replace(next)
  }

  // One after the other: an older reading must not take the place of a newer one.
  let turn: Promise<unknown> = Promise.resolve()
  let waiting = 0
  const read = (): Promise<void> => {
    waiting++
    const reading = turn.then(readOnce).finally(() => {
      waiting--
    })
    turn = reading.catch(() => undefined)
    return reading
  }
  const stop = clock.every(READ_EVERY, () => {
    if ((isShared || owed.size > 0) && waiting === 0) read().catch(() => undefined)
  })

  const note = ({ id, name, usedAt }: MachineKey, address: string, now: number): void => {
    uses.set(name, (uses.get(name) ?? 0) + 1)
    if (Math.abs(now - (writtenAt.get(id) ?? usedAt)) < WRITE_EVERY) return
    writtenAt.set(id, now)
    store.useMachineKey(id, now, address).catch(() => undefined) // the next use is as good
  }

  return {
    read,
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
      note(key, address, now)
      return identity
    },
    /** For the log: whose name a refused one bears. */
    nameOf(token: string): string | undefined {
      const held = byHash.get(hashMachineKey(token) ?? '')
      return held && machineUser(held.key.name)
    },
    stands,
    /** Whether it stands and may do this, for what was let in before. */
    grants(id: string, action: string, resource: string): boolean {
      const grants = byId.get(id)?.grants ?? []
      return (
        stands(id) && isAction(action) && findGrant(grants, action, resource, NOBODY) !== undefined
      )
    },
    known,
    /** As the store has them, with their last uses. */
    async list(): Promise<readonly MachineKey[]> {
      await read()
      return known()
    },
    async add(key: MachineKey, olderUntil?: number): Promise<boolean> {
      const added = await store.addMachineKey(key, olderUntil)
      await read()
      return added
    },
    /** Refused here at once; rejects where it could not be written, which is tried again each second. */
    async remove(ids: readonly string[]): Promise<void> {
      for (const id of ids) {
        removed.add(id)
        owed.add(id)
      }
      await Promise.all([onEnd(new Set(ids)), read()])
    },
    uses: (): ReadonlyMap<string, number> => uses,
    async close(): Promise<void> {
      stop()
      await turn
      await writeOwed().catch(() => undefined)
    },
  }
}

export type MachineKeys = ReturnType<typeof createMachineKeys>
