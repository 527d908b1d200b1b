// Who shows an unknown machine key, while the counts are full. How it looks from outside: test/cli/machine-key.test.ts.

import t from 'tap'

import type { Reason } from '../../src/auth/decision.ts'
import { createMachineKey } from '../../src/auth/machine-key.ts'
import type { Attempt } from '../../src/auth/throttle.ts'
import { createKeyDoor } from '../../src/http/machine-key.ts'
import type { Reply } from '../../src/http/reply.ts'
import { requestOf } from '../fixtures/daemon.ts'

const request = requestOf(['Authorization', `Bearer ${createMachineKey()}`])
const OTHER = [{ name: 'MEDIA_ACCESS_DENIED', message: 'expired' }] as const

/** What the log is told, where a route answers with this reason. */
const toldBy = async (begin: () => Attempt, reason?: Reason, name?: string) => {
  const throttle = { begin, hasLoggedIn: () => false, remember: () => undefined }
  const door = createKeyDoor({ throttle, nameOf: () => name })
  const reply: Reply = { status: 401, headers: [], reason, events: OTHER }
  const shape = (error: string) => ({ error })
  const { handler } = door({
    name: 'check',
    method: 'GET',
    path: '/check',
    handler: async () => reply,
    shape,
  })
  return (await handler(request)).events
}

void t.test('a guess is told however it is counted', async (t) => {
  const settled: string[] = []
  const told = [{ name: 'MACHINE_KEY_DENIED', message: 'unknown machine key' }]
  const unknown = (begin: () => Attempt) => toldBy(begin, 'unknown_machine_key')
  t.same(await unknown(() => ({ settle: (outcome) => void settled.push(outcome) })), told)
  t.same(settled, ['failed'])
  const waiting = { wait: Promise.resolve(), by: 'pair' } as const
  t.same(await unknown(() => waiting), told, 'nobody is kept waiting for a refusal')
  const banned = (first: boolean) => unknown(() => ({ retryAfter: 9, by: 'address', first }))
  t.match(await banned(true), [{ name: 'BANNED' }])
  t.same(await banned(false), [], 'once')
})

void t.test('nothing else is a guess', async (t) => {
  const never = () => {
    throw new Error('counted')
  }
  t.same(await toldBy(never, 'expired'), OTHER)
  t.same(await toldBy(never), OTHER)
  t.match(await toldBy(never, 'wrong_network', 'key:k'), [{ user: 'key:k' }])
})
