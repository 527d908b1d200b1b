// By which means a stream will end: every reason for which it cannot be cut, and what that comes to.

import t, { type Test } from 'tap'

import { systemClock } from '../../src/clock.ts'
import type { Look } from '../../src/streams/cutter.ts'
import { createMeans, type Why, WHYS } from '../../src/streams/means.ts'

const AT = { connection: '192.0.2.1 40000 192.0.2.2 443' }

const setUp = (_t: Test, look: () => Promise<Look>, isStarting = false) => {
  const mode: { end: 'auto' | 'cut' | 'kick' } = { end: 'auto' }
  const why: Why[] = []
  const waits: number[] = []
  const means = createMeans({
    cutter: { look, isStarting: () => isStarting },
    end: () => mode.end,
    clock: {
      deadline(seconds, job) {
        waits.push(seconds)
        return systemClock.deadline(0.02, job)
      },
    },
    onUncuttable: (one) => void why.push(one),
  })
  return { means, mode, why, waits }
}

const found = async (): Promise<Look> => ({ cookie: 'c0', queued: 0 })

void t.test('a connection whose socket is found is cut', async (t) => {
  const { means, why, mode, waits } = setUp(t, found)
  t.same(await means.find(AT, 'kick'), { ...AT, cookie: 'c0' })
  mode.end = 'cut'
  t.same(await means.find(AT, 'kick'), { ...AT, cookie: 'c0' })
  t.ok(means.areCut())
  t.same(why, [])
  await means.find(AT, 'nothing')
  t.same(waits, [0.05, 0.05, 0.5], 'longer where nothing else would end it')
})

void t.test('whatever cannot be cut has its word', async (t) => {
  const cases: [Why, () => Promise<Look>][] = [
    ['gone', async () => 'gone'],
    ['port', async () => ({ refused: 'port' })],
    ['owner', async () => ({ refused: 'owner' })],
    ['other', async () => ({ refused: 'toString' })],
    ['away', () => Promise.reject(new Error('away'))],
    ['silent', () => new Promise(() => undefined)],
  ]
  for (const [word, look] of cases) {
    const { means, why, mode } = setUp(t, look)
    t.equal(await means.find(AT, 'kick'), undefined, word)
    mode.end = 'cut'
    await t.rejects(means.find(AT, 'kick'), {
      message: `streams.end = "cut", and this stream cannot be cut (${word}): ${WHYS[word]}`,
    })
    t.same(why, [word, word])
  }
  const { means, why } = setUp(t, found)
  t.equal(await means.find({ why: 'unix' }, 'kick'), undefined)
  t.same(why, ['unix'])
})

void t.test('one of two by the same name is let in by no mode', async (t) => {
  const { means, why } = setUp(t, async () => ({ refused: 'ambiguous' }))
  await t.rejects(means.find(AT, 'kick'), {
    message: /^streams\.end = "auto", and this stream cannot be/,
  })
  t.same(why, ['ambiguous'])
})

void t.test('a cookie that comes late is never used', async (t) => {
  const late = Promise.withResolvers<Look>()
  const { means, why } = setUp(t, () => late.promise)
  t.equal(await means.find(AT, 'kick'), undefined)
  late.resolve({ cookie: 'c0', queued: 0 })
  await late.promise
  t.same(why, ['silent'])
})

void t.test('a cutter that is being started is waited for longer', async (t) => {
  const { means, waits } = setUp(t, found, true)
  await means.find(AT, 'kick')
  t.same(waits, [1])
})

void t.test('with kick nobody is asked', async (t) => {
  const { means, mode, why } = setUp(t, () => Promise.reject(new Error('asked')))
  mode.end = 'kick'
  t.notOk(means.areCut())
  t.equal(await means.find(AT, 'kick'), undefined)
  t.equal(await means.find({ why: 'old_nginx' }, 'kick'), undefined)
  t.same(why, [])
})
