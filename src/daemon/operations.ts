// What the operator can do to a running daemon, over its control socket: the same steps as everybody else's,
// in the operator's name.

import type { MachineKeys } from '../auth/machine-keys.ts'
import type { Sessions } from '../auth/sessions.ts'
import type { UserFollower } from './follow-users.ts'
import type { InForce } from './in-force.ts'
import type { SessionSelector } from '../http/operator.ts'
import { STATUS } from '../http/reply.ts'
import { createMachineKeyOperations } from './machine-key-operations.ts'
import type { Observer } from './observe.ts'
import type { KeptCdr } from './open-calls.ts'
import type { Peers } from './peers.ts'
import { type Store, StoreError } from '../store/store.ts'
import type { Cutter } from '../streams/cutter.ts'
import type { Registry } from '../streams/registry.ts'
import type { Workers, WorkersReport } from '../streams/workers.ts'
import type { Directory } from '../users/directory.ts'

/** For doctor. */
export interface CutsReport {
  /** Why the cutter could not be asked at the last try. */
  cutter: string | null
  /** Streams that could not be cut since the start, by why. */
  uncuttable: Readonly<Record<string, number>>
  /** From where several users came over one connection. */
  fronts: readonly string[]
}

const ASKED = '' // from no address: the operator asks
const AT_ONCE = 256 // of what is asked of the store, shares a commit

export const createOperations = (parts: {
  store: Store
  machineKeys: MachineKeys
  observer: Pick<Observer, 'ordered'>
  sessions: Sessions
  registry: Registry
  workers: Pick<Workers, 'reloadDue' | 'isListLost' | 'areGuessed'>
  cutter: Pick<Cutter, 'fault'>
  users: Pick<Directory, 'names'>
  follower: Pick<UserFollower, 'reload'>
  peers: Pick<Peers, 'kick' | 'machineKeysChanged'>
  cdr: Pick<KeptCdr, 'state'>
  inForce: InForce
  listSessions(username?: string): Promise<readonly unknown[]>
  namesInHeader(): boolean
  /** How many streams could not be cut since the start, by why. */
  uncuttable(): Readonly<Record<string, number>>
  fronts(): readonly string[]
}) => {
  const { store, sessions, registry, users, follower, peers, inForce } = parts
  const { workers, cutter } = parts
  const machineKeys = createMachineKeyOperations(parts)
  const kick = async (which: SessionSelector): Promise<number> => {
    const [kicked] = await Promise.all([registry.kickSelected(which), peers.kick(which)])
    return kicked
  }
  /** Neither id nor user is everybody. */
  const endChosen = async ({ id, user }: SessionSelector): Promise<number> => {
    if (id !== undefined) return (await sessions.end(id, 'operator')) ? 1 : 0
    if (user !== undefined) return (await sessions.endAllOf(user, 'operator')).length
    return sessions.endEverybodys()
  }
  /** What the store's fault means for what was asked. */
  const explained = async <Result>(work: Promise<Result>): Promise<Result> => {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof StoreError)) throw error
      throw new StoreError(
        error.code,
        `${error.message}. What was to end is refused by this daemon at once, and by others once it is written: that is tried each second, while this one runs`,
        { cause: error },
      )
    }
  }
  return {
    machineKeys: {
      ...machineKeys,
      remove: (asked: { which: string }) => explained(machineKeys.remove(asked)),
    },
    reload: (isMeant: boolean) => explained(inForce.reload(undefined, isMeant)),
    listSessions: parts.listSessions,
    nginx: (): WorkersReport & CutsReport => ({
      reloadDue: workers.reloadDue(),
      listLost: workers.isListLost(),
      guessed: workers.areGuessed(),
      unsure: registry.countUnsure(),
      namesInHeader: parts.namesInHeader(),
      cutter: cutter.fault()?.message ?? null,
      uncuttable: parts.uncuttable(),
      fronts: parts.fronts(),
    }),
    cdr: parts.cdr.state,
    async endSessions(which: SessionSelector): Promise<number> {
      const ending = explained(endChosen(which))
      await ending.catch(() => undefined)
      // Also streams without a session in the store: another issuer's user, or the holder of a leaked key.
      const kicked = kick(which)
      await kicked.catch(() => undefined)
      const ended = await ending
      await kicked
      return ended
    },
    kickSessions: kick,
    async inspect(token: string, action?: string, resource?: string) {
      const { guard } = inForce.gate()
      const first = await guard.identify(token, 'access', ASKED)
      const type = 'refused' in first && first.refused === 'wrong_type' ? 'ticket' : 'access'
      const asked =
        action === undefined
          ? await guard.identify(token, type, ASKED)
          : await guard.check({ token, type, keyFrom: ASKED, action, resource })
      // Neither a token nor a ticket: what was said of it as a token is the answer.
      const isOther = type === 'ticket' && 'refused' in asked && asked.refused === 'wrong_type'
      const decision = isOther ? first : asked
      return 'refused' in decision
        ? { status: STATUS[decision.refused], answer: decision.refused }
        : { status: 204, answer: `allowed, for ${decision.claims.username} as ${decision.role}` }
    },
    async reloadUsers(): Promise<{ ended: number } | { problems: readonly string[] }> {
      const { ended, problems } = await explained(follower.reload('file'))
      // The command that asks has changed the users file: it means no other source, whose problem is not its failure.
      const found = problems.get('file')
      return found ? { problems: found } : { ended }
    },
    async userIds(): Promise<Record<string, number>> {
      const names = [...users.names()]
      const ids: [name: string, id: number][] = []
      for (let at = 0; at < names.length; at += AT_ONCE) {
        const slice = names.slice(at, at + AT_ONCE)
        const found = await Promise.all(slice.map(store.identify))
        ids.push(...slice.map((name, n): [string, number] => [name, found[n] as number]))
      }
      return Object.fromEntries(ids)
    },
  }
}

export type Operations = ReturnType<typeof createOperations>
