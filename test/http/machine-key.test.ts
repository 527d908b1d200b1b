// Who shows an unknown machine key, while the counts are full. How it looks from outside: test/cli/machine-key.test.ts.

import t from 'tap'

import { refuse } from '../../src/auth/decision.ts'
import { createMachineKey } from '../../src/auth/machine-key.ts'
import type { Attempt } from '../../src/auth/throttle.ts'
import { createGuessJudge } from '../../src/http/machine-key.ts'
import { requestOf } from '../fixtures/daemon.ts'

const UNKNOWN = refuse('unknown_machine_key')
const request = requestOf(['Authorization', `Bearer ${createMachineKey()}`])

const judgeWith = (begin: () => Attempt, name?: string) => {
  const throttle = { begin, hasLoggedIn: () => false, remember: () => undefined }
  return createGuessJudge({ throttle, nameOf: () => name })
}

void t.test('a guess is told however it is counted', async (t) => {
  const settled: string[] = []
  const told = [{ name: 'MACHINE_KEY_DENIED', message: 'unknown machine key' }]
  const open = judgeWith(() => ({ settle: (outcome) => void settled.push(outcome) }))
  t.same(open(request, UNKNOWN), told)
  t.same(settled, ['failed'])
  const waiting = judgeWith(() => ({ wait: Promise.resolve(), by: 'pair' }))
  t.same(waiting(request, UNKNOWN), told, 'nobody is kept waiting for a refusal')
  const banned = (first: boolean) => judgeWith(() => ({ retryAfter: 9, by: 'address', first }))
  t.match(banned(true)(request, UNKNOWN), [{ name: 'BANNED' }])
  t.same(banned(false)(request, UNKNOWN), [], 'once')
})

void t.test('nothing else is a guess', async (t) => {
  const never = judgeWith(() => {
    throw new Error('counted')
  }, 'key:k')
  t.same(never(request, refuse('expired')), [])
  t.same(never(request, { claims: {}, role: '' } as never), [])
  t.same(never(requestOf([]), UNKNOWN), [])
  t.match(never(request, refuse('wrong_network')), [{ user: 'key:k' }])
})
