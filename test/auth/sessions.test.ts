// The end of sessions: remembered, then revoked, then told; only then answered.

import { setImmediate } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { createSessions } from '../../src/auth/sessions.ts'
import { type EndCause, type EndedSession, StoreError } from '../../src/store/store.ts'
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
      moveEpoch: async () => undefined,
    },
    revocations: {
      add(sid, until) {
        steps.push(`revoke ${sid} ${until - NOW}`)
      },
      moveEpoch: () => undefined,
    },
    clock: createTestClock(),
    onEnd: async ({ sid }) => {
      await Promise.resolve()
      steps.push(`tell ${sid}`)
    },
    onOwed: () => undefined,
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

void t.test('of one password’s sessions all end, and none of another’s', async (t) => {
  const rig = await openRig(t)
  const login = rig.login()
  const desk = await Promise.all([enter(login), enter(login)])
  rig.users.set('201', { credential: 'mark 2' })
  const web = await enter(login)
  rig.users.set('202', { credential: 'mark 1' })
  const other = await enter(login, { username: '202' })
  const ended = await rig.sessions.endByCredential('201', ['mark 1', 'mark 3'], 'password_changed')
  t.equal(ended.length, 2)
  for (const { accessToken } of desk) t.equal(await rig.opens(accessToken), 'session_ended')
  for (const { accessToken } of [web, other]) t.equal(await rig.opens(accessToken), 'opens')
  t.match(rig.told, [{ cause: 'password_changed' }, { cause: 'password_changed' }])
})

/** Ends on a store that takes nothing of these until it is mended. The beat of what is owed is the test's. */
const openBroken = (t: Test, own: readonly string[] = []) => {
  let isBroken = (_what: string): boolean => true
  let beat = (): void => {}
  const steps: string[] = []
  const ended = (sid: string, cause: EndCause): EndedSession => ({
    sid,
    username: '201',
    cause,
    until: NOW + 900,
  })
  const ask = async <Result>(what: string, result: Result): Promise<Result> => {
    steps.push(`${what}${isBroken(what) ? ' fails' : ''}`)
    if (isBroken(what)) throw new StoreError('unavailable', 'away')
    return result
  }
  const sessions = createSessions({
    store: {
      endSession: (sid, cause) => ask(`write ${sid}`, ended(sid, cause)),
      endSessionsOf: (name, cause) => ask(`write all of ${name}`, [ended('s1', cause)]),
      listSessions: (_, name) =>
        ask(
          `list ${name}`,
          own.map((sid) => sessionOf(sid)),
        ),
      moveEpoch: (since) => ask(`epoch ${since - NOW}`, undefined),
    },
    revocations: {
      add: (sid, until) => void steps.push(`revoke ${sid} ${until - NOW}`),
      moveEpoch: (since) => void steps.push(`refuse before ${since - NOW}`),
    },
    clock: {
      ...createTestClock(),
      every(_, job) {
        beat = job
        return () => undefined
      },
    },
    onEnd: ({ sid, cause }) => void steps.push(`tell ${sid} ${cause}`),
    onOwed: (sid) => void steps.push(`owed ${sid ?? 'of any'}`),
  })
  t.teardown(() => sessions.close())
  return {
    sessions,
    take: () => steps.splice(0),
    async beat() {
      beat()
      await setImmediate()
    },
    mend(butNot = '') {
      isBroken = (what) => what === butNot
    },
  }
}

void t.test('an end that cannot be written holds here, and is written once it can', async (t) => {
  const { sessions, take, beat, mend } = openBroken(t)
  await t.rejects(sessions.end('s1', 'logout'), StoreError, 'and is not acknowledged')
  t.same(take(), ['write s1 fails', 'owed s1'])
  t.ok(sessions.owes(sessionOf('s1')))
  t.notOk(sessions.owes(sessionOf('s2')))
  await t.rejects(sessions.end('s2', 'operator'), StoreError)
  await t.rejects(sessions.end('s3', 'operator'), StoreError)
  take()
  await beat()
  t.same(take(), ['write s1 fails'], 'the next ones would fail as well')
  mend('write s2')
  await Promise.all([beat(), beat()])
  t.same(take(), ['write s2 fails'], 'the one that failed last is the last')
  await beat()
  t.same(
    take(),
    [
      'write s3',
      'revoke s3 900',
      'tell s3 operator',
      'write s1',
      'write s2 fails',
      'revoke s1 900',
      'tell s1 logout',
    ],
    'one that fails by itself keeps nobody waiting, and who is left is asked at once',
  )
  t.notOk(sessions.owes(sessionOf('s1')))
  t.ok(sessions.owes(sessionOf('s2')))
  mend()
  await beat()
  take()
  await beat()
  t.same(take(), [], 'nothing is owed any more')
})

