// Turns, by rank and then by age.

import t from 'tap'

import { createRankedQueue } from '../../src/streams/ranked-queue.ts'

void t.test('the most pressing first, then the oldest', async (t) => {
  const queue = createRankedQueue<string>(2)
  t.ok(queue.isEmpty())
  for (const item of ['c1', 'c2', 'c3', 'c4', 'c5']) queue.add(item, 1)
  queue.add('a1', 0)
  t.same(queue.take(2), ['a1', 'c1'])
  t.same(queue.take(0), [])
  queue.add('a2', 0)
  queue.add('c6', 1)
  t.same(queue.take(3), ['a2', 'c2', 'c3'])
  t.notOk(queue.isEmpty())
  t.same(queue.take(9), ['c4', 'c5', 'c6'])
  t.ok(queue.isEmpty())
})
