// A line that loses packets: Redis is there, now and then.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { until } from '../fixtures/postern.ts'
import { BOUND, HEALS_WITHIN, IN_MEMORY, inOneOfThree, openHosts, STALE } from './bed.ts'
import { inWords, lateOnes, startLoad } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

void t.test('a line that loses every fifth packet lets nobody in', NEEDS_HOSTS, async (t) => {
  const { hosts } = await openHosts(t, ['a', 'b'], {}, IN_MEMORY)
  const [host, other] = hosts
  const [kept, gone] = [await other.login(), await other.login()]
  await inOneOfThree(t, 'in time', async () => {
    host.machine.drop(20)
    const load = startLoad(t, host.socket, () => kept.access)
    await pause(1000)
    await other.logout(gone.access)
    await pause(STALE * 1000 + BOUND * 1000) // past this no memory may vouch for it
    const ended = startLoad(t, host.socket, () => gone.access)
    const statuses: number[] = []
    for (let round = 0; round < 12; round++) {
      statuses.push((await host.tryLogin()).status, (await host.refresh(kept.refresh)).status)
      await pause(200)
    }
    host.machine.clear()
    const since = performance.now()
    await until('it is ready', async () => (await host.ready()) === 200)
    const took = performance.now() - since
    const [goods, ends] = [await load.stop(), await ended.stop()]
    t.same(
      statuses.filter((status) => status !== 200 && status !== 503),
      [],
    )
    t.same(
      goods.filter(({ status }) => status !== 204 && status !== 503),
      [],
    )
    t.same(
      ends.filter(({ status }) => status !== 401 && status !== 503),
      [],
      'never a 2xx for what was ended elsewhere',
    )
    t.equal(await host.check(kept.access), '204')
    t.equal(await host.check(gone.access), '401 session_ended')
    const all = [...goods, ...ends].map((one) => one.took)
    const allowed = goods.filter(({ status }) => status === 204).length
    t.comment(
      `${allowed} of ${goods.length} allowed; ${inWords(all)}; healed in ${Math.round(took)} ms`,
    )
    t.comment(
      `${statuses.filter((status) => status === 200).length} of ${statuses.length} logins and refreshes`,
    )
    return [
      ...lateOnes([...goods, ...ends]),
      ...(took > HEALS_WITHIN * 1000 ? [`healed after ${took} ms`] : []),
    ]
  })
})
