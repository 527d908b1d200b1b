// What a claim's value may be; token.test.ts shows it on whole tokens.

import t from 'tap'
import { isAudience, isId, isInstant, isName, isNumber } from '../../src/auth/claims.ts'

void t.test('a name is printable, trimmed, well formed and bounded', async (t) => {
  for (const name of ['201', 'Jürgen', 'пользователь', '0', 'a b']) t.ok(isName(name, 20), name)
  for (const name of ['', ' a', 'a ', 'a\n', 'a\u202e', '\ud800', 'a'.repeat(21), 7, null, ['a']]) {
    t.notOk(isName(name, 20), JSON.stringify(name))
  }
})

void t.test('an instant is a whole second of our era', async (t) => {
  for (const at of [1, 1_800_000_000]) t.ok(isInstant(at))
  for (const at of [0, -1, 1.5, Number.POSITIVE_INFINITY, '1', null, true])
    t.notOk(isInstant(at), String(at))
})

void t.test('a number is digits as ASCII has them, and text', async (t) => {
  for (const number of ['0', '201', '0202', '1'.repeat(256)]) t.ok(isNumber(number))
  for (const number of ['', '+201', ' 201', '201\n', '２０１', '٢٠١', '2.0', 201, null, ['201']]) {
    t.notOk(isNumber(number), JSON.stringify(number))
  }
  t.notOk(isNumber('1'.repeat(257)))
})

void t.test('an id is 1 to 64 letters, digits, - or _', async (t) => {
  t.ok(isId('a-_9'))
  for (const id of ['', 'a b', 'a'.repeat(65), 7]) t.notOk(isId(id), String(id))
})

void t.test('an audience is ours, or a list of texts with ours in it', async (t) => {
  for (const aud of ['pbx', ['pbx'], ['a', 'pbx']]) t.ok(isAudience(aud, 'pbx'))
  for (const aud of ['pbx2', 'PBX', [], ['a'], [['pbx']], ['pbx', 7], undefined, 7]) {
    t.notOk(isAudience(aud, 'pbx'), JSON.stringify(aud))
  }
})
