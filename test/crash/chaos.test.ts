// A plan must be the seed's alone, and hold every kind of fault that it is there for.

import t from 'tap'

import { type Fault, LONGEST_STOP, planFaults, REDIS } from './chaos.ts'

const killed = (faults: readonly Fault[]): string[] => faults.flatMap(({ kill }) => kill)

void t.test('one host', (t) => {
  const plan = { seed: 7, kills: 500, hosts: ['a'], redis: false }
  const faults = planFaults(plan)
  t.same(planFaults(plan), faults, 'the same seed, the same plan')
  t.notSame(planFaults({ ...plan, seed: 8 }), faults)
  t.same(killed(faults), Array<string>(500).fill('a'))
  t.ok(faults.every(({ after }) => after >= 0.005 && after <= 0.5))
  t.ok(
    faults.some(({ heals }) => !heals),
    'a start is killed as well',
  )
  t.end()
})

void t.test('several hosts and Redis', (t) => {
  const faults = planFaults({ seed: 7, kills: 500, hosts: ['a', 'b', 'c'], redis: true })
  t.equal(killed(faults).length, 500)
  for (const name of ['a', 'b', 'c', REDIS]) {
    t.ok(killed(faults).filter((one) => one === name).length > 50, name)
  }
  t.ok(faults.some(({ kill }) => kill.length === 2 && kill[0] === REDIS))
  t.ok(faults.some(({ kill }) => kill.length === 2 && kill[1] === REDIS))
  const stops = faults.filter(({ stopped }) => stopped > 0)
  t.ok(stops.length > 20)
  t.ok(stops.every(({ kill, stopped }) => kill.length === 0 && stopped <= LONGEST_STOP))
  t.ok(faults.some(({ gone, kill }) => gone > 2 && kill.includes(REDIS)))
  t.end()
})
