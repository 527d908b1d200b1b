// F4: Redis is there, and far away.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { until } from '../fixtures/postern.ts'
import { IN_MEMORY, inOneOfThree, openHosts, startSlowWire } from './bed.ts'
import { inWords, lateOnes, startLoad } from './load.ts'
import { HAS_NETEM, NEEDS_HOSTS } from './network.ts'

void t.test('F4: 200 ms slower it is right, and checks do not notice', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['b'], {}, IN_MEMORY)
  const [other] = hosts
  // By netem, as on a bad line, or through a wire that takes its time.
  const url = HAS_NETEM ? bed.url : await startSlowWire(t, bed, 100)
  t.comment(HAS_NETEM ? 'netem, 100 ms each way' : 'a wire of our own, 100 ms each way')
  const host = await bed.host('a', { store: `url = "${url}"` })
  if (HAS_NETEM) host.machine.delay(100)
  await host.start()
  await until('it is ready', async () => (await host.ready()) === 200)
  await inOneOfThree(t, 'in time', async () => {
    const kept = await other.login()
    const load = startLoad(t, host.socket, () => kept.access)
    const took: number[] = []
    const late: string[] = []
    for (let round = 0; round < 3; round++) {
      const at = performance.now()
      const answers: number[] = []
      const { access, refresh } = await other.login()
      const logins = await host.tryLogin()
      took.push(performance.now() - at)
      answers.push(logins.status, (await host.refresh(refresh)).status)
      t.equal(await other.check(access), '204')
      const left = (await host.logoutOf(access)).status
      if (left === 200) {
        t.equal(await host.check(access), '401 session_ended')
        await pause(100)
        t.equal(await other.check(access), '401 session_ended')
      }
      // With the 200 ms of the wire, 50 are left for all else: a busy machine takes more.
      for (const status of [...answers, left]) {
        if (status === 503) late.push('the store was given up')
        else t.equal(status, 200)
      }
    }
    const answers = await load.stop()
    t.same(
      answers.filter(({ status }) => status !== 204 && status !== 503),
      [],
    )
    if (answers.some(({ status }) => status === 503)) late.push('checks were not decided')
    const all = answers.map((one) => one.took)
    t.comment(`${all.length} checks: ${inWords(all)}; logins: ${inWords(took)}`)
    return [...late, ...lateOnes(answers)]
  })
})

void t.test('F4: slower than anybody waits for is away, and no refusal', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['b'], {}, IN_MEMORY)
  const [other] = hosts
  const kept = await other.login()
  const host = await bed.host('a', { store: `url = "${await startSlowWire(t, bed, 600)}"` })
  await host.start()
  await inOneOfThree(t, 'in time', async () => {
    const load = startLoad(t, host.socket, () => kept.access)
    for (let round = 0; round < 5; round++) {
      t.match(await host.tryLogin(), { status: 503, headers: { 'retry-after': /./ } })
      t.match(await host.refresh(kept.refresh), { status: 503, headers: { 'retry-after': /./ } })
      t.equal(await host.ready(), 503)
      await pause(300)
    }
    const answers = await load.stop()
    t.same(
      answers.filter(({ status }) => status !== 503),
      [],
    )
    const all = answers.map((one) => one.took)
    t.comment(`${all.length} checks: ${inWords(all)}`)
    return lateOnes(answers)
  })
})