void t.test('whoever stops writes once more what is owed, and says what is left', async (t) => {
  const { sessions, take, beat, mend } = openBroken(t)
  for (const sid of ['s1', 's2']) await t.rejects(sessions.end(sid, 'logout'), StoreError)
  take()
  await Promise.all([
    beat(),
    sessions.close().then((left) => t.equal(left, 2, 'the store is still away')),
  ])
  t.same(take(), ['write s1 fails', 'write s2 fails', 'write s1 fails'])
  mend('write s2')
  t.equal(await sessions.close(), 1)
  t.same(take(), ['write s2 fails', 'write s1', 'revoke s1 900', 'tell s1 logout'])
  mend()
  t.equal(await sessions.close(), 0)
})

void t.test('all sessions of a user hold here, whatever the store can tell of them', async (t) => {
  const { sessions, take, beat, mend } = openBroken(t)
  const all = [sessions.endAllOf('201', 'password_changed'), sessions.endAllOf('202', 'operator')]
  await Promise.all(all.map((one) => t.rejects(one, StoreError)))
  t.ok(sessions.owes(sessionOf('s9')), 'each of them')
  t.notOk(sessions.owes({ sid: 's9', username: '203' }))
  t.same(take(), ['write all of 201 fails', 'write all of 202 fails', 'owed of any'], 'said once')
  await t.rejects(sessions.endAllOf('201', 'operator'), StoreError)
  t.same(take(), ['write all of 201 fails'], 'nothing more is owed')
  mend()
  await beat()
  const told = (cause: EndCause) => ['revoke s1 900', `tell s1 ${cause}`]
  t.same(take(), ['write all of 201', ...told('operator'), 'write all of 202', ...told('operator')])
  t.notOk(sessions.owes(sessionOf('s9')))
})

void t.test('a user ends their own, also by ids that nobody can look up', async (t) => {
  const { sessions, take, beat, mend } = openBroken(t, ['s1', 's2', 's3'])
  await t.rejects(sessions.endOwn('201', 's1'), StoreError)
  await t.rejects(sessions.endOwn('201', 'of-another'), StoreError)
  t.same(take(), ['list 201 fails', 'owed s1', 'list 201 fails', 'owed of-another'])
  t.ok(sessions.owes(sessionOf('s1')))
  t.ok(sessions.owes({ sid: 'of-another', username: '201' }))
  t.notOk(sessions.owes({ sid: 'of-another', username: '202' }), 'it is not theirs to end')
  mend('write s1')
  await t.rejects(sessions.endOwn('201', 's2'), StoreError)
  t.same(
    take(),
    ['list 201', 'write s1 fails', 'write s2', 'revoke s2 900', 'tell s2 user', 'owed s2'],
    'what was written of them is revoked: the store has no more to say of it',
  )
  mend()
  await beat()
  t.same(
    take().filter((step) => step.startsWith('tell')),
    ['tell s1 user', 'tell s2 user'],
  )
  t.notOk(sessions.owes(sessionOf('s1')))
  t.match(await sessions.endOwn('201', 's3'), { sid: 's3' })
  t.equal(await sessions.endOwn('201', 'of-another'), undefined)

  const both = openBroken(t, ['s1', 's2'])
  const asked = ['s1', 's2'].map((sid) => both.sessions.endOwn('201', sid))
  await Promise.all(asked.map((one) => t.rejects(one, StoreError)))
  for (const sid of ['s1', 's2']) t.ok(both.sessions.owes(sessionOf(sid)), `${sid}, asked at once`)
  both.mend()
  await both.beat()
  t.same(
    both.take().filter((step) => step.startsWith('tell')),
    ['tell s1 user', 'tell s2 user'],
  )

  const flood = openBroken(t)
  for (let n = 0; n <= 64; n++) await t.rejects(flood.sessions.endOwn('201', `id-${n}`))
  t.notOk(flood.sessions.owes(sessionOf('id-0')), 'so many at most')
  t.ok(flood.sessions.owes(sessionOf('id-64')))
})

void t.test('everybody’s sessions end, in slices that share a commit', async (t) => {
  const many = Array.from({ length: 300 }, (_, n) => `s${n}`)
  const { sessions, take, beat, mend } = openBroken(t, many)
  await t.rejects(sessions.endEverybodys(), StoreError)
  t.same(take(), ['refuse before 1', 'epoch 1 fails', 'owed of any'])
  t.ok(sessions.owes({ sid: 'any', username: 'anybody' }))
  mend()
  await beat()
  const steps = take()
  t.same(steps.slice(0, 2), ['epoch 1', 'list undefined'])
  t.equal(steps.filter((step) => step.startsWith('tell')).length, 300)
  t.equal(steps.indexOf('revoke s0 900'), 2 + 256)
  t.notOk(sessions.owes({ sid: 'any', username: 'anybody' }))
  t.equal(await sessions.endEverybodys(), 300)
})
