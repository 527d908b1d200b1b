// Refreshes of one token at three hosts at once, where check-then-act would show.

import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { IN_MEMORY, inOneOfThree, openHosts, PATIENT } from './bed.ts'
import { inWords } from './load.ts'
import { NEEDS_HOSTS } from './network.ts'

const AT_ONCE = 50
const ROUNDS = 100
const GRACE = 10 // seconds: longer than any round, with the machine's other work

void t.test(
  'fifty refreshes of one token over three hosts have one successor, a hundred times',
  NEEDS_HOSTS,
  async (t) => {
    const { hosts } = await openHosts(
      t,
      ['a', 'b', 'c'],
      { ...PATIENT, refresh: `grace = ${GRACE}` },
      IN_MEMORY,
    )
    const [a, b, c] = hosts
    const at = (index: number) => hosts[(index % 3) as 0 | 1 | 2]
    await inOneOfThree(t, 'all answered', async () => {
      let token = (await a.enter()).refresh
      let last: string[] = []
      let unanswered = 0
      const odd: string[] = []
      const took: number[] = []
      for (let round = 0; round < ROUNDS; round++) {
        const startedAt = performance.now()
        const answers = await Promise.all(
          Array.from({ length: AT_ONCE }, (_, index) => at(index).rotate(token)),
        )
        took.push(performance.now() - startedAt)
        const given = answers.filter(({ status }) => status === 200)
        // A 503 says that the store was too slow: no answer, and no wrong one.
        unanswered += answers.filter(({ status }) => status === 503).length
        if (answers.some(({ status }) => status !== 200 && status !== 503)) {
          odd.push(`${round}: ${answers.map(({ status }) => status).join()}`)
        }
        if (given.length === 0) continue
        const successors = new Set(given.map(({ next }) => next))
        if (successors.size !== 1) odd.push(`${round}: ${successors.size} successors`)
        if (successors.has(token) || successors.has('')) odd.push(`${round}: nothing was rotated`)
        token = given[0]?.next ?? ''
        last = given.map(({ access }) => access)
      }
      t.same(odd, [], 'one successor in each round')
      t.comment(`${AT_ONCE} at once, ${ROUNDS} times: ${inWords(took)} a round`)
      const checks = await Promise.all(last.map((access, index) => at(index + 1).check(access)))
      t.same([...new Set(checks)], ['204'], 'what one host gave the others take')

      const next = await b.rotate(token)
      t.equal(next.status, 200)
      await pause(GRACE * 1000 + 1100)
      const live = await c.rotate(next.next)
      t.equal(live.status, 200, 'one lives')
      t.equal((await a.rotate(token)).status, 401, 'and no other: it counts as stolen')
      t.equal((await b.rotate(live.next)).status, 401, 'which ends the session everywhere')
      return unanswered === 0 ? [] : [`${unanswered} got a 503`]
    })
  },
)
