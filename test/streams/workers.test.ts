// nginx's processes as a file lists them, by a look and a clock of the test's own; where there is no file, by what
// checks and kicks tell. test/nginx/workers.test.ts has the real ones.

import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { createWorkers } from '../../src/streams/workers.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'

const MASTER = 100

const setUp = (t: Test, ...pids: number[]) => setUpAfter(t, undefined, ...pids)

/** A start that finds this of the time before. */
const setUpAfter = (t: Test, remembered: unknown, ...pids: number[]) => {
  const file = join(t.testdir(), 'cgroup.procs')
  const list = (...now: readonly number[]): void =>
    writeFileSync(file, now.map((pid) => `${pid}\n`).join(''))
  if (pids.length > 0) list(MASTER, ...pids)
  const clock = createTestClock()
  const said: string[] = []
  let look = (): void => undefined
  let stopped = false
  let kept: unknown = remembered
  const workers = createWorkers({
    file,
    remembered,
    remember: (what) => (kept = structuredClone(what)),
    clock: {
      ...clock,
      every(_seconds, job) {
        look = job
        return () => {
          stopped = true
        }
      },
    },
    onDeath: (gone, guessed) =>
      void said.push(`${guessed ? 'guessed ' : ''}death of ${gone.join(' ')}`),
    onReplaced: () => void said.push('replaced'),
  })
  const pass = (seconds: number): void => {
    for (let second = 0; second < seconds; second++) {
      clock.advance(1)
      look()
    }
  }
  return {
    workers,
    said,
    pass,
    /** One look finds these, and the next ones as well. */
    become(...now: readonly number[]) {
      list(MASTER, ...now)
      pass(1)
      pass(1)
    },
    /** One look finds these. */
    flash(...now: readonly number[]) {
      list(MASTER, ...now)
      pass(1)
    },
    kept: () => kept,
    remove: () => rmSync(file),
    isStopped: () => stopped,
    lingers: (worker: number | '', startedAt = NOW) =>
      workers.mayLinger({ worker: String(worker), startedAt }),
  }
}

void t.test('one that is replaced is a death, until all of then are gone', (t) => {
  const { workers, said, become, lingers, isStopped } = setUp(t, 1, 2, 3)
  t.notOk(workers.areGuessed())
  t.notOk(lingers(1))
  become(1, 2, 4)
  t.same(said, ['death of 3'])
  t.ok(workers.reloadDue())
  t.equal(workers.deaths(), 1)
  t.ok(lingers(1))
  t.ok(lingers(''), 'where the worker is not known')
  t.notOk(lingers(3), 'what the dead one held has ended')
  t.notOk(lingers(4), 'what the new one holds came afterwards')
  t.notOk(lingers(1, NOW + 60), 'so does this')
  become(2, 4, 5)
  t.same(said.splice(0), ['death of 3', 'death of 1'])
  t.ok(lingers(4, NOW + 3))
  become(6, 7, 8, 4)
  t.same(said, [], 'one of then is still at a download')
  t.ok(workers.reloadDue())
  become(6, 7, 8)
  t.same(said, ['replaced'])
  t.notOk(workers.reloadDue())
  t.equal(workers.deaths(), 2)
  workers.close()
  t.ok(isStopped())
  t.end()
})

void t.test('a reload is none, in the middle of it or with old ones that linger', (t) => {
  const { workers, said, become, flash, pass, remove } = setUp(t, 1, 2)
  become(3, 4)
  flash(3, 4, 99) // `nginx -s reload` itself
  flash(4, 5, 6)
  flash(5, 6)
  pass(3)
  become(6, 7, 8)
  become(7, 8)
  remove() // stopped
  pass(3)
  become(9, 10)
  t.same(said, [])
  t.notOk(workers.reloadDue())
  become(9)
  become(9, 11)
  t.same(said, [], 'one that is gone for good is no death')
  become(12)
  become(13)
  t.same(said, [], 'nor is anything left over of a single one')
  t.end()
})

void t.test('workers that die on and on are noticed all the same', (t) => {
  const { said, flash } = setUp(t, 1, 2)
  flash(1, 3)
  flash(1, 4)
  t.same(said, [])
  flash(1, 5)
  t.same(said, ['death of 2'])
  t.end()
})

void t.test('a restart ends what a death left', (t) => {
  const { workers, said, become, pass, remove } = setUp(t, 1, 2)
  become(1, 3)
  remove()
  pass(2)
  t.same(said, ['death of 2', 'replaced'])
  t.notOk(workers.reloadDue())
  t.end()
})

void t.test(
  'a guess takes a check that is missing, a new worker and a stream that is gone',
  (t) => {
    const { workers, said, pass, lingers } = setUp(t)
    t.ok(workers.areGuessed())
    workers.foundNobody('9') // of the time before us
    workers.foundNobody('')
    workers.asks('1')
    workers.asks('2')
    pass(1)
    workers.foundNobody('1')
    pass(100)
    workers.asks('2')
    t.same(said, [], 'quiet is not dead')
    workers.asks('3')
    pass(1)
    workers.asks('2')
    t.same(said, [], 'a worker of before a reload answers for a moment')
    pass(2)
    workers.asks('3')
    t.same(said, [], 'after a reload too there are new ones alone')
    workers.asks('2')
    t.same(said, ['guessed death of 1'])
    t.ok(lingers(2))
    t.notOk(lingers(3))
    workers.asks('2')
    pass(100)
    t.ok(workers.reloadDue())
    workers.asks('4')
    pass(60)
    t.ok(workers.reloadDue())
    pass(1)
    t.same(said, ['guessed death of 1', 'replaced'], 'none of then has asked for a minute')
    t.end()
  },
)

