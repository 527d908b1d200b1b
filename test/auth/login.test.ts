// A name and a password become a session, or a refusal that nobody can race past.

import t from 'tap'
import { createLogin } from '../../src/auth/login.ts'
import type { Attempt } from '../../src/auth/throttle.ts'
import type { Store } from '../../src/store/store.ts'
import type { Authentication, Lookup } from '../../src/users/source.ts'
import { NOW } from '../fixtures/clock.ts'
import { enter, MIKOPBX, openRig, REQUEST, SOFTPHONE } from './rig.ts'

void t.test('who is right gets a session and its tokens', async (t) => {
  const rig = await openRig(t)
  const issued = await enter(rig.login(), { persistent: true, language: 'de' })
  t.match(issued.session, {
    userId: 1,
    username: '201',
    role: 'user',
    dialect: 'softphone',
    credential: 'mark 1',
    language: 'de',
    persistent: true,
    createdAt: NOW,
    seenAt: NOW,
    expiresAt: NOW + 30 * 86_400,
    accessUntil: NOW + 3600,
    address: '192.0.2.1',
    agent: 'a softphone',
  })
  t.equal(issued.expiresIn, 3600)
  t.equal(await rig.opens(issued.accessToken), 'opens')
  t.match(await rig.store.listSessions(NOW), [{ sid: issued.session.sid }])
  const verdict = await rig.tokens.verify(issued.accessToken)
  t.match(verdict, { sub: '1', sid: issued.session.sid, exp: NOW + 3600 })
})

void t.test('each login is a session of its own, also within a second', async (t) => {
  const rig = await openRig(t)
  const login = rig.login()
  const [one, two] = await Promise.all([enter(login), enter(login)])
  t.not(one.session.sid, two.session.sid)
  t.not(one.accessToken, two.accessToken)
  t.not(one.refreshToken, two.refreshToken)
  const other = await enter(login, { username: '202' })
  t.not(other.session.userId, one.session.userId)
  t.equal(two.session.userId, one.session.userId)
})

void t.test('a dialect gives its own times and its own form of refresh token', async (t) => {
  const rig = await openRig(t)
  const issued = await enter(rig.login(MIKOPBX))
  t.equal(issued.expiresIn, 900)
  t.match(issued.refreshToken, /^[0-9a-f]{64}$/)
  const short = await enter(rig.login({ ...MIKOPBX, refreshTtl: 60 }))
  t.equal(short.expiresIn, 60, 'no token outlives its session')
})

void t.test('who opens too many sessions loses the oldest', async (t) => {
  const rig = await openRig(t)
  const login = rig.login({ ...MIKOPBX, perUser: 2 })
  const oldest = await enter(login)
  rig.clock.advance(1)
  const others = [await enter(login)]
  rig.clock.advance(1)
  others.push(await enter(login))
  t.match(rig.told, [{ sid: oldest.session.sid, cause: 'limit' }])
  t.equal(await rig.opens(oldest.accessToken), 'session_ended')
  for (const { accessToken } of others) t.equal(await rig.opens(accessToken), 'opens')
})

void t.test('who is wrong gets nothing, and the log learns why', async (t) => {
  const rig = await openRig(t)
  rig.users.set('203', 'disabled')
  for (const [username, password, refused] of [
    ['201', 'wrong', 'wrong_password'],
    ['nobody', 'right', 'unknown_user'],
    ['203', 'right', 'disabled'],
    ['', '', 'unknown_user'],
  ] as const) {
    t.same(await rig.login()({ ...REQUEST, username, password }), { refused })
  }
  t.equal(await rig.store.countSessions(NOW), 0)
})

void t.test('the sixth wrong password is not even looked at', async (t) => {
  const rig = await openRig(t)
  const login = rig.login()
  for (let i = 0; i < 5; i++) {
    t.same(await login({ ...REQUEST, password: 'wrong' }), { refused: 'wrong_password' })
  }
  t.same(await login(REQUEST), { throttled: 'pair', retryAfter: 900, first: true })
  t.same(await login(REQUEST), { throttled: 'pair', retryAfter: 900, first: false })
  t.ok(await enter(login, { address: '192.0.2.2' }))
  rig.clock.advance(900)
  t.ok(await enter(login))
})

