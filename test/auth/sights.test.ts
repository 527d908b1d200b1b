// A refresh whose answer was lost on the way is found again; two who hold one token are found out.

import t, { type Test } from 'tap'

import { createSights } from '../../src/auth/sights.ts'
import { openRedisStore } from '../../src/store/redis/redis.ts'
import { StoreError } from '../../src/store/store.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { enter, MIKOPBX, openRig, SOFTPHONE } from './rig.ts'

type Rig = Awaited<ReturnType<typeof openRig>>

/** Two rigs on one store: the same one, or two hosts. */
const PLACES: Record<string, { options: object; open(t: Test): Promise<readonly [Rig, Rig]> }> = {
  SQLite: {
    options: {},
    async open(t) {
      const rig = await openRig(t)
      return [rig, rig]
    },
  },
  'two hosts on Redis': {
    options: NEEDS_REDIS,
    async open(t) {
      const { url } = await startRedis(t)
      const openHost = async () => openRig(t, await openRedisStore({ url, timeout: 2 }))
      return [await openHost(), await openHost()]
    },
  },
}

const ROTATING = { MIKOPBX, SOFTPHONE: { ...SOFTPHONE, rotate: true } }

for (const [place, { options, open }] of Object.entries(PLACES)) {
  void t.test(`${place}: a refresh whose answer was lost is found again`, options, async (t) => {
    const [here, there] = await open(t)
    for (const [what, terms] of Object.entries(ROTATING)) {
      for (const [after, grace] of [
        [600, 'ten minutes'],
        [36_000, 'ten hours'],
      ] as const) {
        await t.test(`${what}, after ${grace}`, async (t) => {
          const { refreshToken } = await enter(here.login(terms))
          const lost = await here.refresh(terms)(refreshToken)
          const both = here === there ? [here] : [here, there]
          for (const { clock } of both) clock.advance(after)
          const found = await there.refresh(terms)(refreshToken)
          if (!('accessToken' in lost && 'accessToken' in found)) throw new Error('refused')
          t.match(found, { outcome: 'recovered', refreshToken: lost.refreshToken })
          const again = await here.refresh(terms)(refreshToken)
          t.match(again, { outcome: 'recovered' }, 'and again: that answer may be lost as well')
          t.equal(await here.opens(found.accessToken), 'opens')
          await here.sights.settle(found.session.sid)
          t.match(
            await there.refresh(terms)(refreshToken),
            { refused: 'reused' },
            'it has arrived: now it is a copy',
          )
        })
      }
    }
  })
}

/**
 * One round: O and T refresh with what they hold, o and t show their latest access token. Both hold one refresh token
 * when it begins. They are found out by the second refresh where what the first has given was shown before.
 */
const ROUNDS = ['O', 'o', 'T', 't'].flatMap((one, _, all) =>
  all
    .filter((two) => two !== one)
    .flatMap((two) => {
      const [three = '', four = ''] = all.filter((letter) => letter !== one && letter !== two)
      return [one + two + three + four, one + two + four + three]
    }),
)
const FOUND = /O.*o.*T|T.*t.*O/

for (const [place, { options, open }] of Object.entries(PLACES)) {
  void t.test(`${place}: owner and thief with one token`, options, async (t) => {
    const rigs = await open(t)
    const [{ told, clock }, { clock: otherClock }] = rigs

    /** How many steps it took until the session was ended; undefined: it lives. */
    const play = async (steps: string): Promise<number | undefined> => {
      const { accessToken, refreshToken } = await enter(rigs[0].login(MIKOPBX))
      const held = [
        { accessToken, refreshToken },
        { accessToken, refreshToken },
      ] as const
      for (const [index, step] of steps.split('').entries()) {
        const who = step.toUpperCase() === 'O' ? 0 : 1
        const mine = held[who]
        clock.advance(31)
        if (clock !== otherClock) otherClock.advance(31)
        if (step === 'o' || step === 't') {
          await rigs[who].opens(mine.accessToken)
          // Written behind the answer; that it takes milliseconds elsewhere is not what is asked here.
          const { sid } = JSON.parse(atob(mine.accessToken.split('.')[1] ?? '')) as { sid: string }
          await rigs[who].sights.settle(sid)
          continue
        }
        const result = await rigs[who].refresh(MIKOPBX)(mine.refreshToken)
        if (!('accessToken' in result)) {
          t.match(result, { refused: 'reused', ended: { cause: 'refresh_reused' } })
          return index + 1
        }
        const { accessToken, refreshToken = '' } = result
        Object.assign(mine, { accessToken, refreshToken })
      }
      return undefined
    }
    /** When a round that begins with one token for both finds them out. */
    const foundIn = (round: string): number | undefined =>
      FOUND.test(round) ? Math.max(round.indexOf('O'), round.indexOf('T')) + 1 : undefined

    for (const round of ROUNDS) {
      const expected = foundIn(round)
      t.equal(await play(round), expected, round)
      if (expected !== undefined) continue
      for (const next of ['OoTt', 'TtOo', 'oOtoT']) {
        const took = await play(round + next)
        t.equal(took, 4 + (foundIn(next) ?? NaN), `${round}, then ${next}`)
      }
    }
    t.equal(
      await play('OTotOTotOTot'),
      undefined,
      'not while each refreshes before the other’s first use',
    )
    t.equal(await play('OOOOOO'), undefined, 'nor is who is alone')
    t.ok(told.length > 0)
  })
}

