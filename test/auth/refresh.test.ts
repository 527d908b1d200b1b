// A refresh token becomes a new access token, for as long as its user is who they were.

import t from 'tap'
import { createRefresh } from '../../src/auth/refresh.ts'
import { NOW } from '../fixtures/clock.ts'
import { keyringOf, secretOf } from '../fixtures/keys.ts'
import { claims, createTestTokens, header, refreshToken, token } from '../fixtures/tokens.ts'
import { enter, MIKOPBX, openRig, SOFTPHONE } from './rig.ts'

const OTHER = secretOf('somebody else')

void t.test('the softphone dialect keeps its refresh token', async (t) => {
  const rig = await openRig(t)
  const first = await enter(rig.login())
  rig.clock.advance(3000)
  const refresh = rig.refresh()
  const second = await refresh(first.refreshToken)
  if (!('accessToken' in second)) throw new Error('refused')
  t.match(second, { outcome: 'renewed', expiresIn: 3600, session: { sid: first.session.sid } })
  t.notOk('refreshToken' in second)
  t.same(rig.renewed, [first.session.sid], 'what hangs on it goes on')
  t.equal(await rig.opens(second.accessToken), 'opens')
  t.equal(second.session.expiresAt, first.session.expiresAt, 'absolute from login')
  rig.clock.advance(30 * 86_400 - 3000 - 60)
  t.match(await refresh(first.refreshToken), { expiresIn: 60 }, 'cut to the session’s end')
})

void t.test('what is no refresh token of ours is refused with its own word', async (t) => {
  const rig = await openRig(t)
  const { accessToken } = await enter(rig.login())
  const refresh = rig.refresh()
  const rows: readonly (readonly [what: string, text: string, refused: string])[] = [
    ['nothing', '', 'invalid'],
    ['garbage', 'a.b.c', 'invalid'],
    ['of another dialect', 'a'.repeat(64), 'invalid'],
    ['an access token', accessToken, 'wrong_type'],
    ['one that no login gave', refreshToken(), 'invalid'],
    ['an old one', refreshToken({ exp: NOW }), 'expired'],
    ['one from the future', refreshToken({ iat: NOW + 60, nbf: NOW + 60 }), 'invalid'],
    [
      'an access token renamed',
      token({ header: header({ typ: 'rt+jwt' }), payload: claims() }),
      'invalid',
    ],
  ]
  for (const [what, text, refused] of rows) t.same(await refresh(text), { refused }, what)
  t.equal(await rig.opens(accessToken), 'opens', 'an access token shown here stays good')
  t.same(rig.renewed, [])
  t.equal(await rig.store.countSessions(NOW), 1)

  const opaque = rig.refresh(MIKOPBX)
  for (const text of ['', 'x', 'A'.repeat(64), 'a'.repeat(63), 'a'.repeat(64), refreshToken()]) {
    t.same(await opaque(text), { refused: 'invalid' })
  }
})

void t.test('a session that has ended or run out gives no more', async (t) => {
  const rig = await openRig(t)
  const one = await enter(rig.login())
  const two = await enter(rig.login(MIKOPBX))
  const three = await enter(rig.login(MIKOPBX))
  await rig.sessions.end(one.session.sid, 'operator')
  await rig.sessions.end(two.session.sid, 'operator')
  t.same(await rig.refresh()(one.refreshToken), { refused: 'ended' })
  t.same(await rig.refresh(MIKOPBX)(two.refreshToken), { refused: 'ended' })
  rig.clock.advance(30 * 86_400)
  t.same(await rig.refresh(MIKOPBX)(three.refreshToken), { refused: 'expired' })
})

