// Whoever holds a token of a session can end it, also late and twice; nobody else can.

import t from 'tap'
import { NOW } from '../fixtures/clock.ts'
import { createLogout } from '../../src/auth/logout.ts'
import { createSessions } from '../../src/auth/sessions.ts'
import { StoreError } from '../../src/store/store.ts'
import { keyringOf, secretOf } from '../fixtures/keys.ts'
import { claims, createTestTokens, refreshToken, ticket, token } from '../fixtures/tokens.ts'
import { enter, MIKOPBX, openRig, SOFTPHONE } from './rig.ts'

const NOT_OURS = { refused: 'no_token_of_ours' }

void t.test(
  'a logout ends this session and no other, and saying it twice is no error',
  async (t) => {
    const rig = await openRig(t)
    const one = await enter(rig.login())
    const two = await enter(rig.login())
    t.same(await rig.logout.byToken(one.accessToken, false), { username: '201', ended: 1 })
    t.equal(await rig.opens(one.accessToken), 'session_ended')
    t.equal(await rig.opens(two.accessToken), 'opens')
    t.same(await rig.logout.byToken(one.accessToken, false), { username: '201', ended: 0 })
    t.match(rig.told, [{ sid: one.session.sid, cause: 'logout' }])
    t.equal(rig.told.length, 1)
  },
)

void t.test('an expired access token, or the refresh token, still names its session', async (t) => {
  const rig = await openRig(t)
  const late = await enter(rig.login())
  const other = await enter(rig.login())
  rig.clock.advance(3600)
  t.same(await rig.logout.byToken(late.accessToken, false), { username: '201', ended: 1 })
  t.same(await rig.logout.byToken(other.refreshToken, false), { username: '201', ended: 1 })
  t.same(await rig.refresh()(other.refreshToken), { refused: 'ended' })
})

void t.test('who knows a session by name ends nothing', async (t) => {
  const rig = await openRig(t)
  for (const terms of [{ ...SOFTPHONE, rotate: true }, MIKOPBX]) {
    const { session, accessToken, refreshToken } = await enter(rig.login(terms))
    t.match(await rig.refresh(terms)(refreshToken), { outcome: 'rotated' })
    // What a cookie can say, whose value is any text.
    for (const shown of [
      session.sid,
      `jwt ${session.sid}`,
      `opaque ${refreshToken.slice(0, 32)}`,
    ]) {
      for (const everywhere of [false, true]) {
        t.same(await rig.logout.byRefreshToken(shown, everywhere), NOT_OURS, shown)
      }
    }
    t.equal(await rig.opens(accessToken), 'opens')
  }
})

void t.test('everywhere needs a token that still counts', async (t) => {
  const rig = await openRig(t)
  const login = rig.login()
  const [one, two, three] = [await enter(login), await enter(login), await enter(login)]
  const other = await enter(login, { username: '202' })
  await rig.logout.byToken(one.accessToken, false)
  t.same(await rig.logout.byToken(one.accessToken, true), NOT_OURS, 'it has ended')
  t.equal(await rig.opens(two.accessToken), 'opens')
  t.same(await rig.logout.byToken(two.accessToken, true), { username: '201', ended: 2 })
  for (const { accessToken } of [two, three]) t.equal(await rig.opens(accessToken), 'session_ended')
  t.equal(await rig.opens(other.accessToken), 'opens')
  rig.clock.advance(3600)
  t.same(await rig.logout.byToken(other.accessToken, true), NOT_OURS, 'it has expired')
  t.same(await rig.logout.byToken(other.refreshToken, true), { username: '202', ended: 1 })
})

void t.test('a token that is not ours ends nothing', async (t) => {
  const rig = await openRig(t)
  const { session } = await enter(rig.login())
  const forged = token({ payload: claims({ sid: session.sid }), key: secretOf('somebody else') })
  for (const text of ['', 'garbage', forged]) {
    t.same(await rig.logout.byToken(text, false), NOT_OURS)
    t.same(await rig.logout.byToken(text, true), NOT_OURS)
    t.same(await rig.logout.byRefreshToken(text, false), NOT_OURS)
  }
  t.same(await rig.logout.byToken(refreshToken(), false), { username: '201', ended: 0 })
  for (const everywhere of [false, true]) {
    const found = await rig.logout.byToken(ticket({ sid: session.sid }), everywhere)
    t.same(found, NOT_OURS, 'a ticket travels in URLs: it logs nobody out')
  }
  t.equal(await rig.store.countSessions(NOW), 1)
})

void t.test('an opaque refresh token ends its session, or all while it lives', async (t) => {
  const rig = await openRig(t)
  const login = rig.login(MIKOPBX)
  const [one, two, three] = [await enter(login), await enter(login), await enter(login)]
  t.same(await rig.logout.byRefreshToken(one.refreshToken, false), { username: '201', ended: 1 })
  t.same(await rig.logout.byRefreshToken(one.refreshToken, false), { username: '201', ended: 0 })
  t.same(await rig.logout.byRefreshToken(one.refreshToken, true), NOT_OURS, 'it has ended')
  t.equal(await rig.opens(two.accessToken), 'opens')
  t.same(await rig.logout.byRefreshToken(two.refreshToken, true), { username: '201', ended: 2 })
  t.equal(await rig.opens(three.accessToken), 'session_ended')
})

