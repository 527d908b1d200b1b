// Sessions as people see them: the store's, each with what is live in it, and no secret of either.

import t from 'tap'

import { createSessionView } from '../../src/daemon/session-view.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { NOW } from '../fixtures/clock.ts'
import { sessionOf } from '../store/sessions.ts'

const subscription = (sid: string, resource: string): Subscription => ({
  kick: `kick-${sid}-${resource}`,
  sid,
  username: '201',
  userId: 7,
  role: 'user',
  resource,
  startedAt: NOW - 5,
  until: NOW + 55,
  address: '192.0.2.7',
  agent: 'a page',
  kid: 'k',
  worker: '',
})

void t.test('each session with its own streams', async (t) => {
  const asked: unknown[] = []
  const store = {
    async listSessions(now: number, username?: string) {
      asked.push([now, username])
      return [sessionOf('s1'), sessionOf('s2', { username: '202' })]
    },
  }
  const registry = {
    ofSession: (sid: string) =>
      sid === 's1'
        ? [
            subscription(sid, 'users-state'),
            subscription(sid, 'me/users-state'),
            { ...subscription(sid, 'sip'), action: 'connect' },
          ]
        : [],
  }
  const view = createSessionView({ store, registry, now: () => NOW })
  const [first, second, ...rest] = await view('201')
  t.same(asked, [[NOW, '201']])
  t.same(rest, [])
  const session = sessionOf('s1')
  const stream = { since: NOW - 5, until: NOW + 55, address: '192.0.2.7', agent: 'a page' }
  t.same(first, {
    id: 's1',
    username: session.username,
    dialect: session.dialect,
    created_at: session.createdAt,
    expires_at: session.expiresAt,
    last_seen_at: session.seenAt,
    address: session.address,
    agent: session.agent,
    subscriptions: [
      { resource: 'users-state', ...stream },
      { resource: 'me/users-state', ...stream },
    ],
  })
  t.same(second?.subscriptions, [])
  t.notMatch(JSON.stringify([first, second]), /kick-|credential/, 'no id by which streams end')

  await view()
  t.same(asked[1], [NOW, undefined])
})
