// The list of live streams as it lies in the run folder, by looks of the test's own. What a kill -9 leaves is what stands
// there without `shut`. test/nginx/live-list.test.ts has real streams.

import {
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { openStreamFile, streamFileOf } from '../../src/streams/stream-file.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { NOW } from '../fixtures/clock.ts'

const streamOf = (kick: string, given: Partial<Subscription> = {}): Subscription => ({
  kick,
  sid: 's1',
  username: 'Zoë "x"\n',
  userId: 7,
  role: 'user',
  resource: 'users-state',
  startedAt: NOW,
  until: NOW + 60,
  address: '192.0.2.1',
  agent: 'a page',
  kid: 'k1',
  worker: '31415',
  ...given,
})

const openList = (t: Test, file: string, of = 'here') => {
  const jobs = new Map<number, () => void>()
  const faults: (string | undefined)[] = []
  const list = openStreamFile({
    file,
    of,
    clock: {
      every(seconds, job) {
        jobs.set(seconds, job)
        return () => void jobs.delete(seconds)
      },
    },
    onFault: (fault) => void faults.push(fault?.message),
  })
  t.teardown(() => list.shut())
  return {
    ...list,
    faults,
    flush: () => jobs.get(0.2)?.(),
    look: () => jobs.get(1)?.(),
    isStopped: () => jobs.size === 0,
    kicks: () => list.list().map(({ kick }) => kick),
  }
}

const listIn = (t: Test) => join(t.testdir(), 'control.streams')

void t.test('it lies beside the control socket', (t) => {
  t.equal(streamFileOf('/run/postern/control.sock'), '/run/postern/control.streams')
  t.equal(streamFileOf('/run/postern/1.control.sock'), '/run/postern/1.control.streams')
  t.equal(streamFileOf('/run/control'), '/run/control.streams')
  t.end()
})

void t.test('a stream that can be cut stands there with its connection', (t) => {
  const file = listIn(t)
  const list = openList(t, file)
  const at = { connection: '::ffff:192.0.2.1 40000 192.0.2.2 443', cookie: '0a1b' }
  const cut = { ...streamOf('kick-a'), ...at, action: 'connect', number: '201' }
  list.open(cut)
  t.same(openList(t, file).list(), [cut])
  const odd = [
    { connection: at.connection },
    { cookie: at.cookie },
    { ...at, connection: '1 1 1 1\ncut 1 2 3 4 5' },
    { ...at, cookie: '0a1b\n' },
    { ...at, cookie: 7 },
    { ...at, cookie: '0'.repeat(17) },
    { ...at, connection: `192.0.2.1 ${'1'.repeat(40_000)} 192.0.2.2 443` },
    { ...at, connection: `${'1'.repeat(46)} 1 192.0.2.2 443` },
    { ...at, connection: 'fe80::1%eth0 1 fe80::2 443' },
    { ...at, action: 7 },
  ]
  for (const members of odd) {
    const text = JSON.stringify({ ...streamOf('kick-b'), ...members })
    writeFileSync(file, `${readFileSync(file, 'utf8').split('\n')[0]}\n${text}\n`)
    const found = openList(t, file)
    t.same([found.list(), found.loss], [[], 'damaged'], text)
  }
  t.end()
})

void t.test('what is open stands there before anybody is let in, and is found again', (t) => {
  const file = listIn(t)
  const list = openList(t, file)
  t.same([list.list(), list.nginx(), list.loss], [[], {}, 'missing'])
  t.equal(statSync(file).mode & 0o777, 0o600)
  const both = [streamOf('kick-a'), streamOf('kick-b', { kid: '', worker: '' })]
  for (const stream of both) list.open(Object.assign({ more: 'of the registry alone' }, stream))
  list.remember({ processes: ['1', '2'] })
  const again = openList(t, file)
  t.same([again.list(), again.nginx(), again.loss], [both, { processes: ['1', '2'] }, undefined])
  again.open({ ...streamOf('kick-a'), worker: '' })
  again.close('kick-b')
  again.close('kick-b')
  again.close('of another instance')
  again.flush()
  again.flush()
  const third = openList(t, file)
  t.same(third.list(), [{ ...streamOf('kick-a'), worker: '' }], 'the later line counts')
  t.same(third.nginx(), { processes: ['1', '2'] }, 'a rewriting keeps it')
  third.close('kick-a')
  third.shut()
  third.shut()
  t.ok(third.isStopped())
  t.throws(() => third.open(streamOf('kick-c')), /is closed/)
  t.same(openList(t, file).kicks(), [], 'what is over is said at a stop')
  t.end()
})

void t.test('a torn end is no damage, all else is', (t) => {
  const file = listIn(t)
  const list = openList(t, file)
  list.open(streamOf('kick-a'))
  list.open(streamOf('kick-b'))
  list.shut()
  const text = readFileSync(file, 'utf8')
  const found = (changed: string) => {
    writeFileSync(file, changed)
    const { loss, kicks } = openList(t, file)
    return [loss, ...kicks()]
  }
  t.same(found(text), [undefined, 'kick-a', 'kick-b'])
  t.same(found(`${text}{"kick":"kick-c","si`), [undefined, 'kick-a', 'kick-b'])
  t.same(found(text.slice(0, -5)), [undefined, 'kick-a'])
  t.same(found(`${text}{"from":"a newer version"}\n5\nnull\n`), [undefined, 'kick-a', 'kick-b'])
  t.same(found(text.replace('"kick":"kick-a"', '"kick":"kick-a')), ['damaged', 'kick-b'])
  t.same(found(text.replace('"kick":"kick-a"', '"kick":5')), ['damaged', 'kick-b'])
  t.same(found(text.replace(/"until":\d+/, '"until":1.5')), ['damaged', 'kick-b'])
  t.same(found(text.replace('"sid":"s1",', '')), ['damaged', 'kick-b'])
  t.same(found(text.split('\n').slice(1).join('\n')), ['damaged', 'kick-a', 'kick-b'], 'no head')
  t.same(found(''), ['damaged'])
  rmSync(file)
  mkdirSync(file)
  t.equal(openList(t, file).loss, 'damaged', 'what cannot be read')
  t.end()
})

void t.test('it is rewritten in slices, and nothing that is said meanwhile is lost', (t) => {
  const file = listIn(t)
  const list = openList(t, file)
  for (let at = 0; at < 3000; at++) list.open(streamOf(`kick-${at}`))
  list.look()
  list.flush()
  t.ok(existsSync(file))
  const before = statSync(file).ino
  for (let at = 1200; at < 3000; at++) list.close(`kick-${at}`)
  for (let at = 0; at < 3000; at++) list.open(streamOf(`kick-${at % 1200}`))
  list.look()
  for (let slices = 0; slices < 2; slices++) list.flush()
  t.equal(statSync(file).ino, before, 'not in one go')
  list.look()
  list.open(streamOf('kick-late'))
  list.close('kick-1')
  list.close('kick-1100')
  for (let slices = 0; slices < 5; slices++) list.flush()
  t.not(statSync(file).ino, before)
  t.ok(statSync(file).size < 1500 * 250, `${statSync(file).size} bytes`)
  list.open(streamOf('kick-last'))
  const kept = new Set(openList(t, file).kicks())
  t.equal(kept.size, 1200)
  t.same(
    ['kick-1', 'kick-1100', 'kick-0', 'kick-late', 'kick-last'].map((kick) => kept.has(kick)),
    [false, false, true, true, true],
  )
  t.notOk(existsSync(`${file}.new`))
  t.end()
})

void t.test('a stop amid a rewriting leaves the list as it was', (t) => {
  const file = listIn(t)
  const list = openList(t, file)
  for (let at = 0; at < 2500; at++) list.open(streamOf(`kick-${at % 1000}`))
  for (let at = 0; at < 600; at++) list.open(streamOf(`kick-${at}`))
  list.look()
  list.flush()
  t.ok(existsSync(`${file}.new`))
  list.shut()
  t.notOk(existsSync(`${file}.new`))
  t.equal(openList(t, file).kicks().length, 1000)
  t.end()
})

void t.test('one that is removed or replaced is written anew', (t) => {
  const file = listIn(t)
  const list = openList(t, file)
  list.open(streamOf('kick-a'))
  rmSync(file)
  list.look()
  t.same(openList(t, file).kicks(), ['kick-a'])
  list.look() // what was just opened there is another one
  writeFileSync(`${file}.other`, '')
  renameSync(`${file}.other`, file)
  list.look()
  t.same(openList(t, file).kicks(), ['kick-a'])
  t.same(list.faults, [])
  t.end()
})

void t.test('where it cannot be written nobody is let in, until it can', (t) => {
  const folder = join(t.testdir(), 'run')
  const file = join(folder, 'control.streams')
  const list = openList(t, file)
  t.match(list.faults, [/control\.streams cannot be written \(ENOENT\): its folder must be there/])
  t.throws(() => list.open(streamOf('kick-a')), /ENOENT/)
  list.look()
  t.equal(list.faults.length, 1, 'said once')
  mkdirSync(folder)
  list.look()
  t.same(list.faults.splice(0, 2)[1], undefined)
  list.open(streamOf('kick-a'))

  renameSync(folder, `${folder}-away`)
  list.look()
  t.match(list.faults, [/ENOENT/])
  list.close('kick-a')
  list.flush()
  t.throws(() => list.open(streamOf('kick-b')), /ENOENT/)
  t.same(list.neighbours.silent(), [])
  symlinkSync(folder, folder)
  list.look()
  rmSync(folder)
  mkdirSync(folder)
  list.look()
  list.open(streamOf('kick-c'))
  rmSync(folder, { recursive: true })
  symlinkSync(folder, folder)
  list.look()
  t.throws(() => list.open(streamOf('kick-d')), /ELOOP/)
  rmSync(folder)
  mkdirSync(folder)
  list.look()
  list.flush()
  t.equal(list.faults.length, 4)
  t.same(openList(t, file).kicks(), ['kick-c'])
  t.end()
})

void t.test('whoever gives no sign of life for five looks is silent, until it does', (t) => {
  const folder = t.testdir()
  const [one, two, other] = [
    openList(t, join(folder, '1.control.streams')),
    openList(t, join(folder, '2.control.streams')),
    openList(t, join(folder, '3.control.streams'), 'another site'),
  ]
  t.ok(one.neighbours.isThere())
  t.notOk(other.neighbours.isThere())
  writeFileSync(join(folder, '4.control.streams'), 'nothing of ours\n')
  symlinkSync('nowhere', join(folder, '5.control.streams'))
  two.open(streamOf('kick-a'))
  const wait = (until: () => boolean): void => {
    while (!until()) continue // the kernel's time of a file moves every few milliseconds
  }
  const beat = (): void => {
    const at = statSync(join(folder, '2.control.streams')).ctimeMs
    wait(() => {
      two.look()
      return statSync(join(folder, '2.control.streams')).ctimeMs !== at
    })
  }
  for (let looks = 0; looks < 10; looks++) {
    beat()
    t.same(one.neighbours.silent(), [])
  }
  for (let looks = 0; looks < 4; looks++) t.same(one.neighbours.silent(), [])
  const [silent, ...more] = one.neighbours.silent()
  t.match(silent, { file: join(folder, '2.control.streams'), streams: [{ kick: 'kick-a' }] })
  t.same(more, [])
  t.equal(one.neighbours.silent().length, 1, 'until they are taken')
  silent?.taken()
  t.same(one.neighbours.silent(), [])
  beat()
  two.open(streamOf('kick-b'))
  for (let looks = 0; looks < 5; looks++) t.same(one.neighbours.silent(), [])
  t.match(
    one.neighbours.silent(),
    [{ streams: [{ kick: 'kick-a' }, { kick: 'kick-b' }] }],
    'once more',
  )
  rmSync(join(folder, '2.control.streams'))
  t.same(one.neighbours.silent(), [])
  t.end()
})
