// F1 and F2: Redis is not there when a host starts, and dies under load.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { until, patiently } from '../fixtures/postern.ts'
import { HEALS_WITHIN, inOneOfThree, openBed, openHosts } from './bed.ts'
import { inWords, lateOnes, startLoad } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'
import { sufferAll } from './outage.ts'

void t.test('F1: down at start, nothing is decided until it is there', NEEDS_HOSTS, async (t) => {
  const bed = await openBed(t)
  const before = await bed.host('a')
  await before.start()
  const [kept, gone, leaver] = [await before.login(), await before.login(), await before.login()]
  t.equal(await before.logout(gone.access), 200)
  await before.daemon().end()

  let count = 0
  await inOneOfThree(t, 'in time', async () => {
    await bed.redis.kill()
    const host = await bed.host(`b${count++}`)
    await host.start()
    const good = startLoad(t, host.socket, () => kept.access)
    const ended = startLoad(t, host.socket, () => gone.access)
    await pause(1500)
    t.equal(await host.ready(), 503)
    t.match(await host.tryLogin(), { status: 503, headers: { 'retry-after': /./ } })
    t.match(await host.refresh(kept.refresh), { status: 503, headers: { 'retry-after': /./ } })
    t.match(await host.logoutOf(leaver.access), { status: 503, headers: { 'retry-after': /./ } })
    t.equal(await host.metric('postern_store_state{state="away"}'), 1)
    const early = [...good.answers, ...ended.answers]
    t.ok(early.length > 50)
    t.same(
      early.filter(({ status }) => status !== 503),
      [],
      'neither yes nor no',
    )
    await bed.redis.start()
    const back = performance.now()
    await until('it is ready', async () => (await host.ready()) === 200)
    const took = performance.now() - back
    await pause(200)
    const [goods, ends] = [await good.stop(), await ended.stop()]
    t.same(
      goods.filter(({ status }) => status !== 204 && status !== 503),
      [],
    )
    t.same(
      ends.filter(({ status }) => status !== 401 && status !== 503),
      [],
      'what was ended before is never let in',
    )
    t.equal(await host.check(kept.access), '204')
    t.equal(await host.check(gone.access), '401 session_ended')
    await until('the logout is written by itself', async () => {
      const { status } = await host.refresh(leaver.refresh)
      return status === 401
    })
    t.equal((await patiently(() => host.refresh(kept.refresh))).status, 200)
    const all = [...goods, ...ends].map((one) => one.took)
    t.comment(`ready ${Math.round(took)} ms after; ${all.length} checks: ${inWords(all)}`)
    await host.daemon().end()
    return [
      ...(took > HEALS_WITHIN * 1000 ? [`healed after ${took} ms`] : []),
      ...lateOnes([...goods, ...ends]),
    ]
  })
})

void t.test('F2: killed under load', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['a'])
  await sufferAll(t, bed, hosts[0], [
    {
      name: 'SIGKILL',
      strike: () => bed.redis.kill(),
      heal: () => bed.redis.start(),
      says: /nothing listens there/,
    },
  ])
})
