// Columns as wide as their widest cell, and no blanks at the end of a line.

import t from 'tap'

import { formatTable } from '../../src/cli/table.ts'

void t.test('a row may be longer than the first', async (t) => {
  t.same(formatTable([['a'], ['b', 'more']]), ['a', 'b  more'])
})

void t.test('cells stand below each other', async (t) => {
  t.same(formatTable([]), [])
  t.same(
    formatTable([
      ['NAME', 'ROLE', ''],
      ['201', 'administrator', 'x'],
      ['a longer one', '', ''],
      ['short'],
    ]),
    ['NAME          ROLE', '201           administrator  x', 'a longer one', 'short'],
  )
})
