// F9: Redis forgets the scripts, again and again.

import t from 'tap'

import { patiently } from '../fixtures/postern.ts'
import { IN_MEMORY, inOneOfThree, openHosts, PATIENT } from './bed.ts'
import { startLoad } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

const FAULTS = 'postern_faults_total{kind="store_unavailable"}'

void t.test('F9: SCRIPT FLUSH every second is noticed by nobody', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['a', 'b'], PATIENT, IN_MEMORY)
  const [a, b] = hosts
  let flushes = 0
  const flushing = setInterval(() => {
    bed.redis.cli('SCRIPT', 'FLUSH')
    flushes++
  }, 1000)
  t.teardown(() => clearInterval(flushing))
  await inOneOfThree(t, 'without a fault', async () => {
    const faults = async (): Promise<number> => (await a.metric(FAULTS)) + (await b.metric(FAULTS))
    const lines = (): string[] => hosts.flatMap((host) => host.storeLines())
    const [faultsBefore, linesBefore, flushesBefore] = [await faults(), lines().length, flushes]
    const kept = await a.login()
    const loads = hosts.map(({ socket }) => startLoad(t, socket, () => kept.access))
    const deadline = performance.now() + 6500
    let rounds = 0
    for (; performance.now() < deadline; rounds++) {
      const [soft, mikopbx] = [await a.login(), await b.enter()]
      t.equal((await patiently(() => b.refresh(soft.refresh))).status, 200)
      t.equal((await patiently(() => a.rotate(mikopbx.refresh))).status, 200)
      // Inside the grace, and on the other host: the same successor again.
      t.equal((await patiently(() => b.rotate(mikopbx.refresh))).status, 200)
      t.equal(await a.logout(soft.access), 200)
      t.equal(await b.logout(mikopbx.access), 200)
    }
    t.ok(flushes - flushesBefore >= 4)
    t.comment(`${rounds} rounds, ${flushes - flushesBefore} flushes`)
    for (const load of loads) {
      const odd = (await load.stop()).filter(({ status }) => status !== 204)
      t.same(odd, [])
    }
    const faulty = (await faults()) - faultsBefore
    return [...(faulty > 0 ? [`${faulty} faults`] : []), ...lines().slice(linesBefore)]
  })
})