void t.test('one that asks again was not dead', (t) => {
  const { workers, said, pass } = setUp(t)
  workers.asks('1')
  workers.asks('2')
  workers.foundNobody('1')
  pass(1)
  workers.asks('1')
  pass(1)
  workers.asks('3')
  pass(5)
  workers.asks('2')
  t.same(said, [])
  t.end()
})

void t.test('of workers that reloads have replaced the last 256 are remembered', (t) => {
  const { workers, said, pass } = setUp(t)
  workers.asks('1')
  workers.asks('2')
  workers.foundNobody('1')
  pass(1)
  for (let pid = 1000; pid < 1256; pid++) workers.asks(String(pid))
  workers.asks('2')
  pass(3)
  workers.asks('2')
  t.same(said, [], 'nothing is known of the first any more')
  workers.foundNobody('1100')
  workers.asks('3')
  pass(3)
  workers.asks('2')
  t.same(said, ['guessed death of 1100'])
  for (let pid = 2000; pid < 2256; pid++) workers.asks(String(pid))
  pass(62)
  t.same(said, ['guessed death of 1100', 'replaced'])
  t.end()
})

void t.test('where the file is read nobody guesses', (t) => {
  const { workers, said, pass } = setUp(t, 1, 2)
  workers.asks('1')
  workers.asks('2')
  workers.foundNobody('1')
  pass(1)
  workers.asks('3')
  pass(9)
  workers.asks('2')
  t.same(said, [])
  t.end()
})

void t.test('the processes that keep nginx’s cache are no workers', (t) => {
  const { workers, said, become, lingers } = setUp(t, 1, 50)
  workers.asks('1')
  become(50, 2)
  t.same(said, [], 'of the only one nothing is left over')
  t.notOk(workers.reloadDue())
  workers.asks('2')
  workers.asks('3')
  become(50, 2, 3)
  become(50, 2, 4)
  t.same(said, ['death of 3'])
  t.ok(lingers(2))
  t.notOk(lingers(50))
  become(50, 5, 6)
  t.same(said, ['death of 3', 'replaced'], 'those that keep the cache may stay')
  t.end()
})

void t.test('our own restart forgets no death, and notices one that it missed', (t) => {
  const first = setUp(t, 1, 2)
  first.workers.asks('1')
  first.workers.asks('2')
  first.become(1, 3)
  t.same(first.said, ['death of 2'])

  const second = setUpAfter(t, first.kept(), 1, 3)
  t.ok(second.workers.reloadDue())
  t.ok(second.lingers(1))
  t.notOk(second.lingers(3))
  t.equal(second.workers.firstAsked('1'), -Infinity, 'it asked long ago')
  t.ok(second.workers.firstAsked('3') > 0)
  second.become(4, 5)
  t.same(second.said, ['replaced'])
  second.workers.asks('4')
  second.workers.asks('5')
  t.match(second.kept(), { processes: ['100', '4', '5'], asked: ['1', '2', '4', '5'] })

  const third = setUpAfter(t, second.kept(), 4, 6)
  t.notOk(third.workers.reloadDue())
  third.pass(1)
  t.same(third.said, ['death of 5'])

  const reloaded = setUpAfter(t, second.kept(), 7, 8)
  reloaded.pass(1)
  t.same(reloaded.said, [])
  for (const odd of [5, null, { processes: 1, asked: {}, died: 'x', lost: {} }]) {
    t.notOk(setUpAfter(t, odd, 1, 2).workers.reloadDue(), 'of another version')
  }
  t.end()
})

void t.test('a list that was lost is due until every worker of then is gone', (t) => {
  const { workers, said, become, lingers, kept } = setUp(t, 1, 2)
  workers.loseList()
  t.ok(workers.reloadDue() && workers.isListLost())
  t.notOk(lingers(1), 'what we know can be ended')
  become(2, 3)
  t.ok(setUpAfter(t, kept(), 2, 3).workers.isListLost())
  become(3, 4)
  t.notOk(workers.isListLost())
  t.same(said, ['death of 1', 'death of 2'], 'one worker after the other died')
  become(5, 6)
  t.same(said.at(-1), 'replaced')
  t.notOk(workers.reloadDue())
  t.end()
})

void t.test('where nothing can be read, whoever asks first may hold what was lost', (t) => {
  const { workers, said, pass } = setUp(t)
  workers.loseList()
  pass(100)
  t.ok(workers.isListLost(), 'nobody has asked')
  workers.asks('1')
  pass(1)
  workers.asks('2')
  pass(60)
  t.ok(workers.isListLost())
  pass(1)
  t.notOk(workers.isListLost())
  t.same(said, ['replaced'])

  const other = setUp(t)
  other.workers.asks('1')
  other.workers.loseList()
  other.pass(1)
  other.workers.asks('1')
  other.pass(100)
  t.ok(other.workers.isListLost(), 'it is still the same')
  t.end()
})
