// A logout on one host, as the others enforce it: in checks, and in streams that are open there.

import t from 'tap'

import { IN_MEMORY, inOneOfThree, openHosts, PATIENT } from './bed.ts'
import { lastAllowed, listen, NEEDS_STREAMS, openWithStreams, STREAMS_WITHIN } from './enforced.ts'
import { createAsker, inWords, percentile } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

const WITHIN = 100 // milliseconds, 99 of 100
const ROUNDS = 200

void t.test('a logout on A counts on B and C within 100 ms', NEEDS_HOSTS, async (t) => {
  const { hosts } = await openHosts(t, ['a', 'b', 'c'], PATIENT, IN_MEMORY)
  const [a, b, c] = hosts
  const asks = [b, c].map(({ socket }) => createAsker(t, socket))
  await inOneOfThree(t, 'p99', async () => {
    const took: number[] = []
    const sinceAsked: number[] = []
    // No more rounds than it takes to know.
    const isLost = () => took.filter((ms) => ms > WITHIN).length > (2 * ROUNDS) / 100
    for (let round = 0; round < ROUNDS && !isLost(); round++) {
      const { access } = await a.login()
      t.same([await b.check(access), await c.check(access)], ['204', '204'])
      const askedAt = performance.now()
      const left = a.logout(access).then((status) => ({ status, at: performance.now() }))
      const last = await Promise.all(asks.map((ask) => lastAllowed(ask, access)))
      const { status, at: confirmedAt } = await left
      t.equal(status, 200)
      took.push(...last.map((at) => Math.max(0, at - confirmedAt)))
      sinceAsked.push(...last.map((at) => Math.max(0, at - askedAt)))
    }
    t.comment(`the last check that passed, after the logout was confirmed: ${inWords(took)}`)
    t.comment(`after it was asked for: ${inWords(sinceAsked)}`)
    const p99 = percentile(took, 99)
    return p99 <= WITHIN ? [] : [`p99 ${p99} ms`]
  })
})

void t.test('live streams on B close within half a second', NEEDS_STREAMS, async (t) => {
  const { a, b, nginx, closes } = await openWithStreams(t)
  const other = await listen(t, nginx.port, await b.login('202'))
  await inOneOfThree(t, 'all of them', async () => {
    const took: number[] = []
    for (let round = 0; round < 20; round++) took.push(await closes(t, a, STREAMS_WITHIN))
    t.comment(`3 streams, 20 times: ${inWords(took)}`)
    return took.filter((ms) => ms > STREAMS_WITHIN).map((ms) => `${ms} ms`)
  })
  t.equal(other.filter(({ live }) => live).length, 3, 'and nobody else’s do')
  for (const stream of other) stream.close()
})