void t.test('a refresh token that was rotated long ago still logs out', async (t) => {
  const rig = await openRig(t)
  for (const terms of [MIKOPBX, { ...SOFTPHONE, rotate: true }]) {
    const refresh = rig.refresh(terms)
    const { refreshToken: first, accessToken } = await enter(rig.login(terms))
    let last = first
    for (let n = 0; n < 3; n++) {
      const next = await refresh(last)
      last = ('refreshToken' in next && next.refreshToken) || ''
    }
    const { logout } = rig
    const leave = terms.opaqueRefresh ? logout.byRefreshToken : logout.byToken
    t.same(await leave(first, true), { username: '201', ended: 1 }, terms.dialect)
    t.equal(await rig.opens(accessToken), 'session_ended')
  }
})

void t.test('a refresh token still ends its session when its key is gone', async (t) => {
  const rig = await openRig(t)
  const one = await enter(rig.login())
  const tokens = await createTestTokens({ keyring: await keyringOf('k2') })
  const logout = createLogout({ ...rig, tokens, now: rig.clock.now })
  t.same(await logout.byToken(one.accessToken, false), NOT_OURS, 'nobody can tell whose it is')
  t.same(await logout.byToken(refreshToken({ sid: one.session.sid }), false), NOT_OURS)
  t.same(await logout.byToken(one.refreshToken, false), { username: '201', ended: 1 })
  t.equal(await rig.opens(one.accessToken), 'session_ended')
})

void t.test('the session of another system is not ours to end', async (t) => {
  const rig = await openRig(t)
  const { username, sid } = (await enter(rig.login())).session
  const found = await rig.tokens.verify(token({ payload: claims({ sid, username }) }))
  if ('refused' in found) throw new Error(found.refused)
  const foreign = { ...found, foreign: true as const }
  const logout = createLogout({
    ...rig,
    tokens: { verify: async () => foreign },
    now: rig.clock.now,
  })
  for (const everywhere of [false, true]) {
    t.same(await logout.byToken('theirs', everywhere), NOT_OURS)
  }
  t.same(rig.told, [])
})

void t.test('a logout everywhere that could not be written is asked again', async (t) => {
  const rig = await openRig(t)
  const { accessToken, session } = await enter(rig.login())
  let broken = true
  const { store } = rig
  const endSessionsOf: typeof store.endSessionsOf = (...asked) =>
    broken ? Promise.reject(new StoreError('unavailable', 'full')) : store.endSessionsOf(...asked)
  const sessions = createSessions({
    ...rig,
    store: { ...store, endSessionsOf },
    onEnd: () => undefined,
    onOwed: () => undefined,
  })
  t.teardown(() => sessions.close())
  const logout = createLogout({ ...rig, sessions, now: rig.clock.now })
  await t.rejects(logout.byToken(accessToken, true), StoreError)
  t.ok(sessions.owes(session))
  await t.rejects(logout.byToken(accessToken, true), StoreError, 'until it is written')
  broken = false
  t.same(await logout.byToken(accessToken, true), { username: '201', ended: 1 })
  t.same(await logout.byToken(accessToken, true), NOT_OURS, 'it has ended')
})

void t.test('a dead token of an end that could not be written ends no other', async (t) => {
  const rig = await openRig(t)
  const stolen = await enter(rig.login())
  rig.clock.advance(86_400)
  const owner = await enter(rig.login())
  const { store } = rig
  const endSession = () => Promise.reject(new StoreError('unavailable', 'full'))
  const sessions = createSessions({
    ...rig,
    store: { ...store, endSession },
    onEnd: () => undefined,
    onOwed: () => undefined,
  })
  t.teardown(() => sessions.close())
  const logout = createLogout({ ...rig, sessions, now: rig.clock.now })
  await t.rejects(sessions.endOwn('201', stolen.session.sid), StoreError)
  t.same(await logout.byToken(stolen.accessToken, true), NOT_OURS)
  t.equal(await rig.opens(owner.accessToken), 'opens')
})

void t.test('a machine’s link dies by a logout that cannot be written, too', async (t) => {
  const rig = await openRig(t)
  const { session, accessToken } = await enter(rig.login())
  const link = { ...session, sid: 'key_0123456789abcdef-1' }
  await rig.store.openSession(link, Buffer.alloc(32, 1))
  let isAway = true
  const sessions = createSessions({
    ...rig,
    store: {
      ...rig.store,
      async endSession(...asked) {
        if (isAway) throw new StoreError('unavailable', 'away')
        return rig.store.endSession(...asked)
      },
      async listSessions(...asked) {
        if (isAway) throw new StoreError('unavailable', 'away')
        return rig.store.listSessions(...asked)
      },
    },
    onEnd: () => undefined,
    onOwed: () => undefined,
  })
  const logout = createLogout({ ...rig, sessions, now: rig.clock.now })
  await t.rejects(logout.byToken(accessToken, false), { message: 'away' })
  t.ok(sessions.owes(session))
  t.ok(sessions.owes(link), 'nobody asks again for what hangs on it')
  t.notOk(sessions.owes({ ...link, username: '202' }))
  isAway = false
  t.equal(await sessions.close(), 0)
  t.same(await rig.store.listSessions(rig.clock.now(), '201'), [])
})
