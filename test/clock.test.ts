// The clock of the running daemon.

import t from 'tap'
import { systemClock } from '../src/clock.ts'

void t.test('the wall clock tells whole Unix seconds', async (t) => {
  const before = Math.floor(Date.now() / 1000)
  const now = systemClock.now()
  t.ok(Number.isSafeInteger(now))
  t.ok(now >= before && now <= before + 5)
})

void t.test('the monotonic clock tells seconds and never runs backwards', async (t) => {
  let last = systemClock.monotonic()
  const first = last
  for (let i = 0; i < 1000; i++) {
    const next = systemClock.monotonic()
    if (next < last) t.fail('it ran backwards')
    last = next
  }
  t.ok(Math.abs(last - performance.now() / 1000) < 5, 'seconds, not milliseconds')
  t.ok(last >= first)
})