void t.test('a token of one dialect is none in the other', async (t) => {
  const rig = await openRig(t)
  // Both dialects with opaque tokens: only the session can tell them apart.
  const { refreshToken } = await enter(rig.login(MIKOPBX))
  const store = {
    ...rig.store,
    findByRefresh: async (hash: Uint8Array, now: number) => {
      const found = await rig.store.findByRefresh(hash, now)
      if (found.state !== 'live') return found
      return { ...found, session: { ...found.session, dialect: 'softphone' as const } }
    },
  }
  t.same(await rig.refresh(MIKOPBX, { store })(refreshToken), { refused: 'invalid' })
})

void t.test('who the user is today decides', async (t) => {
  const rows = [
    ['removed', undefined, 'user_removed'],
    ['disabled', 'disabled', 'user_disabled'],
    ['with another password', { credential: 'mark 2' }, 'password_changed'],
  ] as const
  for (const [what, change, cause] of rows) {
    await t.test(what, async (t) => {
      const rig = await openRig(t)
      const { refreshToken, session, accessToken } = await enter(rig.login())
      rig.users.set('201', change)
      const result = await rig.refresh()(refreshToken)
      t.match(result, { refused: 'user_gone', ended: { sid: session.sid, cause } })
      t.match(rig.told, [{ sid: session.sid, cause }])
      rig.users.set('201', {})
      t.equal(await rig.opens(accessToken), 'session_ended')
      t.same(await rig.refresh()(refreshToken), { refused: 'ended' })
    })
  }
})

void t.test('another password of the same user ends nothing', async (t) => {
  const rig = await openRig(t)
  const { refreshToken } = await enter(rig.login())
  rig.users.set('201', { credential: 'mark 2', credentials: ['mark 2', 'mark 1'] })
  t.match(await rig.refresh()(refreshToken), { outcome: 'renewed' })
  rig.users.set('201', { credential: 'mark 2', credentials: ['mark 2'] })
  t.match(await rig.refresh()(refreshToken), { ended: { cause: 'password_changed' } })
})

void t.test('a session that somebody else ends meanwhile is not ended twice', async (t) => {
  const rig = await openRig(t)
  const { refreshToken, session } = await enter(rig.login())
  const { users, store, sessions, sights, tokens, clock } = rig
  const refresh = createRefresh(
    {
      users: {
        async lookup(username) {
          users.set(username, undefined)
          await sessions.end(session.sid, 'logout')
          return users.lookup(username)
        },
      },
      store,
      sessions,
      sights,
      tokens,
      clock,
    },
    SOFTPHONE,
  )
  t.same(await refresh(refreshToken), { refused: 'user_gone' })
  t.match(rig.told, [{ cause: 'logout' }])
})

void t.test('a logout that the store has yet to hear of is one', async (t) => {
  const rig = await openRig(t)
  const { refreshToken } = await enter(rig.login())
  const refresh = createRefresh(
    { ...rig, sessions: { ...rig.sessions, owes: () => true } },
    SOFTPHONE,
  )
  t.same(await refresh(refreshToken), { refused: 'ended' })
  t.match(await rig.refresh()(refreshToken), { accessToken: String }, 'and nothing was changed')
})

void t.test('a new role comes with the next token', async (t) => {
  const rig = await openRig(t)
  const { refreshToken } = await enter(rig.login())
  rig.users.set('201', { role: 'boss' })
  const result = await rig.refresh()(refreshToken)
  if (!('accessToken' in result)) throw new Error('refused')
  t.match(await rig.tokens.verify(result.accessToken), { role: 'boss' })
})

void t.test('a source that is away ends nothing', async (t) => {
  const rig = await openRig(t)
  const { refreshToken } = await enter(rig.login())
  rig.users.leave()
  t.same(await rig.refresh()(refreshToken), { unavailable: 'source_away', retryAfter: 5 })
  t.equal(await rig.store.countSessions(NOW), 1)
})

