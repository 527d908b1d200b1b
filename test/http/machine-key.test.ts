// Who shows an unknown machine key, while the counts are full or away. How it looks from outside: test/cli/machine-key.test.ts.

import t from 'tap'

import { refuse } from '../../src/auth/decision.ts'
import { createMachineKey } from '../../src/auth/machine-key.ts'
import type { Attempt } from '../../src/auth/throttle.ts'
import { createGuessJudge } from '../../src/http/machine-key.ts'
import { requestOf } from '../fixtures/daemon.ts'

const UNKNOWN = refuse('unknown_machine_key')
const request = requestOf(['Authorization', `Bearer ${createMachineKey()}`])

const judgeWith = (begin: () => Attempt | Promise<Attempt>, name?: string) =>
  createGuessJudge({ throttle: { begin }, nameOf: () => name })

void t.test('a guess is told however it is counted', async (t) => {
  const settled: string[] = []
  const told = [{ name: 'MACHINE_KEY_DENIED', message: 'unknown machine key' }]
  const open = judgeWith(() => ({ settle: (outcome) => void settled.push(outcome) }))
  t.same(await open(request, UNKNOWN), told)
  t.same(settled, ['failed'])
  t.same(await judgeWith(async () => Promise.reject(new Error('away')))(request, UNKNOWN), told)
  const broken = (): never => {
    throw new Error('away')
  }
  t.same(await judgeWith(broken)(request, UNKNOWN), told)
  const waiting = judgeWith(() => ({ wait: Promise.resolve(), by: 'pair' }))
  t.same(await waiting(request, UNKNOWN), told, 'nobody is kept waiting for a refusal')
  const banned = (first: boolean) => judgeWith(() => ({ retryAfter: 9, by: 'address', first }))
  t.match(await banned(true)(request, UNKNOWN), [{ name: 'BANNED' }])
  t.same(await banned(false)(request, UNKNOWN), [], 'once')
})

void t.test('nothing else is a guess', async (t) => {
  const never = judgeWith(() => {
    throw new Error('counted')
  }, 'key:k')
  t.same(await never(request, refuse('expired')), [])
  t.same(await never(request, { claims: {}, role: '' } as never), [])
  t.same(await never(requestOf([]), UNKNOWN), [])
  t.match(await never(request, refuse('wrong_network')), [{ user: 'key:k' }])
})