void t.test('a sight that the store cannot take is owed, and comes before a refresh', async (t) => {
  const rig = await openRig(t)
  const written: string[] = []
  let away = true
  const every: (() => void)[] = []
  const sights = createSights({
    store: {
      async seeSuccessor(sid, generation) {
        if (away) throw new StoreError('unavailable', 'away')
        written.push(`${sid} ${generation}`)
        await rig.store.seeSuccessor(sid, generation)
      },
    },
    clock: {
      every(_seconds, job) {
        every.push(job)
        return () => undefined
      },
    },
  })
  const again = (): void => {
    for (const job of every) job()
  }
  sights.saw('a', 0)
  sights.saw('a', 2)
  sights.saw('a', 1)
  sights.saw('b', 1)
  again()
  again() // the first is under way
  await t.rejects(sights.settle('a'), StoreError)
  t.same(written, [])
  away = false
  await sights.settle('a')
  t.same(written, ['a 2'], 'the latest alone')
  again()
  await sights.settle('b')
  t.ok(written.includes('b 1'))
  const before = written.length
  await sights.settle('a')
  await sights.settle('never seen')
  t.equal(written.length, before, 'once is enough')
})

void t.test(
  'where a sight is owed, the older token gets no answer before it is written',
  async (t) => {
    const rig = await openRig(t)
    const { refreshToken } = await enter(rig.login(MIKOPBX))
    const next = await rig.refresh(MIKOPBX)(refreshToken)
    if (!('accessToken' in next)) throw new Error('refused')
    rig.clock.advance(31)
    let away = true
    const seeSuccessor = async (sid: string, generation: number): Promise<void> => {
      if (away) throw new StoreError('unavailable', 'the disk is full')
      await rig.store.seeSuccessor(sid, generation)
    }
    const sights = createSights({ store: { seeSuccessor }, clock: createTestClock() })
    t.teardown(() => sights.close())
    sights.saw(next.session.sid, 1)
    const refresh = rig.refresh(MIKOPBX, { sights })
    await t.rejects(refresh(refreshToken), StoreError)
    away = false
    t.match(await refresh(refreshToken), { refused: 'reused' })
  },
)

void t.test('a successor is seen also where its refresh is of no use', async (t) => {
  const rows = [
    ['the user source is away', MIKOPBX, (rig: Rig) => rig.users.leave()],
    ['rotation was switched off', { ...MIKOPBX, rotate: false }, () => undefined],
  ] as const
  for (const [what, terms, change] of rows) {
    const rig = await openRig(t)
    const { refreshToken } = await enter(rig.login(MIKOPBX))
    const next = await rig.refresh(MIKOPBX)(refreshToken)
    if (!('accessToken' in next)) throw new Error('refused')
    rig.clock.advance(31)
    change(rig)
    t.match(await rig.refresh(terms)(next.refreshToken ?? ''), { refreshToken: undefined })
    rig.users.come()
    t.match(await rig.refresh(MIKOPBX)(refreshToken), { refused: 'reused' }, what)
  }
})

void t.test('nothing but a token of the successor counts as its sight', async (t) => {
  const rig = await openRig(t)
  const { refreshToken, accessToken } = await enter(rig.login(MIKOPBX))
  const lost = await rig.refresh(MIKOPBX)(refreshToken)
  if (!('accessToken' in lost)) throw new Error('refused')
  t.equal(await rig.opens(accessToken), 'opens', 'the login’s own')
  t.equal(await rig.opens(`${lost.accessToken.slice(0, -4)}AAAA`), 'bad_signature')
  rig.clock.advance(800)
  t.match(await rig.refresh(MIKOPBX)(refreshToken), { outcome: 'recovered' })
  rig.clock.advance(200)
  t.equal(
    await rig.opens(lost.accessToken),
    'expired',
    'too late for anything else, it has arrived',
  )
  t.match(await rig.refresh(MIKOPBX)(refreshToken), { refused: 'reused' })
})