void t.test('a rotated token is spent; used late, it ends its session', async (t) => {
  const rig = await openRig(t)
  const first = await enter(rig.login(MIKOPBX))
  const refresh = rig.refresh(MIKOPBX)
  const second = await refresh(first.refreshToken)
  if (!('accessToken' in second)) throw new Error('refused')
  t.match(second, { outcome: 'rotated', refreshToken: /^[0-9a-f]{64}$/ })
  t.not(second.refreshToken, first.refreshToken)
  t.equal(await rig.opens(second.accessToken), 'opens')
  rig.clock.advance(31)
  t.match(await refresh(first.refreshToken), {
    refused: 'reused',
    ended: { cause: 'refresh_reused' },
  })
  t.match(rig.told, [{ sid: first.session.sid, cause: 'refresh_reused' }], 'told once')
  t.same(await refresh(second.refreshToken ?? ''), { refused: 'ended' })
  for (const { accessToken } of [first, second]) {
    t.equal(await rig.opens(accessToken), 'session_ended')
  }
})

void t.test('parallel refreshes get one successor, not a fork', async (t) => {
  const rig = await openRig(t)
  const { refreshToken } = await enter(rig.login(MIKOPBX))
  const refresh = rig.refresh(MIKOPBX)
  const results = await Promise.all(Array.from({ length: 50 }, async () => refresh(refreshToken)))
  const outcomes = results.map((result) => ('outcome' in result ? result.outcome : 'refused'))
  t.equal(outcomes.filter((outcome) => outcome === 'rotated').length, 1)
  t.equal(outcomes.filter((outcome) => outcome === 'replayed').length, 49)
  const successors = new Set(results.map((result) => 'outcome' in result && result.refreshToken))
  t.equal(successors.size, 1)
  for (const result of results) {
    if ('accessToken' in result) t.equal(await rig.opens(result.accessToken), 'opens')
  }
  t.equal(await rig.store.countSessions(NOW), 1)
})

void t.test('five rotations in one second keep their order', async (t) => {
  const rig = await openRig(t)
  const refresh = rig.refresh(MIKOPBX)
  const chain = [(await enter(rig.login(MIKOPBX))).refreshToken]
  for (let i = 0; i < 5; i++) {
    const next = await refresh(chain.at(-1) ?? '')
    if (!('refreshToken' in next)) throw new Error('refused')
    chain.push(next.refreshToken ?? '')
  }
  t.equal(new Set(chain).size, 6)
  t.match(await refresh(chain[3] ?? ''), { refused: 'reused' }, 'only the last but one has grace')
})

void t.test(
  'a token that was rotated long ago still ends its session, a forged one none',
  async (t) => {
    for (const terms of [MIKOPBX, { ...SOFTPHONE, rotate: true }]) {
      await t.test(terms.dialect, async (t) => {
        const rig = await openRig(t)
        const refresh = rig.refresh(terms)
        const [first, other] = [await enter(rig.login(terms)), await enter(rig.login(terms))]
        let last = first.refreshToken
        for (let n = 0; n < 5; n++) {
          const next = await refresh(last)
          last = ('refreshToken' in next && next.refreshToken) || ''
        }
        // Half of another's, or signed by another: what nobody has been given.
        const half = 'ab'.repeat(16)
        const { sid } = first.session
        const forged = [
          half + first.refreshToken.slice(32),
          `${half}${half}`,
          sid + half, // whoever knows the name of a session
          token({ header: header({ typ: 'rt+jwt' }), payload: claims({ sid }), key: OTHER }),
        ]
        for (const text of forged) t.same(await refresh(text), { refused: 'invalid' })
        t.match(await refresh(last), { outcome: 'rotated' })
        t.match(await refresh(first.refreshToken), { refused: 'reused', ended: { sid } })
        t.same(await refresh(last), { refused: 'ended' })
        t.match(await refresh(other.refreshToken), { outcome: 'rotated' }, 'nobody else’s')
      })
    }
  },
)

