// Header lines: which came once, which twice. Without a server.

import t from 'tap'

import { readHeaders } from '../../src/http/headers.ts'

void t.test('names know no case, and a line that came once has its value', (t) => {
  const headers = readHeaders(['Host', 'x', 'AUTHORIZATION', 'Bearer a'])
  t.equal(headers.get('authorization'), 'Bearer a')
  t.equal(headers.get('cookie'), undefined)
  t.notOk(headers.isRepeated('host'))
  t.end()
})

void t.test('S62: a line that came twice has no value, also where both are equal', (t) => {
  for (const [one, two] of [
    ['a', 'b'],
    ['a', 'a'],
    ['', ''],
  ] as const) {
    const headers = readHeaders(['Authorization', one, 'authorization', two])
    t.equal(headers.get('authorization'), undefined)
    t.ok(headers.isRepeated('authorization'))
  }
  const thrice = readHeaders(['x-a', '1', 'X-A', '2', 'x-A', '3', 'x-b', '1', 'x-b', '2'])
  t.ok(thrice.isRepeated('x-a') && thrice.isRepeated('x-b'))
  t.end()
})

void t.test('a Cookie line may come in pieces', (t) => {
  const headers = readHeaders(['Cookie', 'a=1', 'cookie', 'b=2', 'Cookie', 'c=3'])
  t.equal(headers.get('cookie'), 'a=1; b=2; c=3')
  t.notOk(headers.isRepeated('cookie'))
  t.end()
})

void t.test('S108: names of the prototype are names', (t) => {
  const headers = readHeaders(['__proto__', 'x', 'constructor', 'y'])
  t.equal(headers.get('__proto__'), 'x')
  t.equal(headers.get('constructor'), 'y')
  t.equal(headers.get('toString'), undefined)
  t.equal(headers.get('hasOwnProperty'), undefined)
  t.end()
})
