// Who is due when, against a list that is looked through whole.

import { array, assert, integer, oneof, property, tuple } from 'fast-check'
import t from 'tap'

import { createAgenda } from '../../src/streams/agenda.ts'

void t.test('it says what a look at all of them would say', (t) => {
  const item = integer({ min: 0, max: 9 })
  const instant = integer({ min: 0, max: 40 }).map((tenths) => tenths / 10)
  const step = oneof(tuple(item, instant), tuple(item))
  assert(
    property(array(step), instant, (steps, now) => {
      const agenda = createAgenda<number>()
      const all = new Map<number, number>()
      for (const [one, at] of steps) {
        if (at === undefined) {
          agenda.delete(one)
          all.delete(one)
        } else {
          agenda.set(one, at)
          all.set(one, at)
        }
      }
      const expected = [...all]
        .filter(([, at]) => Math.round(at * 5) / 5 <= now)
        .map(([one]) => one)
      return t.same(new Set(agenda.due(now)), new Set(expected))
    }),
  )
  t.end()
})

void t.test('whoever is dealt with while it is told is not told again', (t) => {
  const agenda = createAgenda<string>()
  for (const name of ['a', 'b', 'c']) agenda.set(name, 1)
  const told: string[] = []
  for (const name of agenda.due(1)) {
    told.push(name)
    if (name === 'a') agenda.delete('b')
    else agenda.set(name, 5)
  }
  t.same(told, ['a', 'c'])
  t.same([...agenda.due(5)].sort(), ['a', 'c'])
  t.end()
})
