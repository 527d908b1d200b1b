// Columns as wide as their widest cell, and no blanks at the end of a line; instants.

import t from 'tap'

import { formatTable, timeText } from '../../src/cli/table.ts'

void t.test('a row may be longer than the first', async (t) => {
  t.equal(formatTable([['a'], ['b', 'more']]), 'a\nb  more')
})

void t.test('cells stand below each other', async (t) => {
  t.equal(formatTable([]), '')
  t.equal(
    formatTable([
      ['NAME', 'ROLE', ''],
      ['201', 'administrator', 'x'],
      ['a longer one', '', ''],
      ['short'],
    ]),
    ['NAME          ROLE', '201           administrator  x', 'a longer one', 'short'].join('\n'),
  )
})

void t.test('an instant is UTC, to the second', async (t) => {
  t.equal(timeText(1_800_000_000), '2027-01-15T08:00:00Z')
})
