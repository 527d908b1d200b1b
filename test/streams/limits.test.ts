// Which streams of a session give way to one more, by instants that a test chooses.

import t from 'tap'

import { findSurplus, findUnseen } from '../../src/streams/limits.ts'
import type { LiveStream } from '../../src/streams/live-list.ts'

const NOW = 1000
const LIMITS = { perSession: 2, streamsPerSession: 4 }

/** `name resource age`, of each. */
const streamsOf = (...lines: string[]): LiveStream[] =>
  lines.map((line) => {
    const [kick = '', resource = '', age = ''] = line.split(' ')
    return { kick, resource, openedAt: NOW - Number(age) } as LiveStream
  })

const leaving = (streams: readonly LiveStream[], resource: string, limits = LIMITS) =>
  findSurplus(streams, resource, limits, NOW)?.map(({ kick }) => kick)

void t.test('who gives way', async (t) => {
  const ages = ['w1 x 70', 'w2 x 80', 'w3 x 90', 'w4 x 60']
  for (const [what, streams, resource, expected, limits] of [
    ['nobody where there is room', ['w1 x 99'], 'y', []],
    ['nobody for another of the same', ['w1 x 99', 'w2 y 99'], 'x', []],
    ['a resource goes whole', ['w1 x 99', 'w2 x 98', 'w3 y 70'], 'z', ['w1', 'w2']],
    ['the one that was used last stays', ['w1 x 99', 'w2 x 61', 'w3 y 70'], 'z', ['w3']],
    ['a young one of it keeps it', ['w1 x 99', 'w2 x 59', 'w3 y 70'], 'z', ['w3']],
    ['all in use: refused', ['w1 x 99', 'w2 x 1', 'w3 y 2'], 'z', undefined],
    ['the oldest stream', ages, 'x', ['w3']],
    ['a minute is old enough', ages.map((one) => one.replace(/..$/, '60')), 'x', ['w1']],
    ['all young: refused', ages.map((one) => one.replace(/..$/, '59')), 'x', undefined],
    ['of either bound', [...ages, 'w5 y 65'], 'z', ['w5', 'w3']],
    ['as many as a lower bound asks for', ages, 'x', ['w3', 'w2'], { streamsPerSession: 3 }],
    ['never fewer streams than resources', ages, 'x', [], { perSession: 5 }],
  ] as const) {
    t.same(leaving(streamsOf(...streams), resource, { ...LIMITS, ...limits }), expected, what)
  }
})

void t.test('WebSockets that nobody has seen are at most half of them', async (t) => {
  const stream = (sighting: LiveStream['sighting'], exclusive = true) =>
    ({ exclusive, sighting }) as LiveStream
  const shared = stream('none', false)
  const two = [stream('none'), stream('asked')]
  t.same(findUnseen([stream('none'), stream('seen'), shared, shared], LIMITS), [])
  t.same(findUnseen([shared, ...two], LIMITS), two)
  t.same(findUnseen(two, { perSession: 6, streamsPerSession: 4 }), [])
})
