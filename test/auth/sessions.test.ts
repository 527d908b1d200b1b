// The end of sessions: remembered, then revoked, then told; only then answered.

import t from 'tap'
import { createSessions } from '../../src/auth/sessions.ts'
import type { EndedSession } from '../../src/store/store.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { enter, openRig } from './rig.ts'

void t.test('an end is remembered, revoked and told, in this order', async (t) => {
  const steps: string[] = []
  const session: EndedSession = { sid: 's1', username: '201', cause: 'logout', until: NOW + 900 }
  const another = { ...session, sid: 's2' }
  const sessions = createSessions({
    store: {
      endSession: async (sid, cause, now) => {
        steps.push(`store ${sid} ${cause} ${now - NOW}`)
        return sid === 's1' ? session : undefined
      },
      endSessionsOf: async (username, cause, now) => {
        steps.push(`store ${username} ${cause} ${now - NOW}`)
        return [session, another]
      },
    },
    revocations: {
      add(sid, until) {
        steps.push(`revoke ${sid} ${until - NOW}`)
      },
    },
    clock: createTestClock(),
    onEnd: async ({ sid }) => {
      await Promise.resolve()
      steps.push(`tell ${sid}`)
    },
  })

  t.equal(await sessions.end('s1', 'logout'), session)
  t.same(steps.splice(0), ['store s1 logout 0', 'revoke s1 900', 'tell s1'])
  t.equal(await sessions.end('s3', 'operator'), undefined)
  t.same(steps.splice(0), ['store s3 operator 0'], 'nobody is told of what did not happen')
  t.same(await sessions.endAllOf('201', 'user_removed'), [session, another])
  t.same(
    steps.splice(0),
    ['store 201 user_removed 0', 'revoke s1 900', 'revoke s2 900', 'tell s1', 'tell s2'],
    'all are revoked before anybody is told',
  )
  await sessions.ended(another)
  t.same(steps, ['revoke s2 900', 'tell s2'], 'the store has done its part')
})

void t.test('all sessions of a user end, nobody else’s', async (t) => {
  const rig = await openRig(t)
  const login = rig.login()
  const own = await Promise.all([enter(login), enter(login), enter(login)])
  const other = await enter(login, { username: '202' })
  await rig.sessions.endAllOf('201', 'operator')
  for (const { accessToken } of own) t.equal(await rig.opens(accessToken), 'session_ended')
  t.equal(await rig.opens(other.accessToken), 'opens')
  t.same(new Set(rig.told.map(({ sid }) => sid)), new Set(own.map(({ session }) => session.sid)))
  t.same(await rig.sessions.endAllOf('201', 'operator'), [], 'saying it twice is no error')
})
