// When a source is read again, and what is said of it. With looks by hand instead of a second's wait.
import { setImmediate as soon } from 'node:timers/promises'
import t from 'tap'

import { startWatch } from '../../src/users/watch.ts'

interface Rig {
  mark: string
  inForce: string
  reads: number
  fault: Error | undefined
}

const start = (given: Partial<Rig> = {}) => {
  const rig: Rig = { mark: 'a', inForce: 'a', reads: 0, fault: undefined, ...given }
  const said: string[] = []
  let look = async (): Promise<void> => {}
  let stopped = false
  const watch = startWatch({
    file: '/etc/x',
    mark: 'a',
    readMark: async () => rig.mark,
    isNew: (mark) => mark !== rig.inForce,
    async read() {
      rig.reads++
      await soon()
      if (rig.fault) throw rig.fault
      rig.inForce = rig.mark
    },
    onProblem: (problems) => void said.push(problems.join('|')),
    every(seconds, next) {
      if (seconds !== 1) throw new Error('looked at each second')
      look = next
      return () => (stopped = true)
    },
  })
  return { rig, said, watch, look: () => look(), isStopped: () => stopped }
}

void t.test('a change is read once two looks agree', async (t) => {
  const { rig, look } = start()
  await look()
  t.equal(rig.reads, 0, 'nothing has changed')
  for (const mark of ['b', 'c']) {
    rig.mark = mark
    await look()
    t.equal(rig.reads, 0, 'still being written')
  }
  await look()
  t.equal(rig.reads, 1)
  await look()
  t.equal(rig.reads, 1, 'and not again')
})

void t.test('a change that fails is said once and tried at each look', async (t) => {
  const { rig, look, said, watch } = start({ mark: 'b' })
  rig.fault = new Error('the store is away')
  for (let round = 0; round < 3; round++) await look()
  t.equal(rig.reads, 2)
  t.same(said, ['/etc/x: its changes could not be carried out: tried again each second'])
  rig.fault = undefined
  await look()
  t.equal(rig.inForce, 'b')
  watch.report([])
  watch.report(['broken'])
  watch.report(['broken'])
  t.same(said.slice(1), ['broken'], 'after it was well a problem is said again, once')
})

void t.test('looks do not pile up, and readings wait for each other', async (t) => {
  const { rig, look, watch } = start({ mark: 'b' })
  await look()
  const first = look()
  await look()
  await first
  t.equal(rig.reads, 1)
  rig.fault = new Error('of this one')
  const refused = watch.reload()
  await t.rejects(refused, /of this one/)
  rig.fault = undefined
  await t.resolves(watch.reload(), 'the one before does not stop it')
})

void t.test('nothing is said once it is closed', (t) => {
  const { said, watch, isStopped } = start()
  t.notOk(watch.closed)
  watch.close()
  t.ok(watch.closed && isStopped())
  watch.report(['broken'])
  t.same(said, [])
  t.end()
})
