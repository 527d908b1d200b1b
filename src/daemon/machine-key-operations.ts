// What the operator does with machine keys, and sees of them.

import { createMachineKeyId, machineKeyOf, machineUser } from '../auth/machine-key.ts'
import { createMachineKeys, type MachineKeys } from '../auth/machine-keys.ts'
import { createNetworks } from '../config/networks.ts'
import type { NewMachineKey } from '../http/operator.ts'
import type { MachineKey } from '../store/machine-key.ts'
import type { Registry } from '../streams/registry.ts'
import type { Observer } from './observe.ts'
import type { Peers } from './peers.ts'

/** The end of one that has none: of the year 9999, so that it is an instant like any other. */
const NEVER = 253_402_300_799

export const openMachineKeys = (
  parts: Pick<Parameters<typeof createMachineKeys>[0], 'store' | 'isShared' | 'clock'> & {
    /** It is opened later, and knows of no stream before. */
    registry(): Pick<Registry, 'list' | 'kickSession'>
  },
): MachineKeys =>
  createMachineKeys({
    ...parts,
    createNetworks,
    async onEnd(ids) {
      const registry = parts.registry()
      const sids = registry.list().map(({ sid }) => sid)
      const meant = new Set(sids.filter((sid) => ids.has(String(machineKeyOf(sid)))))
      await Promise.all(Array.from(meant, (sid) => registry.kickSession(sid, 'session_ended')))
    },
  })

export const createMachineKeyOperations = (parts: {
  machineKeys: Pick<MachineKeys, 'add' | 'known' | 'list' | 'remove' | 'stands'>
  registry: Pick<Registry, 'list'>
  peers: Pick<Peers, 'machineKeysChanged'>
  observer: Pick<Observer, 'machineKey'>
  now(): number
}) => {
  const { machineKeys, registry, peers, observer, now } = parts
  const made = ({ until, ...terms }: NewMachineKey): MachineKey => ({
    ...terms,
    id: createMachineKeyId(),
    createdAt: now(),
    until: until ?? NEVER,
    removedAt: 0,
    usedAt: 0,
    usedFrom: '',
  })
  const add = async (key: MachineKey, words: string, olderUntil?: number): Promise<boolean> => {
    const added = await machineKeys.add(key, olderUntil)
    if (!added) return false
    observer.machineKey('MACHINE_KEY_ADDED', words, machineUser(key.name), key.id)
    await peers.machineKeysChanged()
    return true
  }

  const view = (key: MachineKey, streams: number) => ({
    name: key.name,
    id: key.id,
    state: machineKeys.stands(key.id) ? 'active' : 'expired',
    grants: key.grants,
    from: key.from,
    created_at: key.createdAt,
    expires_at: key.until === NEVER ? null : key.until,
    used_at: key.usedAt === 0 ? null : key.usedAt,
    used_from: key.usedFrom,
    streams,
  })

  return {
    /** `streams`: of this host. */
    async listMachineKeys() {
      const streams = Map.groupBy(registry.list(), ({ sid }) => machineKeyOf(sid))
      const keys = await machineKeys.list()
      return keys.map((key) => view(key, streams.get(key.id)?.length ?? 0))
    },
    /** False: the name is taken. */
    addMachineKey: (asked: NewMachineKey): Promise<boolean> =>
      add(made(asked), `for ${asked.grants.join(', ')}`),
    /** The id of the one that it takes the place of; undefined: there is none of that name. */
    async rotateMachineKey(
      { name, hash }: Pick<NewMachineKey, 'name' | 'hash'>,
      oldUntil = NEVER,
    ): Promise<string | undefined> {
      // Not the newest by its time: the clock may have been set back, or two were made in one second.
      const [old] = (await machineKeys.list())
        .filter((key) => key.name === name && machineKeys.stands(key.id))
        .sort((one, two) => two.until - one.until || two.createdAt - one.createdAt)
      if (!old) return undefined
      const { grants, from, until } = old
      const key = made({ name, hash, grants, from, until })
      return (await add(key, `in the place of ${old.id}`, oldUntil)) ? old.id : undefined
    },
    /** By its name, or one of them by its id; how many. */
    async removeMachineKeys(which: string): Promise<number> {
      const listing = machineKeys.list()
      // What is known here is refused here, though the store be away.
      const meant = (await listing.catch(machineKeys.known)).filter(
        ({ id, name }) => id === which || name === which,
      )
      if (meant.length === 0) {
        await listing
        return 0
      }
      try {
        await machineKeys.remove(meant.map(({ id }) => id))
      } finally {
        for (const { id, name } of meant) {
          observer.machineKey('MACHINE_KEY_REMOVED', 'removed', machineUser(name), id)
        }
        await peers.machineKeysChanged()
      }
      return meant.length
    },
  }
}

type Operations = ReturnType<typeof createMachineKeyOperations>
export type MachineKeyView = Awaited<ReturnType<Operations['listMachineKeys']>>[number]
