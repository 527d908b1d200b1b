// Sessions as their owners and the operator see them: the store's, with what is live in them.

import type { Store } from '../store/store.ts'
import type { Registry } from '../streams/registry.ts'

export const createSessionView =
  (parts: {
    store: Pick<Store, 'listSessions'>
    /** By the session: a list of all takes 100 ms where there are 300,000. */
    registry: Pick<Registry, 'ofSession'>
    now(): number
  }) =>
  async (username?: string) => {
    const { store, registry, now } = parts
    const sessions = await store.listSessions(now(), username)
    return sessions.map((session) => ({
      id: session.sid,
      username: session.username,
      dialect: session.dialect,
      created_at: session.createdAt,
      expires_at: session.expiresAt,
      last_seen_at: session.seenAt,
      address: session.address,
      agent: session.agent,
      subscriptions: registry
        .ofSession(session.sid)
        .filter(({ action = 'subscribe' }) => action === 'subscribe')
        .map(({ resource, startedAt, until, address, agent }) => ({
          resource,
          since: startedAt,
          until,
          address,
          agent,
        })),
    }))
  }

export type SessionView = Awaited<ReturnType<ReturnType<typeof createSessionView>>>[number]
