// Who logs out over the connection that carries a stream sees the answer, and nobody can put an end off by it.

import t, { type Test } from 'tap'

import type { Look } from '../../src/streams/cutter.ts'
import { createHolds } from '../../src/streams/holds.ts'
import type { LiveStream } from '../../src/streams/live-list.ts'

const setUp = (_t: Test, look: () => Promise<Look>) => {
  const timers = new Set<{ at: number; job(): void }>()
  let now = 0
  const cut: string[] = []
  const looked: number[] = []
  const holds = createHolds({
    cutter: {
      look: () => {
        looked.push(Math.round(now * 10) / 10)
        return look()
      },
    },
    clock: {
      after(seconds, job) {
        const timer = { at: now + seconds, job }
        timers.add(timer)
        return () => void timers.delete(timer)
      },
    },
    cut: (streams, cause) =>
      void cut.push(...streams.map(({ connection }) => `${connection} ${cause}`)),
  })
  return {
    ...holds,
    cut,
    looked,
    timers,
    async pass(seconds: number): Promise<void> {
      for (const end = now + seconds; now < end - 1e-9;) {
        now += 0.05
        for (const timer of timers) {
          if (timer.at > now + 1e-9) continue
          timers.delete(timer)
          timer.job()
        }
        for (let turn = 0; turn < 10; turn++) await Promise.resolve()
      }
    },
  }
}

const on = (connection: string): LiveStream => ({ connection }) as LiveStream
const queued = async (): Promise<Look> => ({ cookie: 'c', queued: 9 })
const sent = async (): Promise<Look> => ({ cookie: 'c', queued: 0 })

void t.test('what has nothing to do with the order ends at once', async (t) => {
  const { hold, defer, cut } = setUp(t, sent)
  const all = [on('a'), on('b')]
  t.same(defer(all, 'session_ended'), all)
  hold('a')
  t.same(defer(all, 'session_ended'), [on('b')])
  t.same(cut, [])
})

void t.test('it is cut when the kernel has sent the answer', async (t) => {
  const { hold, defer, cut, pass, looked, timers } = setUp(t, sent)
  const answered = hold('a')
  defer([on('a')], 'session_ended')
  defer([on('a')], 'limit')
  await pass(0.3)
  t.same(cut, [], 'not while the answer is on its way')
  answered()
  await pass(0.05)
  t.same(cut, [])
  await pass(0.1)
  t.same(cut, ['a session_ended', 'a limit'])
  t.same(looked, [0.4])
  t.same(defer([on('a')], 'session_ended'), [on('a')], 'nothing is held any more')
  await pass(2)
  t.equal(cut.length, 2)
  t.equal(timers.size, 0)
})

void t.test('a slow client gets 0.4 s', async (t) => {
  const { hold, defer, cut, pass, looked } = setUp(t, queued)
  const answered = hold('a')
  defer([on('a')], 'session_ended')
  answered()
  await pass(0.35)
  t.same(cut, [])
  await pass(0.1)
  t.same(cut, ['a session_ended'])
  t.equal(looked.length, 3)
})

void t.test('whatever the kernel does not say keeps nothing open', async (t) => {
  const looks: (() => Promise<Look>)[] = [
    async () => 'gone',
    async () => ({ refused: 'rate' }),
    () => Promise.reject(new Error('away')),
  ]
  for (const look of looks) {
    const { hold, defer, cut, pass } = setUp(t, look)
    const answered = hold('a')
    defer([on('a')], 'session_ended')
    answered()
    await pass(0.15)
    t.equal(cut.length, 1)
  }
})

void t.test('however many requests hold it, an end comes within half a second', async (t) => {
  const { hold, defer, cut, pass } = setUp(t, queued)
  hold('a') // is never answered
  const second = hold('a')
  defer([on('a')], 'session_ended')
  await pass(0.3) // as long as an answer waits
  second()
  hold('a')
  await pass(0.1)
  t.same(cut, [])
  await pass(0.05)
  t.same(cut, ['a session_ended'])
})

void t.test('a look that hangs is not waited for', async (t) => {
  const late = Promise.withResolvers<Look>()
  const { hold, defer, cut, pass } = setUp(t, () => late.promise)
  const answered = hold('a')
  defer([on('a')], 'session_ended')
  answered()
  await pass(0.45)
  t.same(cut, ['a session_ended'])
  late.resolve('gone')
  await pass(0.5)
  t.equal(cut.length, 1)
})

void t.test('an order that ends nothing costs nothing', async (t) => {
  const { hold, pass, looked, timers, close, defer, cut } = setUp(t, sent)
  hold('a')()
  await pass(1)
  t.same(looked, [])
  const answered = hold('a')
  defer([on('a')], 'session_ended')
  answered()
  close()
  await pass(2)
  t.same(cut, [], 'after the end of the daemon the next start does it')
  t.equal(timers.size, 0)
})
