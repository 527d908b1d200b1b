import t from 'tap'
import { openCalls } from '../../src/daemon/open-calls.ts'

void t.test('the sources that are named, and no other', (t) => {
  const recording = 'external-201-15551230000-20261128-102000-1795861200.40.wav'
  const none = openCalls({ sources: [], namePatterns: ['{party}.wav'] })
  t.equal(none.isParty(recording, '201'), undefined)
  t.equal(none.isParty('201.wav', '201'), undefined)
  const names = openCalls({ sources: ['names'], namePatterns: ['{party}.wav'] })
  t.equal(names.isParty(recording, '201'), true)
  t.same(names.explain('201.wav'), [{ source: 'names', parties: ['201'] }])
  t.end()
})
