// What is known of each recording: by its path, else by another ending of its stem where one alone has it.
import t from 'tap'

import { buildCallIndex, findParties } from '../../src/calls/call-index.ts'

type Calls = readonly (readonly [string, ...string[]])[]

const index = (calls: Calls, key = 'key') => {
  const building = buildCallIndex(key)
  for (const [path, ...parties] of calls) building.add(path, parties)
  return building.finish()
}

const ask =
  (...parts: Calls[]) =>
  (path: string) =>
    findParties(
      parts.map((calls) => index(calls).index),
      'key',
      path,
    )?.toSorted()

void t.test('rows of one file are joined, and 0202 is not 202', (t) => {
  const of = ask([['x/a.wav'], ['x/a.wav', '201'], ['x/a.wav', '0202', '201'], ['x/a.wav']])
  t.same(of('x/a.wav'), ['0202', '201'])
  t.equal(of('a.wav'), undefined, 'another folder')
  t.equal(of('y/a.wav'), undefined)
  t.equal(of('X/a.wav'), undefined)
  t.end()
})

void t.test('one base name in two folders has other parties', (t) => {
  const of = ask([
    ['x/a.wav', '201'],
    ['y/a.wav', '202'],
  ])
  t.same([of('x/a.wav'), of('y/a.wav'), of('x/a.mp3')], [['201'], ['202'], ['201']])
  t.end()
})

void t.test('known, and nobody is surely a party', (t) => {
  const of = ask([['a.wav']])
  t.same([of('a.wav'), of('a.webm'), of('b.wav')], [[], [], undefined])
  t.end()
})

void t.test('another ending counts where one file alone has the stem', (t) => {
  const of = ask([
    ['a.mp3', '201'],
    ['b.mp3', '201'],
    ['b.webm', '202'],
    ['c.wav'],
    ['c_in.wav', '201'],
    ['d', '201'],
    ['e_in.wav', '201'],
  ])
  for (const ending of ['.mp3', '.wav', '.webm', '_in.wav', '_out.webm', '_out.mp3', '']) {
    t.same(of(`a${ending}`), ['201'], ending)
  }
  for (const other of ['a.ogg', 'a.wav.mp3', 'a_x.wav', 'a_IN.wav', 'a.WAV', 'a_in']) {
    t.equal(of(other), undefined, other)
  }
  t.equal(of('b.wav'), undefined, 'two calls claim it')
  t.same([of('b.mp3'), of('b.webm')], [['201'], ['202']], 'each has its own')
  t.same(of('c.wav'), [], 'who has a row of its own is not known by another')
  t.same(of('d.wav'), ['201'])
  t.same(of('e.wav'), ['201'])
  t.end()
})

void t.test('several indexes are one', (t) => {
  const of = ask(
    [
      ['a.wav', '201'],
      ['b.wav', '201'],
      ['c.wav', '201'],
    ],
    [
      ['a.wav', '202'],
      ['b.mp3', '202'],
    ],
  )
  t.same(of('a.wav'), ['201', '202'])
  t.equal(of('b.webm'), undefined, 'two calls claim the stem')
  t.same(of('c.webm'), ['201'])
  t.equal(of('d.wav'), undefined)
  t.end()
})

void t.test('it grows, and another key finds nothing', (t) => {
  const calls = Array.from({ length: 5000 }, (_, at) => [`${at}.wav`, String(at)] as const)
  const built = index(calls)
  t.equal(built.recordings, 5000)
  for (const [path, party] of calls) t.same(findParties([built.index], 'key', path), [party])
  t.equal(findParties([built.index], 'another', '1.wav'), undefined)
  t.end()
})

void t.test('what hundreds claim is no recording of one call', (t) => {
  const calls = Array.from({ length: 1000 }, (_, at) => ['a.wav', String(at + 1)] as const)
  const built = index(calls)
  t.equal(built.recordings, 1)
  t.equal(findParties([built.index], 'key', 'a.wav')?.length, 256)
  t.end()
})
