// F45: what tells of an end is lost, again and again; the poll makes up for it.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { BOUND, IN_MEMORY, inOneOfThree, openHosts, PATIENT } from './bed.ts'
import { lastAllowed, NEEDS_STREAMS, openWithStreams, STREAMS_WITHIN } from './enforced.ts'
import { createAsker, inWords, percentile } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

for (const [every, rounds] of [
  [1, 12],
  [0.05, 8],
] as const) {
  void t.test(
    `F45: with the message connection killed every ${every} s, within the bound`,
    NEEDS_STREAMS,
    async (t) => {
      const { bed, a, b, closes } = await openWithStreams(t)
      const ask = createAsker(t, b.socket)
      let kills = 0
      const killing = setInterval(() => {
        kills += Number(bed.redis.cli('CLIENT', 'KILL', 'TYPE', 'pubsub'))
      }, every * 1000)
      t.teardown(() => clearInterval(killing))
      await inOneOfThree(t, 'all of them', async () => {
        const before = b.storeLines().length
        const [refused, closed]: [number[], number[]] = [[], []]
        for (let round = 0; round < rounds; round++) {
          const { access } = await a.login()
          t.equal(await b.check(access), '204')
          t.equal(await a.logout(access), 200)
          const since = performance.now()
          refused.push(Math.max(0, (await lastAllowed(ask, access)) - since))
          await pause(Math.random() * 300) // not in step with what kills
          closed.push(await closes(t, a, BOUND * 1000 + STREAMS_WITHIN))
        }
        t.comment(
          `${kills} connections killed; refused: ${inWords(refused)}; closed: ${inWords(closed)}`,
        )
        return [
          // It is no fault of the store, and is not said to be one.
          ...b.storeLines().slice(before),
          ...refused.filter((ms) => ms > BOUND * 1000).map((ms) => `refused after ${ms} ms`),
          ...closed
            .filter((ms) => ms > BOUND * 1000 + STREAMS_WITHIN)
            .map((ms) => `closed after ${ms} ms`),
        ]
      })
      t.ok(kills > 3)
    },
  )
}

void t.test(
  'F45: a message connection that died without a word is replaced by the poll',
  NEEDS_HOSTS,
  async (t) => {
    const { bed, hosts } = await openHosts(t, ['a', 'b'], PATIENT, IN_MEMORY)
    const [a, b] = hosts
    const ask = createAsker(t, b.socket)
    await inOneOfThree(t, 'all of them', async () => {
      const list = bed.redis.cli('CLIENT', 'LIST', 'TYPE', 'pubsub')
      const found = list.matchAll(new RegExp(` addr=${b.machine.address}:(\\d+) `, 'g'))
      const ports = Array.from(found, ([, port]) => Number(port))
      t.ok(ports.length > 0, `messages come in at ${ports.join()}`)
      b.machine.mute(ports)
      const refused: number[] = []
      for (let round = 0; round < 12; round++) {
        const { access } = await a.login()
        t.equal(await b.check(access), '204')
        t.equal(await a.logout(access), 200)
        const since = performance.now()
        refused.push(Math.max(0, (await lastAllowed(ask, access)) - since))
        await pause(Math.random() * 300) // not in step with the poll
      }
      b.machine.clear()
      t.comment(`refused: ${inWords(refused)}`)
      t.ok(percentile(refused, 50) > 100, 'no message came')
      return refused.filter((ms) => ms > BOUND * 1000).map((ms) => `refused after ${ms} ms`)
    })
  },
)
