// Refreshes that race with a logout on another host: whoever is second finds the session over.

import t from 'tap'

import { IN_MEMORY, openHosts, PATIENT } from './bed.ts'
import { NEEDS_HOSTS } from './network.ts'

void t.test(
  'after a logout nothing opens that a refresh elsewhere gave',
  NEEDS_HOSTS,
  async (t) => {
    const { hosts } = await openHosts(t, ['a', 'b', 'c'], PATIENT, IN_MEMORY)
    const [a, b, c] = hosts
    let [refreshed, opened] = [0, 0]
    const race = async (): Promise<void> => {
      const { access, refresh } = await a.enter()
      const racing = [b.rotate(refresh), c.rotate(refresh)]
      t.equal(await a.logout(access), 200)
      const answers = await Promise.all(racing)
      for (const { status, access: token, next } of answers) {
        if (status !== 200) continue
        refreshed++
        if ((await a.check(token)) === '204') opened++
        for (const host of [a, b, c]) if ((await host.rotate(next)).status === 200) opened++
      }
      if ((await a.rotate(refresh)).status === 200) opened++
    }
    for (let round = 0; round < 20; round++) await Promise.all(Array.from({ length: 5 }, race))
    t.equal(opened, 0)
    t.comment(`${refreshed} of 200 refreshes came before their logout`)
  },
)
