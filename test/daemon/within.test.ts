// A store that hangs keeps nobody waiting.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { systemClock } from '../../src/clock.ts'
import { within } from '../../src/daemon/within.ts'

void t.test('what comes in time is the answer, as it is', async (t) => {
  t.equal(await within(systemClock, 1, Promise.resolve(7)), 7)
  await t.rejects(within(systemClock, 1, Promise.reject(new Error('no'))), /no/)
})

void t.test('what does not is a fault of the store', async (t) => {
  await t.rejects(within(systemClock, 0.01, delay(60_000, 7, { ref: false })), {
    name: 'StoreError',
    code: 'unavailable',
    message: /does not answer/,
  })
})
