// The end of sessions: remembered, then revoked, then told; only then answered.

import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createSessions } from '../../src/auth/sessions.ts'
import { type EndCause, type EndedSession, type Store, StoreError } from '../../src/store/store.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { sessionOf } from '../store/sessions.ts'
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
      listSessions: async () => [],
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
    onRefused: () => undefined,
    streams: () => [],
  })
  t.teardown(() => sessions.close())

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

/** Ends on a store that takes nothing until it is mended. The beat of what is owed is the test's. */
const openBroken = (t: Test, listSessions: Store['listSessions']) => {
  let broken = true
  let beat = (): void => {}
  const steps: string[] = []
  const ended = (sid: string, cause: EndCause): EndedSession => ({
    sid,
    username: '201',
    cause,
    until: NOW + 900,
  })
  const write = async <Result>(step: string, result: Result): Promise<Result> => {
    steps.push(`${step}${broken ? ' fails' : ''}`)
    if (broken) throw new StoreError('unavailable', 'full')
    return result
  }
  const sessions = createSessions({
    store: {
      endSession: (sid, cause) => write(`write ${sid}`, ended(sid, cause)),
      endSessionsOf: (name, cause) => write(`write all of ${name}`, [ended('s1', cause)]),
      listSessions,
    },
    revocations: { add: (sid, until) => void steps.push(`refuse ${sid} ${until - NOW}`) },
    clock: {
      ...createTestClock(),
      every(_, job) {
        beat = job
        return () => undefined
      },
    },
    onEnd: ({ sid, cause }) => void steps.push(`tell ${sid} ${cause}`),
    onRefused: (sid) => void steps.push(`close ${sid}`),
    streams: () => [
      { sid: 's2', username: '201' },
      { sid: 's8', username: '208' },
    ],
  })
  t.teardown(() => sessions.close())
  return {
    sessions,
    steps,
    async beat() {
      beat()
      await setImmediate()
    },
    mend() {
      broken = false
    },
  }
}

void t.test(
  'an end that cannot be written holds here, and is written once it can be',
  async (t) => {
    const { sessions, steps, beat, mend } = openBroken(t, async () => [])
    await t.rejects(sessions.end('s1', 'logout'), StoreError, 'and is not acknowledged')
    t.same(steps.splice(0), ['write s1 fails', 'refuse s1 86400', 'close s1'])
    t.ok(sessions.owes(sessionOf('s1')))
    t.notOk(sessions.owes(sessionOf('s2')))
    await t.rejects(sessions.end('s3', 'operator'), StoreError)
    steps.splice(0)
    await beat()
    t.same(steps.splice(0), ['write s1 fails'], 'the next one would fail as well')
    mend()
    await Promise.all([beat(), beat()])
    t.same(steps.splice(0), [
      'write s1',
      'refuse s1 900',
      'tell s1 logout',
      'write s3',
      'refuse s3 900',
      'tell s3 operator',
    ])
    await beat()
    t.same(steps, [], 'nothing is owed any more')
  },
)

void t.test(
  'all sessions of a user that cannot be ended are refused as far as known',
  async (t) => {
    const known = openBroken(t, async () => [sessionOf('s1'), sessionOf('s4')])
    await t.rejects(known.sessions.endAllOf('201', 'logout_everywhere', 's1'), StoreError)
    const refused = ['refuse s1 86400', 'refuse s4 86400', 'refuse s2 86400']
    t.same(known.steps.splice(0, 4), ['write all of 201 fails', ...refused])
    t.ok(known.sessions.owes({ sid: 's1', username: '201' }))
    t.ok(known.sessions.owes(sessionOf('s9')), 'each of them')
    t.notOk(known.sessions.owes({ sid: 's1', username: '202' }))
    known.mend()
    known.steps.splice(0)
    await known.beat()
    t.same(known.steps, ['write all of 201', 'refuse s1 900', 'tell s1 logout_everywhere'])
    t.notOk(known.sessions.owes({ sid: 's1', username: '201' }))

    const away = openBroken(t, async () => Promise.reject(new StoreError('unavailable', 'away')))
    await t.rejects(away.sessions.endAllOf('201', 'logout_everywhere', 's1'), StoreError)
    t.same(away.steps.slice(1, 3), ['refuse s1 86400', 'refuse s2 86400'])

    await t.rejects(away.sessions.endAllOf('202', 'password_changed'), StoreError)
    const other = { sid: 's1', username: '202' }
    t.notOk(away.sessions.owes(other), 'whoever follows the users asks again by itself')
  },
)
