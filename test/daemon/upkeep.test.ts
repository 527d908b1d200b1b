// What is done again and again, by a clock of the test's.
import t from 'tap'

import { startUpkeep } from '../../src/daemon/upkeep.ts'
import { createLog } from '../../src/log.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'

const setUp = (
  prune: (now: number, past: number, idleTtl: number) => Promise<number>,
  past = 0,
) => {
  const lines: string[] = []
  const jobs = new Map<number, () => void>()
  const done: string[] = []
  const clock = createTestClock()
  const counted: number[][] = []
  const stop = startUpkeep({
    store: {
      prune,
      async countTime(...told) {
        counted.push(told)
        return past
      },
    },
    revocations: { forget: (upTo) => void done.push(`forgotten ${upTo}`) },
    machineKeys: { forget: async (upTo) => void done.push(`keys ${upTo}`) },
    limit: { allows: () => true, takeSuppressed: () => [{ kind: 'login', count: 3 }] },
    limitWindow: 10,
    securityWindow: 60,
    observer: { sayLeftOut: () => void done.push('left out') },
    log: createLog('info', { write: (line: string) => void lines.push(line) }),
    clock: {
      ...clock,
      every(seconds, job) {
        jobs.set(seconds, job)
        return () => void jobs.delete(seconds)
      },
    },
    findObstacle: async () => void done.push('looked'),
    idleTtl: () => 5,
  })
  return { stop, jobs, lines, done, clock, counted }
}

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve()
}

void t.test('old sessions go slice by slice, until none is left', async (t) => {
  const slices = [1000, 7, 0, 99]
  const asked: number[][] = []
  const { jobs, done, lines, stop } = setUp(async (...told) => {
    asked.push(told)
    return slices.shift() ?? 0
  }, 70)
  jobs.get(30)?.()
  await settle()
  t.same(
    asked,
    [1, 2, 3].map(() => [NOW, 70, 5]),
  )
  t.same(done, ['looked', 'forgotten 70', 'keys 70'])
  t.same(lines, [])
  stop()
  t.equal(jobs.size, 0)
  t.equal(done.at(-1), 'left out', 'what was left out is said before the end')
})

void t.test('time is counted by the monotonic clock, whatever the other says', async (t) => {
  const { jobs, clock, counted } = setUp(async () => 0)
  for (const jump of [0, 7200, -7200]) {
    clock.jump(jump)
    clock.advance(30)
    jobs.get(30)?.()
    await settle()
  }
  t.same(counted, [
    [NOW + 30, 30],
    [NOW + 7260, 30],
    [NOW + 90, 30],
  ])
})

void t.test('no second is counted twice where the store takes minutes', async (t) => {
  const slice = Promise.withResolvers<number>()
  const { jobs, clock, counted } = setUp(() => slice.promise)
  const look = (): void => {
    clock.advance(30)
    jobs.get(30)?.()
  }
  look()
  look()
  await settle()
  look()
  slice.resolve(0)
  await settle()
  look()
  t.same(counted, [
    [NOW + 30, 30],
    [NOW + 120, 90],
  ])
})

void t.test('a clock that stands before what is past is told, with the cure', async (t) => {
  const { jobs, lines } = setUp(async () => 0, NOW + 1)
  jobs.get(30)?.()
  await settle()
  t.match(lines, [/tokens are refused until then; correct the clock, or.* session end --all/])
})

void t.test('a store that cannot prune is told, and asked again', async (t) => {
  const { jobs, lines } = setUp(() => Promise.reject(new Error('disk full')))
  jobs.get(30)?.()
  await settle()
  jobs.get(30)?.()
  await settle()
  t.equal(lines.length, 2)
  t.match(lines[0], /could not be pruned/)
})

void t.test('lines that were left out are counted', (t) => {
  const { jobs, lines, done } = setUp(async () => 0)
  jobs.get(10)?.()
  t.match(lines[0], /"kind":"login","count":3/)
  jobs.get(60)?.()
  t.same(done, ['left out'], 'and of the security log')
  t.end()
})