void t.test('one that is rotated twice while it is judged is reused', async (t) => {
  const rig = await openRig(t)
  const { refreshToken } = await enter(rig.login(MIKOPBX))
  const refresh = rig.refresh(MIKOPBX)
  const slow = rig.refresh(MIKOPBX, {
    store: {
      async findByRefresh(hash, now) {
        const found = await rig.store.findByRefresh(hash, now)
        let last = refreshToken
        for (let n = 0; n < 3; n++) {
          const next = await refresh(last)
          last = ('refreshToken' in next && next.refreshToken) || ''
        }
        return found
      },
    },
  })
  t.match(await slow(refreshToken), { refused: 'reused' })
})

void t.test(
  'with rotation switched on, the softphone dialect trades its JWT for another',
  async (t) => {
    const rig = await openRig(t)
    const terms = { ...SOFTPHONE, rotate: true }
    const { refreshToken } = await enter(rig.login(terms))
    const result = await rig.refresh(terms)(refreshToken)
    if (!('accessToken' in result)) throw new Error('refused')
    t.match(await rig.tokens.verify(result.refreshToken ?? ''), { type: 'refresh' })
    t.match(await rig.refresh(terms)(refreshToken), {
      outcome: 'replayed',
      refreshToken: result.refreshToken,
    })
  },
)

void t.test('a session left alone for too long is over', async (t) => {
  for (const rotate of [true, false]) {
    await t.test(rotate ? 'with rotation' : 'without', async (t) => {
      const rig = await openRig(t)
      const terms = { ...SOFTPHONE, rotate, idleTtl: 7200 }
      const { refreshToken } = await enter(rig.login(terms))
      rig.clock.advance(7200)
      t.same(await rig.refresh(terms)(refreshToken), { refused: 'expired' })
    })
  }
})

void t.test('what the store says last counts: a logout that came between wins', async (t) => {
  for (const [state, rotate, refused] of [
    ['unknown', false, 'invalid'],
    ['unknown', true, 'invalid'],
    ['ended', false, 'ended'],
    ['ended', true, 'ended'],
  ] as const) {
    await t.test(`${state}, ${rotate ? 'rotating' : 'renewing'}`, async (t) => {
      const rig = await openRig(t)
      const terms = { ...SOFTPHONE, rotate }
      const { refreshToken, session } = await enter(rig.login(terms))
      const meanwhile = async (): Promise<void> => {
        await rig.sessions.end(session.sid, 'logout')
      }
      const gone = Buffer.alloc(32)
      const refresh = rig.refresh(terms, {
        store: {
          async renew(hash, renewal) {
            await meanwhile()
            return rig.store.renew(state === 'unknown' ? gone : hash, renewal)
          },
          async rotate(hash, next, renewal, grace) {
            await meanwhile()
            return rig.store.rotate(state === 'unknown' ? gone : hash, next, renewal, grace)
          },
        },
      })
      t.same(await refresh(refreshToken), { refused })
    })
  }
})

void t.test(
  'a refresh token outlives the key that signed it, and only if it was stored',
  async (t) => {
    const rig = await openRig(t)
    const { refreshToken: live, accessToken, session } = await enter(rig.login())
    const never = refreshToken({ sid: session.sid })
    for (const [what, kids] of [
      ['its key was removed', ['k2']],
      ['another key has its kid', ['k1']],
    ] as const) {
      // Of another secret: `k2` under whatever kid.
      const keyring = await keyringOf('k2')
      const byKid = new Map(kids.map((kid) => [kid, { ...keyring.signing, kid }]))
      const tokens = await createTestTokens({ keyring: { ...keyring, byKid } })
      const refresh = createRefresh({ ...rig, tokens }, SOFTPHONE)
      const renewed = await refresh(live)
      t.match(renewed, { outcome: 'renewed', session: { sid: session.sid } }, what)
      t.same(await refresh(never), { refused: 'invalid' }, `${what}: never stored`)
      t.same(await refresh(accessToken), { refused: 'invalid' }, `${what}: the access token`)
      if (!('accessToken' in renewed) || kids[0] !== 'k2') continue
      t.same(await refresh(renewed.accessToken), { refused: 'wrong_type' }, 'rightly signed')
    }
  },
)
