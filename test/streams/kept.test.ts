// Whether there is anything to go on from: where it is not known there is nothing.

import t from 'tap'

import { createKeeps } from '../../src/streams/kept.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'

void t.test('a message counts as kept until it expires', async (t) => {
  const clock = createTestClock()
  let end: number | undefined = NOW + 300
  const keeps = createKeeps({ keepsUntil: async () => end }, clock)
  t.equal(await keeps('x'), true)
  clock.advance(298)
  t.equal(await keeps('x'), true)
  clock.advance(1)
  t.equal(await keeps('x'), false, 'it may be gone by the time the stream opens')
  end = undefined
  t.equal(await keeps('x'), false)
})

void t.test(
  'who asks while nginx is being asked shares the answer, and nobody an old one',
  async (t) => {
    const asked: string[] = []
    let answer = Promise.withResolvers<number | undefined>()
    const keeps = createKeeps(
      {
        keepsUntil(channel) {
          asked.push(channel)
          return answer.promise
        },
      },
      createTestClock(),
    )
    const all = [keeps('a'), keeps('a'), keeps('b')]
    t.same(asked, ['a', 'b'])
    answer.resolve(NOW + 300)
    t.same(await Promise.all(all), [true, true, true])
    answer = Promise.withResolvers()
    const later = keeps('a')
    answer.resolve(undefined)
    t.equal(await later, false)
    t.same(asked, ['a', 'b', 'a'])
  },
)

void t.test('an nginx that does not answer keeps nothing', async (t) => {
  const keeps = createKeeps(
    { keepsUntil: () => Promise.reject(new Error('away')) },
    createTestClock(),
  )
  t.equal(await keeps('x'), false)
  t.equal(await keeps('x'), false, 'and is asked again')
})
