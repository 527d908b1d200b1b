// What the operator does with machine keys, and sees of them.

import { machineKeyOf, machineUser } from '../auth/machine-key.ts'
import {
  createMachineKeys,
  type MachineKeys,
  NEVER,
  type NewMachineKey,
} from '../auth/machine-keys.ts'
import { createNetworks } from '../config/networks.ts'
import type { MachineKey } from '../store/machine-key.ts'
import type { Registry } from '../streams/registry.ts'
import type { Observer } from './observe.ts'
import type { Peers } from './peers.ts'

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

/** As the control socket answers them. */
export const createMachineKeyOperations = (parts: {
  machineKeys: Pick<MachineKeys, 'add' | 'list' | 'remove' | 'rotate' | 'stands'>
  registry: Pick<Registry, 'list'>
  peers: Pick<Peers, 'machineKeysChanged'>
  observer: Pick<Observer, 'ordered'>
}) => {
  const { machineKeys, registry, peers, observer } = parts
  const tellAdded = (sid: string, name: string, message: string): Promise<void> => {
    observer.ordered({ name: 'MACHINE_KEY_ADDED', message, user: machineUser(name), sid })
    return peers.machineKeysChanged()
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
    /** Of this host. */
    streams,
  })

  return {
    async list() {
      const streams = Map.groupBy(registry.list(), ({ sid }) => machineKeyOf(sid))
      const keys = await machineKeys.list()
      return { keys: keys.map((key) => view(key, streams.get(key.id)?.length ?? 0)) }
    },
    /** False: the name is taken. */
    async add(asked: NewMachineKey) {
      const id = await machineKeys.add(asked)
      if (id !== undefined) await tellAdded(id, asked.name, `for ${asked.grants.join(', ')}`)
      return { added: id !== undefined }
    },
    /** The id of the one that it takes the place of; undefined: there is none of that name. */
    async rotate({ old_until: until, ...asked }: NewMachineKey & { old_until?: number }) {
      const made = await machineKeys.rotate(asked, until)
      if (made) await tellAdded(made.id, asked.name, `in the place of ${made.old}`)
      return { old: made?.old }
    },
    async remove({ which }: { which: string }) {
      const tell = ({ id: sid, name }: MachineKey): void => {
        const event = { name: 'MACHINE_KEY_REMOVED', message: 'removed' } as const
        observer.ordered({ ...event, user: machineUser(name), sid })
      }
      try {
        return { removed: await machineKeys.remove(which, tell) }
      } finally {
        await peers.machineKeysChanged()
      }
    },
  }
}

export type MachineKeyOperations = ReturnType<typeof createMachineKeyOperations>
export type MachineKeyView = Awaited<ReturnType<MachineKeyOperations['list']>>['keys'][number]
