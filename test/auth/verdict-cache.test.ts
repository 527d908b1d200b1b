// What is remembered is bounded, and what is asked for stays.

import t from 'tap'
import { createVerdictCache } from '../../src/auth/verdict-cache.ts'

void t.test('remembers under exactly the text it was given', async (t) => {
  const cache = createVerdictCache<number>(10)
  cache.set('a.b', 1)
  t.equal(cache.get('a.b'), 1)
  for (const other of ['a.b ', ' a.b', 'A.b', 'a.b\0', 'a', ''])
    t.equal(cache.get(other), undefined)
})

void t.test("another token with somebody's signature is another token", async (t) => {
  const end = '.'.padEnd(44, 's')
  const [mine, forged] = [`header.mine${end}`, `header.admin${end}`]
  const cache = createVerdictCache<string>(1)
  cache.set(mine, 'mine')
  t.equal(cache.get(forged), undefined)
  t.equal(cache.get(mine), 'mine')
  cache.set('another', 'makes mine old')
  t.equal(cache.get(forged), undefined, 'nor in the old half')
  cache.set(forged, 'forged')
  t.equal(cache.get(forged), 'forged')
})

void t.test('never holds more than twice its size', async (t) => {
  const size = 50
  const cache = createVerdictCache<number>(size)
  for (let i = 0; i < 10_000; i++) cache.set(`key ${i}`, i)
  let held = 0
  // Asked from the newest on: a hit in the old half moves, which must not bring others back.
  for (let i = 9999; i >= 0; i--) if (cache.get(`key ${i}`) !== undefined) held++
  t.ok(held >= size && held <= 2 * size, `${held} held`)
  for (let i = 0; i < 9000; i++) {
    if (cache.get(`key ${i}`) !== undefined) t.fail(`key ${i} should be long gone`)
  }
})

void t.test('what is asked for again outlives what is not', async (t) => {
  const cache = createVerdictCache<string>(10)
  cache.set('busy', 'kept')
  for (let i = 0; i < 1000; i++) {
    cache.set(`passer-by ${i}`, 'gone')
    if (i % 5 === 0) cache.get('busy')
  }
  t.equal(cache.get('busy'), 'kept')
  t.equal(cache.get('passer-by 0'), undefined)
})

void t.test('a later verdict takes the place of an earlier one', async (t) => {
  const cache = createVerdictCache<number>(2)
  cache.set('a', 1)
  cache.set('b', 1)
  cache.set('c', 1)
  cache.set('a', 2)
  t.equal(cache.get('a'), 2)
})
