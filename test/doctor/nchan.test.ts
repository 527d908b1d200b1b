// Which workers Nchan's faults concern: none more than one where every stream is cut.

import t from 'tap'

import { ok, problem } from '../../src/doctor/finding.ts'
import { workersThatKick } from '../../src/doctor/nchan.ts'

void t.test('several workers are told of where a stream may be kicked', (t) => {
  const cut = ok('cut', '127.0.0.1:80', 'was cut')
  t.equal(workersThatKick('auto', 'auto', [cut, cut]), '1')
  t.equal(workersThatKick('auto', 'cut', [cut]), '1')
  t.equal(workersThatKick('auto', 'auto', []), 'auto', 'nothing was tried')
  const away = problem('cut', '/s', 'nothing can be cut', 'start it')
  t.equal(workersThatKick('4', 'auto', [cut, away]), '4')
  t.equal(workersThatKick('4', 'kick', [cut]), '4')
  t.end()
})
