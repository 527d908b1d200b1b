// Under which number calls are found, and where nobody can say for sure.
import t from 'tap'
import { numberInCallerid, numberOf } from '../../src/users/number.ts'

void t.test('a name of digits is a number', async (t) => {
  t.same(numberOf('0201'), { number: '0201' })
  for (const other of ['', '20a', ' 201', '201\n', '٢٠١', '２０１', '+201', 201, null, undefined])
    t.same(numberOf(other), {})
})

void t.test('a caller id', async (t) => {
  const rows: [callerid: string, number: string | undefined][] = [
    ['"Ann" <201>', '201'],
    ['Ann <201>', '201'],
    ['<201>', '201'],
    ['201', '201'],
    ['', undefined],
    ['Ann', undefined],
    ['"201"', undefined],
    ['<unknown>', undefined],
    ['"Ann" <+201>', undefined],
    ['"Ann" <201> x', undefined],
    ['"<202>" <201>', undefined],
    ['"Ann" <202> <201>', undefined],
    ['Ann < 201 >', undefined],
  ]
  for (const [callerid, number] of rows)
    t.equal(numberInCallerid(callerid).number, number, callerid)
})
