// What the operator can do to a running daemon, over its control socket: the same steps as everybody else's,
// in the operator's name.

import type { Revocations } from '../auth/revocations.ts'
import type { Sessions } from '../auth/sessions.ts'
import type { Clock } from '../clock.ts'
import type { UserFollower } from './follow-users.ts'
import type { InForce } from './in-force.ts'
import type { SessionSelector } from '../http/operator.ts'
import { STATUS } from '../http/reply.ts'
import type { Peers } from './peers.ts'
import type { Session, Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'
import type { Workers, WorkersReport } from '../streams/workers.ts'
import type { Directory } from '../users/directory.ts'

const AT_ONCE = 256 // of what is asked of the store, shares a commit

export const createOperations = (parts: {
  store: Store
  sessions: Sessions
  revocations: Revocations
  registry: Registry
  workers: Pick<Workers, 'reloadDue' | 'areGuessed'>
  users: Pick<Directory, 'names'>
  follower: Pick<UserFollower, 'reload'>
  peers: Pick<Peers, 'kick'>
  inForce: InForce
  listSessions(username?: string): Promise<readonly unknown[]>
  clock: Clock
}) => {
  const { store, sessions, revocations, registry, users, follower, peers, inForce, clock } = parts
  const { workers } = parts
  /** Whom the operator means: neither id nor user is everybody. */
  const chosen = async ({ id, user }: SessionSelector): Promise<Session[]> => {
    const all = await store.listSessions(clock.now(), user)
    return all.filter(({ sid }) => (id ?? sid) === sid)
  }
  const kick = async (which: SessionSelector): Promise<number> => {
    const [kicked] = await Promise.all([registry.kickSelected(which), peers.kick(which)])
    return kicked
  }
  const endChosen = async (which: SessionSelector): Promise<number> => {
    if (which.id === undefined && which.user === undefined) {
      // Also tokens without a session in the store: a restored backup knows nothing of later logins.
      const since = clock.now() + 1
      revocations.moveEpoch(since) // first: where it cannot be written, it holds here
      await store.moveEpoch(since)
    }
    let ended = 0
    const all = await chosen(which)
    for (let at = 0; at < all.length; at += AT_ONCE) {
      const slice = all.slice(at, at + AT_ONCE)
      const results = await Promise.all(slice.map(({ sid }) => sessions.end(sid, 'operator')))
      ended += results.filter(Boolean).length
    }
    return ended
  }
  return {
    reload: (isMeant: boolean) => inForce.reload(undefined, isMeant),
    listSessions: parts.listSessions,
    nginx: (): WorkersReport => ({
      reloadDue: workers.reloadDue(),
      guessed: workers.areGuessed(),
      unsure: registry.countUnsure(),
    }),
    async endSessions(which: SessionSelector): Promise<number> {
      try {
        return await endChosen(which)
      } finally {
        // Also streams without a session in the store: another issuer's user, or the holder of a leaked key.
        await kick(which)
      }
    },
    kickSessions: kick,
    async inspect(token: string, action?: string, resource?: string) {
      const { guard } = inForce.gate()
      const first = await guard.identify(token)
      const type = 'refused' in first && first.refused === 'wrong_type' ? 'ticket' : 'access'
      const asked =
        action === undefined
          ? await guard.identify(token, type)
          : await guard.check({ token, type, action, resource })
      // Neither a token nor a ticket: what was said of it as a token is the answer.
      const isOther = type === 'ticket' && 'refused' in asked && asked.refused === 'wrong_type'
      const decision = isOther ? first : asked
      return 'refused' in decision
        ? { status: STATUS[decision.refused], answer: decision.refused }
        : { status: 204, answer: `allowed, for ${decision.claims.username} as ${decision.role}` }
    },
    async reloadUsers(): Promise<{ ended: number } | { problems: readonly string[] }> {
      const { ended, problems } = await follower.reload('file')
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
