// The clock of the running daemon.

import { closeSync, openSync, read } from 'node:fs'
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

void t.test('a log line is dated to the millisecond', async (t) => {
  const before = Date.now()
  const date = systemClock.date().getTime()
  t.ok(date >= before && date <= Date.now())
})

void t.test('a job is done after its time, unless it is cancelled', async (t) => {
  const done: string[] = []
  systemClock.after(0.001, () => done.push('cancelled'))()
  systemClock.after(0.002, () => done.push('after'))
  await systemClock.wait(0.02)
  t.same(done, ['after'])
})

void t.test('a deadline comes once what has arrived was read', async (t) => {
  const order: string[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  const file = openSync(import.meta.filename, 'r')
  const cancel = systemClock.deadline(0.001, () => order.push('cancelled in time'))
  cancel()
  systemClock.deadline(0.001, () => {
    order.push('deadline')
    resolve()
  })
  const late = systemClock.deadline(0.001, () => order.push('cancelled while reading'))
  systemClock.after(0.001, late)
  read(file, Buffer.alloc(1), 0, 1, 0, () => order.push('arrived'))
  const end = performance.now() + 30
  while (performance.now() < end); // both are due by now
  await promise
  await systemClock.wait(0.005)
  t.same(order, ['arrived', 'deadline'])
  closeSync(file)
})

void t.test('again and again, until it is cancelled', async (t) => {
  let count = 0
  const { promise, resolve } = Promise.withResolvers<void>()
  const cancel = systemClock.every(0.001, () => {
    if (++count === 3) resolve()
  })
  const awake = systemClock.after(60, resolve) // it keeps no process alive itself
  await promise
  awake()
  cancel()
  await systemClock.wait(0.01)
  t.equal(count, 3)
})

void t.test('waiting is over at a signal', async (t) => {
  const stop = new AbortController()
  const waited = systemClock.wait(60, stop.signal)
  stop.abort()
  await waited
  await systemClock.wait(60, stop.signal)
  t.pass('also where it was aborted before')
})

void t.test('chance is from 0 up to 1', async (t) => {
  const drawn = Array.from({ length: 100 }, () => systemClock.chance())
  t.ok(drawn.every((one) => one >= 0 && one < 1))
  t.ok(new Set(drawn).size > 1)
})
