// A store that hangs keeps nobody waiting.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { within } from '../../src/daemon/within.ts'

void t.test('what comes in time is the answer, as it is', async (t) => {
  t.equal(await within(Promise.resolve(7), 1000), 7)
  await t.rejects(within(Promise.reject(new Error('no')), 1000), /no/)
})

void t.test('what does not is a fault of the store', async (t) => {
  await t.rejects(within(delay(60_000, 7, { ref: false }), 10), {
    name: 'StoreError',
    code: 'unavailable',
    message: /does not answer/,
  })
})
