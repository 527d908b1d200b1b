// A journal must come back from its file as it was, and hold no token.

import { statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

import { createJournal, loadJournal, nameToken, saveJournal } from './journal.ts'

const CHECK = {
  verb: 'check',
  host: 'a',
  status: 204,
  sid: 's',
  token: nameToken('secret'),
} as const

void t.test('it is kept and read again', (t) => {
  const journal = createJournal()
  const start = journal.now()
  journal.write({ ...CHECK, start, answer: 'yes' })
  journal.write({ ...CHECK, start, answer: 'broken' })
  const file = join(t.testdir(), 'journal')
  const saved = { terms: { grace: 4, bound: 0, late: 0 }, operations: journal.operations }
  saveJournal(file, saved)
  t.equal(statSync(file).mode & 0o777, 0o600)
  t.same(loadJournal(file), saved)
  const [first, second] = journal.operations
  t.match(first, { id: 0, start, answer: 'yes' })
  t.ok(first && first.end >= first.start)
  t.equal(second?.id, 1)
  t.end()
})

void t.test('a token is named by something that is none', (t) => {
  t.equal(nameToken('secret'), nameToken('secret'))
  t.not(nameToken('secret'), nameToken('Secret'))
  t.match(nameToken('secret'), /^[0-9a-f]{16}$/)
  t.end()
})

void t.test('it tells of the next acknowledgement', async (t) => {
  const journal = createJournal()
  let told = 0
  const next = journal.nextYes('check').then(() => told++)
  journal.write({ ...CHECK, start: 0, answer: 'no' })
  journal.write({ ...CHECK, verb: 'logout', user: 'u', everywhere: false, start: 0, answer: 'yes' })
  await Promise.resolve()
  t.equal(told, 0)
  journal.write({ ...CHECK, start: 0, answer: 'yes' })
  await next
  t.equal(told, 1)
})
