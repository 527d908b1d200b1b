import t from 'tap'

import { faultCode, redisFault, toRedisFault } from '../../../src/store/redis/fault.ts'
import { StoreError } from '../../../src/store/store.ts'

void t.test('a fault names its cure', (t) => {
  const socket = (code: string) => Object.assign(new Error('x'), { code })
  const cases = [
    [new Error("READONLY You can't write against a read only replica."), /at the primary/],
    [new Error('LOADING Redis is loading the dataset in memory'), /wait/],
    [new Error('NOAUTH Authentication required.'), /password/],
    [new Error("OOM command not allowed when used memory > 'maxmemory'."), /raise its maxmemory/],
    [new Error('MISCONF Redis is configured to save RDB snapshots'), /make room/],
    [socket('ECONNREFUSED'), /start it/],
    [
      socket('DEPTH_ZERO_SELF_SIGNED_CERT'),
      /in store\.ca_file; .*update-ca-certificates; then restart/,
    ],
    [socket('EUNHEARD'), /^r: EUNHEARD: x$/],
    [new Error('Socket closed unexpectedly'), /^r: ECONNRESET: the connection broke/],
    [new Error('Connection timeout'), /^r: ETIMEDOUT: it does not answer/],
    ['thrown text', /^r: thrown text$/],
    [undefined, /^r: undefined$/],
  ] as const
  for (const [cause, message] of cases) {
    const fault = toRedisFault(cause, 'r')
    t.match(fault, { name: 'StoreError', code: 'unavailable', message })
    t.equal(fault.cause, cause)
  }
  t.match(redisFault('EVICTS', 'r'), { message: /noeviction/ })
  t.end()
})

void t.test('a fault of ours stays what it is', (t) => {
  const busy = new StoreError('busy', 'x')
  t.equal(toRedisFault(busy, 'r'), busy)
  t.end()
})

void t.test('the code is the first word of a reply, never one inside', (t) => {
  t.equal(faultCode(new Error('NOSCRIPT No matching script.')), 'NOSCRIPT')
  t.equal(faultCode(new Error('a NOSCRIPT inside')), '')
  t.equal(faultCode(null), '')
  t.end()
})
