// One JSON text, one reading: equal to JSON.parse wherever that is not ambiguous, and nothing where it is.

import * as fc from 'fast-check'
import t from 'tap'
import { parseStrictObject } from '../../src/auth/strict-json.ts'

const parse = (text: string) => parseStrictObject(Buffer.from(text))

void t.test('reads what JSON.parse reads', async (t) => {
  for (const text of [
    '{}',
    ' { } ',
    '{"a":1,"b":[1,{"a":2},"a","a"],"c":{"a":{"a":1}}}',
    '{"a":"{\\"a\\":1,\\"a\\":2}"}',
    '{"a":"a","b":"a"}',
    '{"a":["a","a"],"b":"\\\\"}',
    '{"":1,"\\"":2,"\\\\":3}',
    '{"a":[],"b":{},"c":[[],[{}]]}',
    '{"__proto__":1,"constructor":2}',
  ]) {
    t.strictSame(parse(text), JSON.parse(text), text)
  }
})

void t.test(
  'refuses a name that stands twice, however it is spelled and however deep',
  async (t) => {
    for (const text of [
      '{"sub":"201","sub":"admin"}',
      '{"sub":"201","sub":"201"}',
      '{"sub":"201","\\u0073ub":"admin"}',
      '{"\\u0073\\u0075\\u0062":1,"su\\u0062":2}',
      '{"a":{"b":1,"b":2}}',
      '{"a":[{"b":1,"b":2}]}',
      '{"a":[[],{}],"b":{},"a":1}',
      '{ "a" : "x" , "b" : { } , "a" : 1 }',
      '{"":1,"":2}',
      '{"\\"":1,"\\"":2}',
      '{"\\ud83d\\ude00":1,"😀":2}',
      '{"__proto__":1,"__proto__":2}',
    ]) {
      t.equal(parse(text), undefined, text)
    }
  },
)

void t.test('refuses what is no object', async (t) => {
  for (const text of [
    '',
    ' ',
    'null',
    '[1]',
    '"x"',
    '1',
    'true',
    '{',
    '{"a":1}x',
    "{'a':1}",
    '{a:1}',
  ]) {
    t.equal(parse(text), undefined, text)
  }
})

void t.test('refuses bytes that are not UTF-8, and a byte order mark', async (t) => {
  const rows: readonly (readonly [what: string, hex: string])[] = [
    ['a byte order mark', 'efbbbf7b7d'],
    ['an overlong slash', '7b2261223a22c0af227d'],
    ['half a character', '7b2261223a22e282227d'],
    ['a surrogate', '7b2261223a22eda080227d'],
    ['latin-1', '7b2261223a22e9227d'],
    ['UTF-16', 'fffe7b007d00'],
  ]
  for (const [what, hex] of rows) {
    t.equal(parseStrictObject(Buffer.from(hex, 'hex')), undefined, what)
  }
})

void t.test('an object without a repeated name is read as JSON.parse reads it', async (t) => {
  const object = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue())
  fc.assert(
    fc.property(object, fc.constantFrom(0, 2), (value, indent) => {
      const text = JSON.stringify(value, undefined, indent)
      t.strictSame(parse(text), JSON.parse(text))
    }),
    { numRuns: 300 },
  )
  t.pass('300 objects')
})

void t.test('an object with a repeated name is never read', async (t) => {
  const member = fc.tuple(fc.string({ unit: 'binary' }), fc.jsonValue())
  const object = fc.uniqueArray(member, { minLength: 1, selector: ([name]) => name })
  fc.assert(
    fc.property(object, fc.nat(), fc.nat(), fc.jsonValue(), (members, from, to, value) => {
      const again: [string, unknown] = [members[from % members.length]?.[0] ?? '', value]
      const all = members.toSpliced(to % (members.length + 1), 0, again as (typeof members)[number])
      const body = all.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`)
      return parse(`{${body.join(',')}}`) === undefined
    }),
    { numRuns: 300 },
  )
  t.pass('300 objects')
})
