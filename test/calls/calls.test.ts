import t from 'tap'
import type { CallSource } from '../../src/calls/call-source.ts'
import { createCalls } from '../../src/calls/calls.ts'

const sourceOf = (
  name: CallSource['name'],
  known: Readonly<Record<string, readonly string[]>>,
): CallSource => ({ name, partiesOf: (recording) => known[recording] })

void t.test('sources add parties and never remove one', (t) => {
  const names = sourceOf('names', { both: ['201'], 'by name': ['201'], nobody: [] })
  const cdr = sourceOf('cdr', { both: ['202'], 'by row': ['203'], nobody: [] })
  const rows: readonly [recording: string, number: string, isParty: boolean | undefined][] = [
    ['both', '201', true],
    ['both', '202', true],
    ['both', '203', false],
    ['by name', '201', true],
    ['by name', '202', false],
    ['by row', '203', true],
    ['by row', '201', false],
    ['nobody', '201', false],
    ['unknown', '201', undefined],
  ]
  for (const calls of [createCalls([names, cdr]), createCalls([cdr, names])]) {
    for (const [recording, number, isParty] of rows) {
      t.equal(calls.isParty(recording, number), isParty, `${recording}: ${number}`)
    }
  }
  t.equal(createCalls([]).isParty('both', '201'), undefined, 'without a source nothing is known')
  t.end()
})

void t.test('an operator hears which source spoke', (t) => {
  const calls = createCalls([
    sourceOf('names', { a: ['201'], b: [] }),
    sourceOf('cdr', { a: ['201', '202'] }),
  ])
  t.same(calls.explain('a'), [
    { source: 'names', parties: ['201'] },
    { source: 'cdr', parties: ['201', '202'] },
  ])
  t.same(calls.explain('b'), [{ source: 'names', parties: [] }])
  t.same(calls.explain('c'), [])
  t.end()
})
