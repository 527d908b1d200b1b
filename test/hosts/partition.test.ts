// F44: two hosts, and Redis can be reached from one of them only.

import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { until } from '../fixtures/postern.ts'
import { HEALS_WITHIN, type Host, inOneOfThree, openHosts, STALE } from './bed.ts'
import { inWords, lateOnes, startLoad } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

const isReady = (host: Host) => async (): Promise<boolean> => (await host.ready()) === 200

/** A rotation that must come to an answer. */
const rotate = async (host: Host, token: string) => {
  for (;;) {
    const answer = await host.rotate(token)
    if (answer.status !== 503) return answer
    await pause(100)
  }
}

/** How many of these tokens still refresh, once their grace is over. */
const branches = async (host: Host, tokens: readonly string[]): Promise<number> => {
  let live = 0
  for (const token of tokens) if ((await rotate(host, token)).status === 200) live++
  return live
}

const divide = async (t: Test, cut: (b: Host) => void, mend: (b: Host) => void) => {
  const { hosts } = await openHosts(t, ['a', 'b'], { refresh: 'grace = 1' })
  const [a, b] = hosts
  await inOneOfThree(t, 'in time', async () => {
    const [kept, gone, family] = [await a.login(), await a.login(), await a.enter()]
    t.equal(await b.check(gone.access), '204')
    const good = startLoad(t, b.socket, () => kept.access)
    await pause(200)
    const cutAt = performance.now()
    cut(b)
    const left = b.logoutOf(kept.access) // cut off: it may have happened or not
    t.equal(await a.logout(gone.access), 200)
    const logoutAt = performance.now()
    const ended = startLoad(t, b.socket, () => gone.access)

    const first = await rotate(a, family.refresh)
    t.equal(first.status, 200)
    const here = await Promise.all([b.rotate(family.refresh), b.rotate(first.next)])
    t.same(
      here.map(({ status }) => status),
      [503, 503],
      'the cut host rotates nothing',
    )
    t.equal((await left).status, 503)
    const second = await rotate(a, first.next)
    t.equal(second.status, 200)
    await pause((STALE + 1) * 1000)
    await until('a is ready', isReady(a))
    t.equal(await b.ready(), 503)
    t.equal((await b.tryLogin()).status, 503)

    const mendedAt = performance.now()
    mend(b)
    await until('b is ready', isReady(b))
    const took = performance.now() - mendedAt
    await pause(300)
    const [goods, ends] = [await good.stop(), await ended.stop()]
    t.same(
      ends.filter(({ at, status }) => status === 204 && at > cutAt + STALE * 1000 + 150),
      [],
      'what was ended meanwhile passes for stale_seconds at most, and never after',
    )
    t.same(
      ends.filter(({ status }) => ![204, 401, 503].includes(status)),
      [],
    )
    t.equal(ends.at(-1)?.status, 401)
    t.same(
      goods.filter(
        ({ at, took, status }) =>
          status === 204 && at > cutAt + STALE * 1000 + 150 && at + took < mendedAt,
      ),
      [],
    )
    t.same(
      goods.filter(({ status }) => ![204, 401, 503].includes(status)),
      [],
    )
    t.equal(await b.check(kept.access), '401 session_ended', 'it was asked for the logout')
    await until(
      'and has written it, now that it can',
      async () => (await a.check(kept.access)) === '401 session_ended',
    )

    await pause(2100)
    t.equal(await branches(b, [second.next]), 1, 'the last of the family lives')
    t.equal(await branches(b, [family.refresh, first.next]), 0, 'and nothing before it')
    const all = [...goods, ...ends]
    const passed = ends.findLast(({ status }) => status === 204)?.at ?? logoutAt
    t.comment(
      `ended elsewhere, it passed for ${Math.round(passed - logoutAt)} ms; healed in ${Math.round(took)} ms; ${all.length} checks: ${inWords(all.map((one) => one.took))}`,
    )
    return [...lateOnes(all), ...(took > HEALS_WITHIN * 1000 ? [`healed after ${took} ms`] : [])]
  })
}

void t.test('F44: its cable is pulled', NEEDS_HOSTS, async (t) => {
  await divide(
    t,
    (b) => b.machine.unplug(),
    (b) => b.machine.plug(),
  )
})

void t.test('F44: what it says arrives, and no answer does', NEEDS_HOSTS, async (t) => {
  await divide(
    t,
    (b) => b.machine.drop(100),
    (b) => b.machine.clear(),
  )
})

void t.test(
  'F44: shorter than stale_seconds nobody notices but who was logged out',
  NEEDS_HOSTS,
  async (t) => {
    const { hosts } = await openHosts(t, ['a', 'b'], { store: 'stale_seconds = 30' })
    const [a, b] = hosts
    const [kept, gone] = [await a.login(), await a.login()]
    const good = startLoad(t, b.socket, () => kept.access)
    b.machine.unplug()
    t.equal(await a.logout(gone.access), 200)
    await pause(2000)
    t.equal(
      await b.check(gone.access),
      '204',
      'the price of stale_seconds, as docs/operating.md says',
    )
    b.machine.plug()
    await until('b is ready', isReady(b))
    t.equal(await b.check(gone.access), '401 session_ended', 'known before it is ready')
    t.same(
      (await good.stop()).filter(({ status }) => status !== 204),
      [],
    )
  },
)