void t.test('fifty logins at once hash no more than the limit', async (t) => {
  const rig = await openRig(t)
  let hashed = 0
  const gate = Promise.withResolvers<void>()
  const login = rig.login(undefined, {
    users: {
      authenticate: async (_name: string, password: string): Promise<Authentication> => {
        hashed++
        await gate.promise
        return rig.users.authenticate('201', password)
      },
    },
  })
  const all = Array.from({ length: 50 }, async (_, i) =>
    login({ ...REQUEST, password: i === 3 ? 'right' : 'wrong' }),
  )
  gate.resolve()
  const results = await Promise.all(all)
  t.ok(hashed <= 10, `the limit, and once more after the right one: ${hashed}`)
  t.equal(results.filter((result) => 'issued' in result).length, 1)
  t.equal(results.filter((result) => 'throttled' in result).length, 50 - hashed)
})

void t.test('a throttle that has to ask is waited for before any hash', async (t) => {
  const rig = await openRig(t)
  const asked: string[] = []
  const answers: (Attempt | Error)[] = [
    { wait: Promise.resolve(), by: 'pair' },
    { settle: (outcome) => void asked.push(outcome) },
    { retryAfter: 7, by: 'address', first: true },
    new Error('the store is away'),
  ]
  const throttle = {
    async begin(name: string): Promise<Attempt> {
      asked.push(name)
      const answer = answers.shift() ?? new Error('nothing more')
      if (answer instanceof Error) throw answer
      return answer
    },
  }
  const users = {
    ...rig.users,
    authenticate: async (name: string, password: string): Promise<Authentication> => {
      asked.push('hash')
      return rig.users.authenticate(name, password)
    },
  }
  const login = createLogin({ ...rig, users, throttle }, SOFTPHONE)
  t.ok(await enter(login))
  t.same(await login(REQUEST), { throttled: 'address', retryAfter: 7, first: true })
  await t.rejects(login(REQUEST), { message: 'the store is away' })
  t.same(asked, ['201', '201', 'hash', 'succeeded', '201', '201'])
})

void t.test('a source that is away judges nobody', async (t) => {
  const rig = await openRig(t)
  rig.users.leave()
  const login = rig.login()
  for (let i = 0; i < 20; i++) {
    t.same(await login(REQUEST), { unavailable: 'source_away', retryAfter: 5 })
  }
})

void t.test('a fault judges nobody either', async (t) => {
  const rig = await openRig(t)
  const broken = rig.login(undefined, {
    users: { authenticate: () => Promise.reject(new Error('a worker died')) },
  })
  for (let i = 0; i < 20; i++) await t.rejects(broken(REQUEST), { message: 'a worker died' })
  t.ok(await enter(rig.login()))
})

void t.test('no answer leaves before the session is durable', async (t) => {
  const rig = await openRig(t)
  const store: Partial<Store> = { openSession: () => Promise.reject(new Error('disk full')) }
  await t.rejects(rig.login(undefined, { store })(REQUEST), { message: 'disk full' })
})

void t.test('who is changed while the login runs does not get in', async (t) => {
  const changed = { name: '201', role: 'user', displayName: '', credential: 'mark 2' }
  const rows: readonly (readonly [today: Lookup, refused: string, cause: string])[] = [
    [{ refused: 'disabled' }, 'disabled', 'user_disabled'],
    [{ refused: 'unknown_user' }, 'unknown_user', 'user_removed'],
    [{ user: changed }, 'wrong_password', 'password_changed'],
  ]
  for (const [today, refused, cause] of rows) {
    await t.test(cause, async (t) => {
      const rig = await openRig(t)
      const login = rig.login(undefined, { users: { peek: () => today } })
      t.same(await login(REQUEST), { refused })
      t.match(rig.told, [{ username: '201', cause }])
      t.equal(await rig.store.countSessions(NOW), 0)
    })
  }
})

void t.test('a login stands where its password is still one of the user’s', async (t) => {
  const rig = await openRig(t)
  const user = { name: '201', role: 'user', displayName: '', credential: 'mark 2' }
  const peek = (): Lookup => ({ user: { ...user, credentials: ['mark 2', 'mark 1'] } })
  const { accessToken } = await enter(rig.login(undefined, { users: { peek } }))
  t.equal(await rig.opens(accessToken), 'opens')
})

void t.test('a login stands where nobody can say who the user is meanwhile', async (t) => {
  const rig = await openRig(t)
  for (const today of [undefined, { unavailable: 'source_away' }]) {
    const { accessToken } = await enter(rig.login(undefined, { users: { peek: () => today } }))
    t.equal(await rig.opens(accessToken), 'opens')
  }
})
