// What is done again and again, by a clock of the test's.
import t from 'tap'

import { startUpkeep } from '../../src/daemon/upkeep.ts'
import { createLog } from '../../src/log.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'

const setUp = (prune: (now: number) => Promise<number>) => {
  const lines: string[] = []
  const jobs = new Map<number, () => void>()
  const done: string[] = []
  const stop = startUpkeep({
    store: { prune },
    revocations: { prune: () => done.push('revocations') },
    limit: { allows: () => true, takeSuppressed: () => [{ kind: 'login', count: 3 }] },
    limitWindow: 10,
    log: createLog('info', { write: (line: string) => void lines.push(line) }),
    clock: {
      ...createTestClock(),
      every(seconds, job) {
        jobs.set(seconds, job)
        return () => void jobs.delete(seconds)
      },
    },
    findObstacle: async () => void done.push('looked'),
  })
  return { stop, jobs, lines, done }
}

const settle = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve()
}

void t.test('old sessions go slice by slice, until none is left', async (t) => {
  const slices = [1000, 7, 0, 99]
  const asked: number[] = []
  const { jobs, done, lines, stop } = setUp(async (now) => {
    asked.push(now)
    return slices.shift() ?? 0
  })
  jobs.get(30)?.()
  await settle()
  t.same(asked, [NOW, NOW, NOW])
  t.same(done, ['revocations', 'looked'])
  t.same(lines, [])
  stop()
  t.equal(jobs.size, 0)
})

void t.test('a store that cannot prune is told, and asked again', async (t) => {
  const { jobs, lines } = setUp(() => Promise.reject(new Error('disk full')))
  jobs.get(30)?.()
  jobs.get(30)?.()
  await settle()
  t.equal(lines.length, 2)
  t.match(lines[0], /could not be pruned/)
})

void t.test('lines that were left out are counted', (t) => {
  const { jobs, lines } = setUp(async () => 0)
  jobs.get(10)?.()
  t.match(lines[0], /"kind":"login","count":3/)
  t.end()
})
