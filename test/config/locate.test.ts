// Where a setting stands in its file.

import * as fc from 'fast-check'
import { parse, stringify } from 'smol-toml'
import t from 'tap'
import { createLocator } from '../../src/config/locate.ts'

const TOML = String.raw`# 1: [not.a.table]
top = 1
dotted . key = { inner = "x", deep.er = [1, 2] }  # 3
"quoted \"key" = 1
'literal.key' = 1
"\U0001F600" = 1

[table]   # 8
text = """
table = 1
[fake]
\"""
"""       # 13
raw = '''
raw = 1'''
list = [  # 16
  "one",
  # two = "]"
  [ 2, 2 ],
  { name = "three" },
]
when = 1979-05-27 07:32:00
after = 1

[[many]]
a = 1
[many.sub]
b = 1
[[many]]
a = 2
[[many.sub2]]
c = 1
[ "table" . other ]
last = "]"`

void t.test('a setting is found on its line, whatever stands before it', async (t) => {
  const locate = createLocator(TOML, parse)
  const cases: readonly (readonly [path: readonly (string | number)[], line: number])[] = [
    [['top'], 2],
    [['dotted'], 3],
    [['dotted', 'key'], 3],
    [['dotted', 'key', 'inner'], 3],
    [['dotted', 'key', 'deep', 'er', 1], 3],
    [['quoted "key'], 4],
    [['literal.key'], 5],
    [['table'], 8],
    [['table', 'text'], 9],
    [['table', 'raw'], 14],
    [['table', 'list'], 16],
    [['table', 'list', 0], 17],
    [['table', 'list', 1, 1], 19],
    [['table', 'list', 2, 'name'], 20],
    [['table', 'when'], 22],
    [['table', 'after'], 23],
    [['many'], 25],
    [['many', 0], 25],
    [['many', 0, 'a'], 26],
    [['many', 0, 'sub', 'b'], 28],
    [['many', 1, 'a'], 30],
    [['many', 1, 'sub2', 0, 'c'], 32],
    [['table', 'other'], 33],
    [['table', 'other', 'last'], 34],
    // What is not there is where it would be: in the nearest table that is.
    [['table', 'absent'], 8],
    [['many', 1, 'sub2', 7], 31],
    [['absent', 'x'], 1],
    [[], 1],
  ]
  for (const [path, line] of cases) t.equal(locate(path), line, JSON.stringify(path))
})

void t.test('what is open at the end of a line hides nothing', async (t) => {
  const toml = 'a = { b = [\n  1,\n  2 ] }\nc = [[\n 1 ],\n [ 2 ]]'
  const locate = createLocator(toml, parse)
  t.same(
    [['a', 'b'], ['a', 'b', 1], ['c'], ['c', 1]].map((path) => locate(path)),
    [1, 3, 5, 6],
  )
  t.equal(createLocator('= ] [', parse)(['a']), 1, 'text that is no TOML holds nothing')
})

void t.test('in any document, a setting is found on a line that names it', async (t) => {
  const key = fc.stringMatching(/^[a-z]{1,4}$/)
  const { document } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.integer(),
      fc.string(),
      fc.boolean(),
      fc.date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) }),
      fc.array(fc.string()),
      tie('document'),
      fc.array(tie('document'), { minLength: 1, maxLength: 3 }),
    ),
    document: fc.dictionary(key, tie('value'), { maxKeys: 4 }),
  }))
  fc.assert(
    fc.property(document, (made) => {
      const text = stringify(made)
      const lines = text.split('\n')
      const locate = createLocator(text, parse)
      const walk = (value: unknown, path: readonly (string | number)[]) => {
        const last = path.at(-1)
        if (typeof last === 'string') {
          const line = locate(path)
          if (!lines[line - 1]?.includes(last)) {
            throw new Error(`${JSON.stringify(path)} is not on line ${line} of\n${text}`)
          }
        }
        if (value instanceof Date || typeof value !== 'object' || value === null) return
        for (const [name, inner] of Object.entries(value)) {
          walk(inner, [...path, Array.isArray(value) ? Number(name) : name])
        }
      }
      walk(parse(text), [])
    }),
  )
  t.pass('each was')
})
