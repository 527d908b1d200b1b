// What every store promises, whatever it keeps its sessions in. It asks only through the port and never
// looks inside: an adapter that needs an exception here states its reason here.

import t, { type Test } from 'tap'

import {
  END_CAUSES,
  HOUR,
  HOURS_TO_PASS,
  type LeftSubscription,
  MOST_TICKETS,
  REPEAT_WITHIN,
  type Session,
  type Store,
} from '../../src/store/store.ts'
import { NO_MACHINE_KEYS } from '../../src/store/machine-key.ts'
import { NOW } from '../fixtures/clock.ts'
import {
  hashOf,
  machineKeyOf,
  renewalAt,
  sessionOf,
  subscriptionOf,
  successor,
} from './sessions.ts'

export interface Adapter {
  /** A new, empty store; closed and removed at the end of `t`. */
  open(t: Test): Promise<Store>
  /** Closes the store and opens what it left. */
  reopen(t: Test, store: Store): Promise<Store>
  /** Puts streams there as the version before did. */
  leave(store: Store, streams: readonly LeftSubscription[]): Promise<void>
}

const GRACE = 30
const DAY = 86_400

/** Runs the suite as subtests of the file that calls it. */
export const runStoreContract = ({ open, reopen, leave }: Adapter): void => {
  const login = async (store: Store, sid: string, given: Partial<Session> = {}) => {
    const session = sessionOf(sid, given)
    await store.openSession(session, hashOf(`${sid}/0`), 0)
    return session
  }

  void t.test('of two who change the machine keys at once one is told to read again', async (t) => {
    let store = await open(t)
    t.equal(await store.machineKeys(), NO_MACHINE_KEYS)
    const [one, two] = ['crm', 'board'].map((id) => JSON.stringify([machineKeyOf(id)]))
    if (one === undefined || two === undefined) throw new Error('two texts')
    const both = await Promise.all([
      store.replaceMachineKeys(NO_MACHINE_KEYS, one),
      store.replaceMachineKeys(NO_MACHINE_KEYS, two),
    ])
    t.equal(both.filter(Boolean).length, 1)
    const stands = both[0] ? one : two
    t.equal(await store.machineKeys(), stands)
    store = await reopen(t, store)
    t.equal(await store.machineKeys(), stands)
    t.equal(await store.replaceMachineKeys(NO_MACHINE_KEYS, two), false)
    t.equal(await store.replaceMachineKeys(stands, '["ü 💡 \u0000 it\'s"]'), true)
    store = await reopen(t, store)
    t.equal(await store.machineKeys(), '["ü 💡 \u0000 it\'s"]')
  })

  void t.test(
    'what a machine key opened is none of the sessions that a user may have',
    async (t) => {
      const store = await open(t)
      await login(store, 'first', { createdAt: NOW })
      await login(store, 'key_0123456789abcdef-1', { createdAt: NOW + 1 })
      const surplus = await store.openSession(
        sessionOf('second', { createdAt: NOW + 2 }),
        hashOf('second/0'),
        2,
      )
      t.same(surplus, [])
      t.match(
        await store.openSession(sessionOf('third', { createdAt: NOW + 3 }), hashOf('3/0'), 2),
        [{ sid: 'first', cause: 'limit' }],
      )
      t.equal(
        (await store.endSessionsOf('201', 'operator', NOW + 4)).length,
        3,
        'it ends with them',
      )
    },
  )

  void t.test('a user keeps one number, and no two users share one', async (t) => {
    let store = await open(t)
    const first = await store.identify('201')
    for (let login = 0; login < 3; login++) t.equal(await store.identify('201'), first)
    const second = await store.identify('202')
    t.equal(second, first + 1, 'no number is spent on a name that has one')
    t.ok(Number.isSafeInteger(first) && first > 0)
    t.not(first, second)
    t.not(await store.identify('0'), first, '"0" is a name like any other')
    t.not(await store.identify('Ann'), await store.identify('ann'), 'names are taken literally')
    store = await reopen(t, store)
    t.equal(await store.identify('201'), first, 'also after a restart')
    t.equal(await store.identify('202'), second)
    const numbers = await Promise.all(
      Array.from({ length: 100 }, (_, index) => store.identify(`parallel ${index % 50}`)),
    )
    t.equal(new Set(numbers).size, 50)
    t.notOk(numbers.includes(first) || numbers.includes(second))
  })

  void t.test('a login is found by its refresh token, as it was remembered', async (t) => {
    let store = await open(t)
    const plain = await login(store, 'plain')
    const other = await login(store, 'other', {
      username: 'Zoë "x"; DROP TABLE sessions --',
      dialect: 'softphone',
      persistent: false,
      agent: '',
      address: '2001:db8::1',
      language: 'de',
      credential: '$argon2id$',
    })
    for (const when of ['before', 'after']) {
      t.same(
        await store.findByRefresh(hashOf('plain/0'), NOW),
        { state: 'live', session: plain, generation: 0 },
        when,
      )
      t.same(
        await store.findByRefresh(hashOf('other/0'), NOW),
        { state: 'live', session: other, generation: 0 },
        when,
      )
      t.same(await store.findByRefresh(hashOf('never issued'), NOW), { state: 'unknown' }, when)
      store = await reopen(t, store)
    }
  })

  void t.test(
    'one login per sid and per token: a second one is a fault, not an overwrite',
    async (t) => {
      const store = await open(t)
      const session = await login(store, 'a')
      await t.rejects(store.openSession(sessionOf('a', { username: 'thief' }), hashOf('b'), 0))
      await t.rejects(store.openSession(sessionOf('b', { username: 'thief' }), hashOf('a/0')))
      t.same(await store.findByRefresh(hashOf('a/0'), NOW), {
        state: 'live',
        session,
        generation: 0,
      })
      t.same(await store.findByRefresh(hashOf('b'), NOW), { state: 'unknown' })
      t.equal(await store.countSessions(NOW), 1, 'of the refused login nothing is left')
    },
  )

  void t.test('a session is over at its absolute end, whatever was refreshed before', async (t) => {
    const store = await open(t)
    await login(store, 'a', { expiresAt: NOW + 1000, accessUntil: NOW + 900 })
    const late = renewalAt(999, { accessUntil: NOW + 1000 })
    t.match(await store.renew(hashOf('a/0'), late), {
      state: 'live',
      session: { expiresAt: NOW + 1000 },
    })
    t.match(await store.findByRefresh(hashOf('a/0'), NOW + 999), { state: 'live' })
    t.match(await store.findByRefresh(hashOf('a/0'), NOW + 1000), { state: 'expired' })
    t.match(await store.renew(hashOf('a/0'), renewalAt(1000)), { state: 'expired' })
    t.match(await store.rotate(hashOf('a/0'), successor('a/1'), renewalAt(1000), GRACE), {
      outcome: 'expired',
      session: { sid: 'a' },
    })
    t.same(await store.findByRefresh(hashOf('a/1'), NOW), { state: 'unknown' })
    t.equal(await store.countSessions(NOW + 1000), 0)
    t.same(await store.listSessions(NOW + 1000), [])
    t.same(await store.listCredentials(NOW + 1000), [])
    t.match(
      await store.endSession('a', 'logout', NOW + 1000),
      { sid: 'a' },
      'it still ends: the clock may be ahead',
    )
    t.match(await store.findByRefresh(hashOf('a/0'), NOW), { state: 'ended' })
    await login(store, 'b', { expiresAt: NOW + 1000, accessUntil: NOW + 900 })
    t.match(await store.endSessionsOf('201', 'operator', NOW + 1000), [{ sid: 'b' }])
    t.match(await store.findByRefresh(hashOf('b/0'), NOW), { state: 'ended' })
  })

  void t.test(
    'a renewal brings up to date what a refresh may change, and nothing else',
    async (t) => {
      const store = await open(t)
      const session = await login(store, 'a')
      const renewed = { ...session, role: 'admin', seenAt: NOW + 10, accessUntil: NOW + 910 }
      t.same(await store.renew(hashOf('a/0'), renewalAt(10, { role: 'admin' })), {
        state: 'live',
        session: renewed,
        generation: 0,
      })
      t.same((await store.findByRefresh(hashOf('a/0'), NOW)).state, 'live', 'the token stays')
      const shorter = renewalAt(20, { accessUntil: NOW + 25 })
      t.match(
        await store.renew(hashOf('a/0'), shorter),
        { session: { accessUntil: NOW + 910, seenAt: NOW + 20, role: 'user' } },
        'the longest access token counts, not the last',
      )
      t.same(await store.renew(hashOf('never issued'), renewalAt(0)), { state: 'unknown' })
      await store.endSession('a', 'logout', NOW + 30)
      t.match(await store.renew(hashOf('a/0'), renewalAt(40)), {
        state: 'ended',
        session: { seenAt: NOW + 20 },
      })
    },
  )

  void t.test(
    'a session that nobody refreshed for too long is over, if that is asked for',
    async (t) => {
      const store = await open(t)
      await login(store, 'a')
      t.match(await store.renew(hashOf('a/0'), renewalAt(99, { idleTtl: 100 })), { state: 'live' })
      t.match(await store.renew(hashOf('a/0'), renewalAt(198, { idleTtl: 100 })), { state: 'live' })
      t.match(await store.renew(hashOf('a/0'), renewalAt(298, { idleTtl: 100 })), {
        state: 'expired',
      })
      t.match(
        await store.rotate(
          hashOf('a/0'),
          successor('a/1'),
          renewalAt(298, { idleTtl: 100 }),
          GRACE,
        ),
        { outcome: 'expired' },
      )
      t.match(await store.renew(hashOf('a/0'), renewalAt(298)), { state: 'live' }, '0 means never')
    },
  )

  void t.test('a rotation trades a token for its successor', async (t) => {
    let store = await open(t)
    const session = await login(store, 'a')
    const renewed = { ...session, role: 'admin', seenAt: NOW + 10, accessUntil: NOW + 910 }
    const renewal = renewalAt(10, { role: 'admin' })
    t.same(await store.rotate(hashOf('a/0'), successor('a/1'), renewal, GRACE), {
      outcome: 'rotated',
      session: renewed,
      generation: 1,
    })
    store = await reopen(t, store)
    t.same(await store.findByRefresh(hashOf('a/1'), NOW + 10), {
      state: 'live',
      session: renewed,
      generation: 1,
    })
    t.same(
      await store.renew(hashOf('a/0'), renewalAt(11)),
      { state: 'unknown' },
      'nothing is renewed by a token that has a successor, also where rotation was switched off',
    )
    t.same(await store.rotate(hashOf('never'), successor('x'), renewalAt(10), GRACE), {
      outcome: 'unknown',
    })
    t.same(await store.findByRefresh(hashOf('x'), NOW), { state: 'unknown' })
  })

  void t.test('a token that comes again', async (t) => {
    // Rotated at NOW + 100, the successor unused; each row is a new store's only second use.
    const cases = [
      { name: 'in the same second', after: 100, grace: 30, outcome: 'replayed' },
      { name: 'in the last second of grace', after: 130, grace: 30, outcome: 'replayed' },
      { name: 'one second late', after: 131, grace: 30, outcome: 'reused' },
      { name: 'at once, without any grace', after: 100, grace: 0, outcome: 'replayed' },
      { name: 'a second later, without any grace', after: 101, grace: 0, outcome: 'reused' },
      { name: 'with the clock set back a little', after: 70, grace: 30, outcome: 'replayed' },
      { name: 'with the clock set back further', after: 69, grace: 30, outcome: 'reused' },
    ] as const
    const store = await open(t)
    for (const [index, { name, after, grace, outcome }] of cases.entries()) {
      const sid = `case ${index}`
      await login(store, sid)
      await store.rotate(hashOf(`${sid}/0`), successor(`${sid}/1`), renewalAt(100), grace)
      const again = await store.rotate(
        hashOf(`${sid}/0`),
        successor(`${sid}/other`),
        renewalAt(after),
        grace,
      )
      t.equal(again.outcome, outcome, name)
      if (again.outcome === 'replayed') {
        t.same(again.sealed, successor(`${sid}/1`).sealed, `${name}: the first successor wins`)
        t.equal(again.session.seenAt, NOW + after)
      }
      t.same(
        await store.findByRefresh(hashOf(`${sid}/other`), NOW),
        { state: 'unknown' },
        `${name}: no second branch`,
      )
      t.match(
        await store.findByRefresh(hashOf(`${sid}/1`), NOW + after),
        { state: outcome === 'reused' ? 'ended' : 'live' },
        name,
      )
    }
  })

  void t.test('a token that comes again after its grace, whose successor is unseen', async (t) => {
    // Rotated at NOW + 100.
    const cases = [
      { name: 'after ten minutes', after: 700, unseen: DAY, outcome: 'recovered' },
      { name: 'after ten hours', after: 36_100, unseen: DAY, outcome: 'recovered' },
      { name: 'in the last second', after: DAY + 100, unseen: DAY, outcome: 'recovered' },
      { name: 'one second late', after: DAY + 101, unseen: DAY, outcome: 'reused' },
      { name: 'where that is switched off', after: 131, unseen: 0, outcome: 'reused' },
      { name: 'where it is shorter', after: 161, unseen: 60, outcome: 'reused' },
      { name: 'inside the grace', after: 130, unseen: DAY, outcome: 'replayed' },
      { name: 'with the clock set back', after: 69, unseen: DAY, outcome: 'recovered' },
      { name: 'set back by more than a day', after: 99 - DAY, unseen: DAY, outcome: 'reused' },
    ] as const
    const store = await open(t)
    for (const [index, { name, after, unseen, outcome }] of cases.entries()) {
      const sid = `case ${index}`
      await login(store, sid)
      const rotate = (next: string, at: number) =>
        store.rotate(hashOf(`${sid}/0`), successor(next), renewalAt(at), GRACE, unseen)
      await rotate(`${sid}/1`, 100)
      await store.prune(NOW + after, 0)
      const again = await rotate(`${sid}/other`, after)
      t.equal(again.outcome, outcome, name)
      const { sealed } = successor(`${sid}/1`)
      if (outcome !== 'reused') t.match(again, { sealed, generation: 1, session: { sid } }, name)
      if (outcome === 'recovered') t.match(await rotate('x', after), { outcome, sealed }, 'again')
      t.match(
        await store.findByRefresh(hashOf(`${sid}/1`), NOW + after),
        { state: outcome === 'reused' ? 'ended' : 'live' },
        name,
      )
    }
  })

  void t.test(
    'a successor that was seen is lost to nobody: its predecessor is reused',
    async (t) => {
      let store = await open(t)
      const rotate = (sid: string, step: number, after: number) =>
        store.rotate(
          hashOf(`${sid}/${step}`),
          successor(`${sid}/${step + 1}`),
          renewalAt(after),
          GRACE,
          DAY,
        )
      for (const sid of ['seen', 'other', 'used', 'early']) {
        await login(store, sid)
        await rotate(sid, 0, 0)
      }
      await store.seeSuccessor('seen', 1)
      for (const generation of [0, 2, 3]) await store.seeSuccessor('other', generation)
      await store.seeSuccessor('nobody', 1)
      store = await reopen(t, store)
      t.match(await rotate('seen', 0, 30), { outcome: 'replayed' }, 'the grace is as it was')
      t.match(await rotate('seen', 0, 31), { outcome: 'reused' }, 'also after a restart')
      t.match(await rotate('other', 0, 600), { outcome: 'recovered' }, 'of another generation')

      t.match(await rotate('used', 1, 600), { outcome: 'rotated', generation: 2 })
      t.match(
        await rotate('used', 1, 1200),
        { outcome: 'recovered', generation: 2 },
        'the next one',
      )
      t.match(await rotate('used', 0, 1200), { outcome: 'reused' }, 'and no older one')

      await store.seeSuccessor('early', 2)
      t.match(await rotate('early', 1, 600), { outcome: 'rotated', generation: 2 })
      t.match(await rotate('early', 1, 1200), { outcome: 'recovered' }, 'what was not there yet')
      await store.endSession('early', 'logout', NOW + 1200)
      t.match(await rotate('early', 1, 1200), { outcome: 'ended' })
    },
  )

  void t.test('the replayed successor is the one and only way on', async (t) => {
    const store = await open(t)
    await login(store, 'a')
    await store.rotate(hashOf('a/0'), successor('a/1'), renewalAt(0), GRACE)
    await store.rotate(hashOf('a/0'), successor('a/x'), renewalAt(1, { role: 'admin' }), GRACE)
    t.match(await store.rotate(hashOf('a/1'), successor('a/2'), renewalAt(2), GRACE), {
      outcome: 'rotated',
    })
    t.match(
      await store.rotate(hashOf('a/0'), successor('a/y'), renewalAt(3), GRACE),
      { outcome: 'reused' },
      'once the successor is used its predecessor has no grace left',
    )
    t.match(await store.findByRefresh(hashOf('a/2'), NOW + 3), { state: 'ended' })
  })

  void t.test('a reused token ends its session in the same step, once', async (t) => {
    const store = await open(t)
    const { accessUntil } = await login(store, 'a')
    await login(store, 'bystander')
    await store.rotate(hashOf('a/0'), successor('a/1'), renewalAt(0), GRACE)
    const [first, second] = await Promise.all([
      store.rotate(hashOf('a/0'), successor('a/x'), renewalAt(100), GRACE),
      store.rotate(hashOf('a/0'), successor('a/y'), renewalAt(100), GRACE),
    ])
    const ended = { sid: 'a', username: '201', cause: 'refresh_reused', until: accessUntil }
    t.match(first, { outcome: 'reused', ended, session: { sid: 'a' } })
    t.match(second, { outcome: 'ended', session: { sid: 'a' } })
    t.same(await store.listEnded(), [ended])
    t.equal(await store.endSession('a', 'logout', NOW + 100), undefined)
    t.match(await store.rotate(hashOf('a/1'), successor('a/2'), renewalAt(101), GRACE), {
      outcome: 'ended',
    })
    t.match(await store.findByRefresh(hashOf('bystander/0'), NOW), { state: 'live' })
  })

  void t.test('rotations within one second keep their order', async (t) => {
    const store = await open(t)
    await login(store, 'a')
    for (let step = 0; step < 5; step++) {
      t.match(
        await store.rotate(hashOf(`a/${step}`), successor(`a/${step + 1}`), renewalAt(0), GRACE),
        { outcome: 'rotated' },
      )
    }
    t.match(
      await store.rotate(hashOf('a/4'), successor('a/x'), renewalAt(0), GRACE),
      { outcome: 'replayed', sealed: successor('a/5').sealed },
      'the immediate predecessor',
    )
    t.match(
      await store.rotate(hashOf('a/3'), successor('a/x'), renewalAt(0), GRACE),
      { outcome: 'reused' },
      'the one before it, though of the same second',
    )
  })

  void t.test('of a family the last two are kept, and any older one is still reused', async (t) => {
    let store = await open(t)
    await login(store, 'a')
    const rotate = (step: number, family?: string) =>
      store.rotate(hashOf(`a/${step}`), successor(`a/${step + 1}`, family), renewalAt(step), GRACE)
    const stateOf = async (token: string) => (await store.findByRefresh(hashOf(token), NOW)).state
    // As a version did that knew of no families.
    for (const step of [0, 1, 2]) t.match(await rotate(step), { outcome: 'rotated' })
    for (const step of [3, 4, 5, 6]) {
      t.match(await rotate(step, 'the family'), { outcome: 'rotated' })
    }
    store = await reopen(t, store)
    for (const step of [0, 1, 2]) t.equal(await stateOf(`a/${step}`), 'live', 'not of the family')
    for (const step of [3, 4, 5]) t.equal(await stateOf(`a/${step}`), 'unknown')
    for (const step of [6, 7]) t.equal(await stateOf(`a/${step}`), 'live')
    t.equal(await stateOf('the family'), 'live')
    t.equal(await stateOf('another family'), 'unknown')
    t.match(await store.renew(hashOf('the family'), renewalAt(7)), { state: 'unknown' })
    t.match(await rotate(6, 'the family'), { outcome: 'replayed' }, 'the predecessor')
    t.match(await rotate(3, 'the family'), { outcome: 'unknown' }, 'by itself')
    // Another version goes on without the family, and this one with what comes of that.
    t.match(await rotate(7), { outcome: 'rotated' })
    for (const step of [8, 9, 10]) t.match(await rotate(step, 'next'), { outcome: 'rotated' })
    for (const step of [6, 7, 10, 11]) t.equal(await stateOf(`a/${step}`), 'live', `a/${step}`)
    for (const step of [8, 9]) t.equal(await stateOf(`a/${step}`), 'unknown', `a/${step}`)

    await login(store, 'b')
    await store.rotate(hashOf('b/0'), successor('b/1', 'its own'), renewalAt(0), GRACE)
    t.match(
      await store.rotate(hashOf('the family'), successor('x'), renewalAt(12), GRACE),
      { outcome: 'reused', ended: { sid: 'a', cause: 'refresh_reused' } },
      'as of any that was traded long ago',
    )
    t.match(await rotate(11, 'next'), { outcome: 'ended' })
    t.equal(await stateOf('its own'), 'live', 'nobody else’s')
    t.equal(await stateOf('next'), 'ended')
    await store.endSession('b', 'logout', NOW)
    await pruneAll(store, NOW + 31 * DAY)
    for (const token of ['the family', 'its own', 'a/0', 'a/11']) {
      t.equal(await stateOf(token), 'unknown', token)
    }
  })

  void t.test(
    'of fifty parallel rotations one wins, and the others get what it made',
    async (t) => {
      const store = await open(t)
      const wrong: unknown[] = []
      for (let round = 0; round < 100; round++) {
        await login(store, `r${round}`)
        const presented = hashOf(`r${round}/0`)
        const all = await Promise.all(
          Array.from({ length: 50 }, (_, index) =>
            store.rotate(presented, successor(`r${round}/next ${index}`), renewalAt(0), GRACE),
          ),
        )
        const winners = all.flatMap(({ outcome }, index) => (outcome === 'rotated' ? [index] : []))
        const sealed = String(successor(`r${round}/next ${winners[0]}`).sealed)
        const others = all.filter(
          (one) => one.outcome === 'replayed' && String(one.sealed) === sealed,
        )
        if (winners.length !== 1 || others.length !== 49) wrong.push(all)
        const states = await Promise.all(
          all.map(
            async (_, index) =>
              (await store.findByRefresh(hashOf(`r${round}/next ${index}`), NOW)).state,
          ),
        )
        const alive = states.flatMap((state, index) => (state === 'unknown' ? [] : [index]))
        if (String(alive) !== String(winners)) wrong.push({ winners, alive })
      }
      t.same(wrong, [])
    },
  )

  void t.test('a refresh that races a logout never outlives it', async (t) => {
    const store = await open(t)
    const wrong: unknown[] = []
    for (let round = 0; round < 200; round++) {
      const sid = `r${round}`
      await login(store, sid)
      const rotate = () =>
        store.rotate(hashOf(`${sid}/0`), successor(`${sid}/1`), renewalAt(5), GRACE)
      const end = () => store.endSession(sid, 'logout', NOW + 5)
      const [rotation, ended] =
        round % 2 === 0
          ? await Promise.all([rotate(), end()])
          : await Promise.all([end(), rotate()]).then(([one, two]) => [two, one] as const)
      const after = await store.findByRefresh(hashOf(`${sid}/1`), NOW + 5)
      const fits =
        rotation.outcome === 'rotated'
          ? after.state === 'ended' && ended?.until === NOW + 905
          : rotation.outcome === 'ended' && after.state === 'unknown' && ended?.until === NOW + 900
      if (!fits) wrong.push({ rotation, ended, after })
    }
    t.same(wrong, [])
    t.equal((await store.listEnded()).length, 200)
    t.equal(await store.countSessions(NOW + 5), 0)
  })

  void t.test('a session ends once, for the reason that came first', async (t) => {
    let store = await open(t)
    await login(store, 'a')
    const [first, second] = await Promise.all([
      store.endSession('a', 'logout', NOW + 1),
      store.endSession('a', 'operator', NOW + 1),
    ])
    const ended = { sid: 'a', username: '201', cause: 'logout', until: NOW + 900 }
    t.same(first, ended)
    t.equal(second, undefined)
    t.equal(await store.endSession('never', 'logout', NOW), undefined)
    store = await reopen(t, store)
    t.same(await store.listEnded(), [ended])
    t.match(await store.findByRefresh(hashOf('a/0'), NOW + 2), { state: 'ended' })
    t.match(await store.rotate(hashOf('a/0'), successor('a/1'), renewalAt(2), GRACE), {
      outcome: 'ended',
    })
    t.match(
      await store.findByRefresh(hashOf('a/0'), NOW - 1000),
      { state: 'ended' },
      'a clock set back brings nothing to life',
    )
  })

  void t.test('every cause of an end comes back as it went in', async (t) => {
    const store = await open(t)
    for (const cause of END_CAUSES) {
      await login(store, cause)
      t.match(await store.endSession(cause, cause, NOW), { cause })
    }
    t.same(
      (await store.listEnded()).map(({ sid, cause }) => sid === cause),
      END_CAUSES.map(() => true),
    )
  })

  void t.test('every session of a user ends in one step, and of nobody else', async (t) => {
    const store = await open(t)
    await login(store, 'one', { username: '201' })
    await login(store, 'two', { username: '201', dialect: 'softphone' })
    await login(store, 'over', { username: '201', expiresAt: NOW + 10, accessUntil: NOW + 10 })
    await login(store, 'gone', { username: '201' })
    await login(store, 'other', { username: '2010' })
    await store.endSession('gone', 'logout', NOW)
    await store.rotate(hashOf('one/0'), successor('one/1'), renewalAt(20), GRACE)
    const ended = await store.endSessionsOf('201', 'user_removed', NOW + 20)
    t.same(
      ended.sort((a, b) => (a.sid < b.sid ? -1 : 1)),
      [
        { sid: 'one', username: '201', cause: 'user_removed', until: NOW + 920 },
        { sid: 'over', username: '201', cause: 'user_removed', until: NOW + 10 },
        { sid: 'two', username: '201', cause: 'user_removed', until: NOW + 900 },
      ],
    )
    t.same(await store.endSessionsOf('201', 'user_removed', NOW + 20), [])
    t.same(await store.endSessionsOf('nobody', 'user_removed', NOW + 20), [])
    t.match(await store.findByRefresh(hashOf('other/0'), NOW), { state: 'live' })
    t.match(await store.rotate(hashOf('one/0'), successor('one/x'), renewalAt(21), GRACE), {
      outcome: 'ended',
    })
  })

  void t.test('every end is listed, whatever the clock of its end said', async (t) => {
    const store = await open(t)
    for (const [sid, after] of [
      ['in time', 0],
      ['when its tokens were dead', 2 * DAY],
      ['before it began', -2 * DAY],
    ] as const) {
      await login(store, sid)
      await store.endSession(sid, 'logout', NOW + after)
    }
    await login(store, 'live')
    const listed = (await store.listEnded()).map(({ sid }) => sid).sort()
    t.same(listed, ['before it began', 'in time', 'when its tokens were dead'])
  })

  /** `hours` of monotonic time, in which the wall clock stands. */
  const stand = async (store: Store, wall: number, hours: number): Promise<number> => {
    let past = 0
    for (let hour = 0; hour < hours; hour++) past = await store.countTime(wall, HOUR)
    return past
  }

  void t.test('an instant is past once the clock has stood past it for a day', async (t) => {
    let store = await open(t)
    t.equal(await store.countTime(NOW, 0), 0)
    t.equal(await stand(store, NOW + 10, HOURS_TO_PASS - 1), 0)
    t.equal(await store.countTime(NOW + 10, HOUR), NOW, 'the earliest that it stood at')
    t.equal(await stand(store, NOW - DAY, 1), NOW, 'what was past stays so')
    t.equal(await stand(store, NOW + 2 * DAY, HOURS_TO_PASS), NOW)
    store = await reopen(t, store)
    t.equal(await store.countTime(NOW + 2 * DAY, 0), NOW, 'also over a restart')
    t.equal(await store.countTime(NOW + 2 * DAY, 100 * HOUR), NOW + 2 * DAY)
    await store.moveEpoch(NOW)
    t.equal(await store.countTime(NOW, 0), 0, 'an epoch stands for all that was forgotten')
  })

  void t.test('a day that was not looked at is an hour, and restarts add up', async (t) => {
    let store = await open(t)
    let past = 0
    for (let start = 0; start < 2 * HOURS_TO_PASS - 1; start++) {
      t.equal(past, 0, `start ${start}`)
      await store.countTime(NOW, 0)
      past = await store.countTime(NOW, start === 0 ? 100 * DAY : HOUR / 2)
      if (start % 12 === 0) store = await reopen(t, store)
    }
    t.equal(past, NOW)
  })

  void t.test('live sessions are listed newest first, and counted', async (t) => {
    const store = await open(t)
    await login(store, 'middle', { createdAt: NOW - 50 })
    await login(store, 'newest', { createdAt: NOW - 10, username: '202' })
    await login(store, 'oldest', { createdAt: NOW - 90 })
    await login(store, 'ended', { createdAt: NOW })
    await login(store, 'expired', { createdAt: NOW - 70, expiresAt: NOW })
    await store.endSession('ended', 'logout', NOW)
    const sids = (sessions: Session[]) => sessions.map(({ sid }) => sid)
    t.same(sids(await store.listSessions(NOW)), ['newest', 'middle', 'oldest'])
    t.same(sids(await store.listSessions(NOW, '201')), ['middle', 'oldest'])
    t.same(await store.listSessions(NOW, '202'), [
      sessionOf('newest', { createdAt: NOW - 10, username: '202' }),
    ])
    t.same(await store.listSessions(NOW, 'nobody'), [])
    const few = sids(await store.listSessions(NOW, undefined, 1))
    t.equal(few[0], 'newest')
    t.ok(few.length < 3, 'about as many as asked for')
    t.equal(await store.countSessions(NOW), 3)
  })

  void t.test(
    'one that ended or ran out is never listed as live, forgotten or not, opened anew or not',
    async (t) => {
      let store = await open(t)
      await login(store, 'live')
      await login(store, 'ended')
      await login(store, 'over', { expiresAt: NOW + HOUR, accessUntil: NOW + HOUR })
      await store.endSession('ended', 'logout', NOW)
      const live = async () => (await store.listSessions(NOW + HOUR, '201')).map(({ sid }) => sid)
      t.same(await live(), ['live'])
      store = await reopen(t, store)
      t.same(await live(), ['live'])
      while ((await store.prune(NOW + HOUR, NOW + DAY)) > 0);
      t.same(await store.listEnded(), [])
      t.same(await live(), ['live'])
      store = await reopen(t, store)
      t.same(await live(), ['live'])
    },
  )

  void t.test('credential marks are listed once each, and only of live sessions', async (t) => {
    const store = await open(t)
    await login(store, 'a')
    await login(store, 'b')
    await login(store, 'c', { credential: 'changed' })
    await login(store, 'd', { username: '202' })
    await login(store, 'e', { username: '203' })
    await login(store, 'f', { username: '204', expiresAt: NOW })
    await store.endSession('e', 'logout', NOW)
    t.same(
      (await store.listCredentials(NOW))
        .map(({ username, credential }) => `${username} ${credential}`)
        .sort(),
      ['201 changed', '201 mark', '202 mark'],
    )
  })

  const pruneAll = async (store: Store, past: number): Promise<number[]> => {
    const went: number[] = []
    for (;;) {
      const slice = await store.prune(past, past)
      if (slice === 0) return went
      went.push(slice)
    }
  }

  void t.test('what is past for certain is forgotten', async (t) => {
    const store = await open(t)
    await login(store, 'ended', { accessUntil: NOW + 900 })
    await login(store, 'expired', { expiresAt: NOW + 900, accessUntil: NOW + 900 })
    await login(store, 'live')
    await store.rotate(hashOf('ended/0'), successor('ended/1'), renewalAt(0), GRACE)
    await store.endSession('ended', 'logout', NOW)
    t.equal(await store.prune(NOW + 10 * DAY, NOW + 899), 0, 'the clock alone decides nothing')
    t.equal((await store.listEnded()).length, 1)
    t.match(await store.findByRefresh(hashOf('ended/0'), NOW), { state: 'ended' })
    t.same(await pruneAll(store, NOW + 900), [2])
    for (const token of ['ended/0', 'ended/1', 'expired/0']) {
      t.same(await store.findByRefresh(hashOf(token), NOW), { state: 'unknown' }, token)
    }
    t.same(await store.listEnded(), [])
    t.match(await store.findByRefresh(hashOf('live/0'), NOW), { state: 'live' })
    t.same(await pruneAll(store, NOW + 31 * DAY), [1])
    t.equal(await store.countSessions(NOW), 0)
  })

  void t.test('it is forgotten in slices, so that nobody waits long behind it', async (t) => {
    const store = await open(t)
    await Promise.all(
      Array.from({ length: 2500 }, (_, index) =>
        login(store, `s${index}`, { expiresAt: NOW + 900, accessUntil: NOW + 900 }),
      ),
    )
    const slices = await pruneAll(store, NOW + 900)
    t.equal(
      slices.reduce((sum, slice) => sum + slice),
      2500,
    )
    t.ok(Math.max(...slices) <= 1000, slices.join(' '))
  })

  void t.test('a session of many rotations is forgotten whole', async (t) => {
    const store = await open(t)
    await login(store, 'long', { expiresAt: NOW + 900 })
    await login(store, 'short', { expiresAt: NOW + 901 })
    for (let step = 0; step < 1200; step++) {
      await store.rotate(hashOf(`long/${step}`), successor(`long/${step + 1}`), renewalAt(0), GRACE)
    }
    const slices = await pruneAll(store, NOW + 1000)
    t.equal(
      slices.reduce((sum, slice) => sum + slice),
      2,
    )
    for (const step of [0, 600, 1200]) {
      t.same(await store.findByRefresh(hashOf(`long/${step}`), NOW), { state: 'unknown' })
    }
  })

  void t.test('a session that nobody refreshed for too long is forgotten', async (t) => {
    const store = await open(t)
    const IDLE = 7 * DAY
    for (const sid of ['left', 'used', 'token']) await login(store, sid, { username: sid })
    await login(store, 'also', { username: 'used' })
    await store.renew(hashOf('used/0'), renewalAt(DAY))
    await store.renew(hashOf('token/0'), renewalAt(0, { accessUntil: NOW + 9 * DAY }))
    const forget = async (past: number, idleTtl?: number) => {
      for (let n = 0; n < 3; n++) await store.prune(past, past, idleTtl)
      return (await store.listSessions(NOW)).map(({ sid }) => sid).toSorted()
    }
    t.same(await forget(NOW + IDLE), ['also', 'left', 'token', 'used'], 'not where none is idle')
    t.same(await forget(NOW + IDLE - 1, IDLE), ['also', 'left', 'token', 'used'])
    t.same(await forget(NOW + IDLE, IDLE), ['token', 'used'], 'one has a token still')
    t.same(await store.findByRefresh(hashOf('left/0'), NOW), { state: 'unknown' })
    t.same((await store.listCredentials(NOW)).map(({ username }) => username).toSorted(), [
      'token',
      'used',
    ])
    t.same(await forget(NOW + 9 * DAY, IDLE), [])
    t.same(await store.listEnded(), [])
  })

  void t.test('a sealed successor is forgotten once no grace can reach it', async (t) => {
    const store = await open(t)
    await login(store, 'a')
    await store.rotate(hashOf('a/0'), successor('a/1'), renewalAt(0), 300)
    await store.prune(NOW + 300, 0)
    t.match(
      await store.rotate(hashOf('a/0'), successor('a/x'), renewalAt(300), 300),
      { outcome: 'replayed' },
      'not before',
    )
    await store.prune(NOW + 3600, 0)
    t.match(await store.rotate(hashOf('a/0'), successor('a/x'), renewalAt(3600), 10_000), {
      outcome: 'reused',
    })
  })

  void t.test(
    'where a user may have so many sessions, the oldest end as a new one opens',
    async (t) => {
      let store = await open(t)
      const enter = (sid: string, after: number, most: number, given: Partial<Session> = {}) =>
        store.openSession(sessionOf(sid, { createdAt: NOW + after, ...given }), hashOf(sid), most)
      for (const [index, sid] of ['a', 'b', 'c', 'd'].entries()) {
        t.same(await enter(sid, index, 0), [], '0 is no limit')
      }
      await enter('other', 0, 0, { username: '202' })
      await store.endSession('d', 'logout', NOW + 4)
      t.same(await enter('e', 5, 4), [], 'as many as allowed; an ended one does not count')
      const limit = { username: '201', cause: 'limit', until: NOW + 900 }
      t.same(
        (await enter('f', 6, 2)).sort((one, two) => (one.sid < two.sid ? -1 : 1)),
        [
          { sid: 'a', ...limit },
          { sid: 'b', ...limit },
          { sid: 'c', ...limit },
        ],
      )
      const live = async (username: string) =>
        (await store.listSessions(NOW + 6, username)).map(({ sid }) => sid)
      t.same(await live('201'), ['f', 'e'])
      t.same(await live('202'), ['other'], 'nobody else is touched')
      t.match(
        await enter('g', -100, 1),
        [{ sid: 'f' }, { sid: 'e' }],
        'also with the clock set back',
      )
      store = await reopen(t, store)
      t.same(await live('201'), ['g'], 'never the new one')
      t.match(await store.findByRefresh(hashOf('f'), NOW + 6), { state: 'ended' })
      t.match(await store.listEnded(), { length: 6 })
    },
  )

  void t.test('a ticket is used once; only the request that used it may ask again', async (t) => {
    // One ticket, first used by request "r" at NOW + 10, good until NOW + 60.
    const cases = [
      ['the same request at once', 'r', 10, 'repeat'],
      ['the same request in time', 'r', 10 + REPEAT_WITHIN, 'repeat'],
      ['the same request too late', 'r', 11 + REPEAT_WITHIN, 'used'],
      ['the same request, and the clock set back', 'r', 9 - REPEAT_WITHIN, 'used'],
      ['another request', 'other', 10, 'used'],
      ['a request without an id', '', 10, 'used'],
    ] as const
    let store = await open(t)
    t.equal(await store.useTicket('ticket', 'r', NOW + 10, NOW + 60, 'a'), 'first')
    for (const when of ['before', 'after']) {
      for (const [name, request, after, verdict] of cases) {
        t.equal(
          await store.useTicket('ticket', request, NOW + after, NOW + 60, 'a'),
          verdict,
          `${name}, ${when} a restart`,
        )
      }
      store = await reopen(t, store)
    }
    t.equal(await store.useTicket('nameless', '', NOW, NOW + 60, 'a'), 'first')
    t.equal(await store.useTicket('nameless', '', NOW, NOW + 60, 'a'), 'used', 'no id is no id')
    const race = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        store.useTicket('race', `r${index}`, NOW, NOW + 60, 'a'),
      ),
    )
    t.equal(race.filter((verdict) => verdict === 'first').length, 1)
    t.equal(race.filter((verdict) => verdict === 'used').length, 49)
    await store.prune(NOW + 2 * DAY, NOW + 59)
    t.equal(
      await store.useTicket('ticket', 'x', NOW, NOW + 60, 'a'),
      'used',
      'by its end, not the clock',
    )
    t.ok((await store.prune(NOW + 60, NOW + 60)) > 0, 'counted, so that it is asked again')
    t.equal(await store.useTicket('ticket', 'x', NOW, NOW + 60, 'a'), 'first', 'and then forgotten')
  })

  void t.test(
    'a session that uses many tickets is kept in bounds, and none passes twice',
    async (t) => {
      let store = await open(t)
      const use = (n: number, until = n, sid = 'a') =>
        store.useTicket(`t${n}`, `r${n}`, NOW, NOW + until, sid)
      const all = Array.from({ length: 3 * MOST_TICKETS }, (_, n) => n + 10)
      for (const n of all) if ((await use(n)) !== 'first') t.fail(`${n} is new`)
      store = await reopen(t, store)
      const again = await Promise.all(
        all.map((n) => store.useTicket(`t${n}`, 'x', NOW, NOW + n, 'a')),
      )
      t.same([...new Set(again)], ['used'])
      t.equal(await use(all.at(-1) ?? 0), 'repeat', 'the latest are remembered')
      t.equal(await use(1, 9 + MOST_TICKETS), 'used', 'one that runs out with the forgotten')
      t.equal(await use(1, 9 + MOST_TICKETS, 'b'), 'first', 'of another session')
      t.equal(await use(2, 9 + 3 * MOST_TICKETS), 'first', 'and a later one')
      await store.prune(NOW, NOW + 9 + 3 * MOST_TICKETS)
      while ((await store.prune(NOW, NOW + 9 + 3 * MOST_TICKETS)) > 0);
      t.equal(
        await use(all[0] ?? 0),
        'first',
        'forgotten with the last, when all are past for certain',
      )
    },
  )

  void t.test(
    'used tickets go as fast as they come: slice by slice until none is left',
    async (t) => {
      const store = await open(t)
      const ids = Array.from({ length: 2500 }, (_, n) => `many-${n}`)
      await Promise.all(ids.map((id, n) => store.useTicket(id, 'r', NOW, NOW + 60, `s${n % 10}`)))
      while ((await store.prune(NOW + 60, NOW + 60)) > 0);
      const again = await Promise.all(
        ids.map((id, n) => store.useTicket(id, 'x', NOW, NOW + 60, `s${n % 10}`)),
      )
      t.same([...new Set(again)], ['first'])
    },
  )

  void t.test('only of a live session is it said until when it has access', async (t) => {
    let store = await open(t)
    for (const sid of ['a', 'b', 'out', 'over']) {
      await login(store, sid, sid === 'over' ? { expiresAt: NOW + 60, accessUntil: NOW + 60 } : {})
    }
    await login(store, 'z', { username: 'Zoë' })
    await store.endSession('out', 'logout', NOW)
    await store.renew(hashOf('b/0'), renewalAt(600, { role: 'guest' }))
    store = await reopen(t, store)
    const names = ['a', 'b', 'out', 'over', 'nobody', 'a'].map((sid) => ({ sid, username: '201' }))
    t.same(
      await store.accessOf([...names, { sid: 'z', username: 'Zoë' }], NOW + 60),
      new Map([
        ['a', { role: 'user', until: NOW + 900 }],
        ['b', { role: 'guest', until: NOW + 1500 }],
        ['z', { role: 'user', until: NOW + 900 }],
      ]),
    )
    t.same(await store.accessOf([], NOW), new Map())
  })

  void t.test('streams that the version before left are told until they are closed', async (t) => {
    let store = await open(t)
    t.same(await store.listSubscriptions(), [])
    const [one, two] = [subscriptionOf('one'), subscriptionOf('two', { sid: 'b', userId: 9 })]
    await leave(store, [one, two])
    store = await reopen(t, store)
    const told = await store.listSubscriptions()
    t.match(
      told.toSorted((a, b) => (a.kick < b.kick ? -1 : 1)),
      [one, two],
    )
    await store.closeSubscriptions(['one', 'never opened'])
    await store.closeSubscriptions([])
    t.match(await store.listSubscriptions(), [two])
    t.equal((await store.listSubscriptions()).length, 1)
  })

  void t.test('ping says that the store can write', async (t) => {
    const store = await open(t)
    await t.resolves(store.ping())
  })

  void t.test('a closed store takes no more calls, and closing it twice is no fault', async (t) => {
    const store = await open(t)
    const asked = store.identify('201')
    await store.close()
    t.equal(typeof (await asked), 'number', 'what was asked before is answered')
    await t.rejects(store.ping(), { code: 'unavailable' })
    await store.close()
  })
}
