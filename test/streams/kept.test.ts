// Whether there is anything to go on from: where it is not known there is nothing.

import t from 'tap'

import { createKeeps } from '../../src/streams/kept.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'

/** A clock on which waiting takes no time of ours. */
const createTime = () => {
  const clock = createTestClock()
  const waits: number[] = []
  const wait = async (seconds: number): Promise<void> => {
    waits.push(seconds)
    clock.advance(seconds)
  }
  return { ...clock, wait, waits }
}

/** Each asks for the first time as it is named here. */
const remember = ({ monotonic }: { monotonic(): number }) => {
  const first = new Map<string, number>()
  return (worker: string): number => {
    first.set(worker, first.get(worker) ?? monotonic())
    return Number(first.get(worker))
  }
}

void t.test('a message counts as kept until it expires', async (t) => {
  const time = createTime()
  let end: number | undefined = NOW + 300
  const keeps = createKeeps({ keepsUntil: async () => end }, remember(time), time)
  t.equal(await keeps('x', '1'), true)
  time.advance(297)
  t.equal(await keeps('x', '1'), true)
  time.advance(1)
  t.equal(await keeps('x', '1'), false, 'it may be gone by the time the stream opens')
  end = undefined
  t.equal(await keeps('x', '1'), false)
})

void t.test('for a worker that is new to us nginx is asked again, a second later', async (t) => {
  const time = createTime()
  let asked = 0
  const answers = [true, false, true, true, true, false]
  const keepsUntil = async (): Promise<number | undefined> =>
    answers[asked++] === true ? NOW + 300 : undefined
  const keeps = createKeeps({ keepsUntil }, remember(time), time)
  t.equal(await keeps('x', '1'), false, 'one of before the reload had answered')
  t.equal(await keeps('x', '1'), true, 'by now none does')
  t.equal(await keeps('x', '2'), true)
  t.equal(await keeps('x', '3'), false)
  t.same(time.waits, [1, 1], 'and where nothing is kept nobody waits')
  t.equal(asked, 6)
})

void t.test(
  'who asks while nginx is being asked shares the answer, and nobody an old one',
  async (t) => {
    const asked: string[] = []
    let answer = Promise.withResolvers<number | undefined>()
    const time = createTime()
    const keeps = createKeeps(
      {
        keepsUntil(channel) {
          asked.push(channel)
          return answer.promise
        },
      },
      remember(time),
      time,
    )
    const first = keeps('a', '1')
    answer.resolve(undefined)
    await first
    time.advance(2)
    answer = Promise.withResolvers()
    const all = [keeps('a', '1'), keeps('a', '1'), keeps('b', '1')]
    answer.resolve(NOW + 300)
    t.same(await Promise.all(all), [true, true, true])
    t.same(asked, ['a', 'a', 'b'])
  },
)

void t.test(
  'who comes back with too many others begins with what is kept, and waits for none',
  async (t) => {
    let asked = 0
    const answer = Promise.withResolvers<number | undefined>()
    const keepsUntil = (): Promise<number | undefined> => {
      asked++
      return answer.promise
    }
    const time = createTime()
    const keeps = createKeeps({ keepsUntil }, remember(time), time)
    const all = Array.from({ length: 1000 }, (_, n) => keeps(`users-state-user-${n}`, '1'))
    const shared = keeps('users-state-user-0', '1')
    t.equal(await Promise.race([keeps('users-state-user-1000', '1'), shared]), false)
    t.equal(asked, 1000)
    answer.resolve(NOW + 300)
    t.same(new Set(await Promise.all([...all, shared])), new Set([true]))
  },
)

void t.test('an nginx that does not answer keeps nothing', async (t) => {
  const time = createTime()
  const keepsUntil = (): Promise<number> => Promise.reject(new Error('away'))
  const keeps = createKeeps({ keepsUntil }, remember(time), time)
  t.equal(await keeps('x', '1'), false)
  t.equal(await keeps('x', '1'), false, 'and is asked again')
})
