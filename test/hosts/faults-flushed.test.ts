// F8: somebody empties Redis.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import { BOUND, inOneOfThree, openHosts, PATIENT } from './bed.ts'
import { startLoad } from './load.ts'
import { refusesOld, works } from './lost-data.ts'
import { NEEDS_HOSTS } from './network.ts'

void t.test('F8: FLUSHALL ends every token and every session', NEEDS_HOSTS, async (t) => {
  await inOneOfThree(t, 'in time', async () => {
    const { bed, hosts } = await openHosts(t, ['a', 'b'], PATIENT)
    const [a, b] = hosts
    const [kept, gone, rotating] = [await a.login(), await a.login(), await b.enter()]
    t.equal(await a.logout(gone.access), 200)
    await until('b knows', async () => (await b.check(gone.access)) === '401 session_ended')
    const ended = hosts.map(({ socket }) => startLoad(t, socket, () => gone.access))
    const old = hosts.map(({ socket }) => startLoad(t, socket, () => kept.access))
    await pause(1100) // into another second than the logins
    const struckAt = performance.now()
    bed.redis.cli('FLUSHALL')
    await refusesOld(t, hosts, [kept.access, gone.access, rotating.access])
    t.comment(`noticed ${Math.round(performance.now() - struckAt)} ms after`)
    t.equal((await patiently(() => a.refresh(kept.refresh))).status, 401)
    t.equal((await patiently(() => b.rotate(rotating.refresh))).status, 401)
    await works(t, hosts)
    for (const load of ended) {
      const odd = (await load.stop()).filter(({ status }) => status !== 401)
      t.same(odd, [], 'an ended one was never let in')
    }
    let last = struckAt
    for (const load of old) {
      const answers = await load.stop()
      t.same(
        answers.filter(({ status }) => status !== 204 && status !== 401),
        [],
        'each check was decided',
      )
      last = Math.max(last, answers.findLast(({ status }) => status === 204)?.at ?? 0)
    }
    const passed = last - struckAt
    t.comment(`believed until ${Math.round(passed)} ms after`)
    // A reading, and one more that founds the data anew.
    return passed > (BOUND + 1) * 1000 ? [`${passed} ms`] : []
  })
})
