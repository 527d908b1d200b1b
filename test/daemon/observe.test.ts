// What was seen, and what is told of it where too much is.

import t from 'tap'

import { createObserver } from '../../src/daemon/observe.ts'
import { StoreError } from '../../src/store/store.ts'
import { CutterError } from '../../src/streams/cutter.ts'
import { UncuttableError, WHYS } from '../../src/streams/means.ts'
import { StreamFileError } from '../../src/streams/stream-file.ts'

void t.test('an end that is lost with the daemon is told', (t) => {
  const told: unknown[] = []
  const { endsLost } = createObserver({
    log: { error: (line: unknown) => told.push(line) },
  } as unknown as Parameters<typeof createObserver>[0])
  endsLost(0)
  t.same(told, [])
  endsLost(2)
  t.same(told, [{ count: 2 }])
  t.end()
})

void t.test('a page that no setting makes ours is not to be listed', (t) => {
  const told: string[] = []
  const { requests } = createObserver({
    metrics: { answered: () => undefined },
    log: { info: (_: unknown, text: string) => told.push(text) },
    limit: { allows: () => true },
  } as unknown as Parameters<typeof createObserver>[0])
  const refuse = (detail: object) => {
    requests.observe({ route: 'check', status: 403, reason: 'cross_site', detail: { ...detail } })
    return told.pop()
  }
  const listed = /add it to site\.origins/
  t.match(refuse({ origin: 'https://pbx.test' }), listed)
  t.match(refuse({ origin: 'https://pbx.test', fetchSite: 'same-origin' }), listed, 'a WebSocket')
  for (const fetchSite of ['same-site', 'cross-site']) {
    t.match(refuse({ fetchSite }), /site\.origins changes nothing/, fetchSite)
  }
  t.end()
})

void t.test('a fault that everybody meets is counted each time and told seldom', (t) => {
  const counted: string[] = []
  const told: unknown[] = []
  let room = 1
  const { requests } = createObserver({
    metrics: { faulted: (kind: string) => counted.push(kind) },
    log: { error: (line: unknown) => told.push(line) },
    limit: { allows: () => room-- > 0 },
  } as unknown as Parameters<typeof createObserver>[0])
  for (let check = 0; check < 3; check++) {
    requests.onFault(new StoreError('unavailable', 'away'), 'check')
  }
  t.same(counted, ['store_unavailable', 'store_unavailable', 'store_unavailable'])
  t.same(told, [{ problem: 'away', route: 'check' }])
  t.end()
})

void t.test('streams that could not be ended, or not be let in, are told with the cure', (t) => {
  const told: unknown[] = []
  const tell = (...said: unknown[]) => told.push(said)
  const observer = createObserver({
    log: { error: tell, info: tell },
  } as unknown as Parameters<typeof createObserver>[0])
  const fault = new StreamFileError('/run/x cannot be written (ENOSPC): make room')
  observer.streamFault('a fault')
  observer.streamFile(fault)
  observer.streamFile(undefined)
  observer.streamsLost('missing')
  t.match(told, [
    [{ err: 'a fault' }, /tried again until it works/],
    [{ problem: fault.message }, /no new stream is let in/],
    [/let in/],
    [{ loss: 'missing' }, /systemctl reload nginx/],
  ])
  t.end()
})

void t.test('what cannot be cut is counted each time, and told once an hour', (t) => {
  const [told, counted]: [unknown[], string[]] = [[], []]
  const tell = (...said: unknown[]) => told.push(said)
  let now = 0
  let room = 1
  const observer = createObserver({
    metrics: {
      uncuttable: (why: string) => counted.push(why),
      faulted: (kind: string) => counted.push(kind),
    },
    log: { error: tell, info: tell, warn: tell },
    limit: { allows: () => room-- > 0 },
    clock: { monotonic: () => now },
  } as unknown as Parameters<typeof createObserver>[0])
  for (const at of [0, 10, 3599, 3601]) {
    now = at
    observer.uncuttable('shared')
  }
  observer.uncuttable('unix')
  t.same(counted, ['shared', 'shared', 'shared', 'shared', 'unix'])
  t.same(observer.countUncuttable(), { shared: 4, unix: 1 })
  const line = (why: 'shared' | 'unix') => [{ why }, `streams cannot be cut: ${WHYS[why]}`]
  t.same(told.splice(0), [line('shared'), line('shared'), line('unix')])

  for (const at of [7000, 7001, 11_000]) {
    now = at
    observer.crowd('192.0.2.10 40000 192.0.2.2 443')
  }
  t.match(told.splice(0), [
    [{ peer: '192.0.2.10' }, /^several users come over one connection/],
    [{ peer: '192.0.2.10' }, /end together/],
  ])
  for (let at = 11; at < 100; at++) observer.crowd(`192.0.2.${at} 40000 192.0.2.2 443`)
  t.equal(observer.fronts().length, 8, 'a stranger cannot make it long')
  t.equal(told.splice(0).length, 7)

  observer.cutter(new CutterError('/run/x is not there'))
  observer.cutter(undefined)
  observer.cutRefused('port')
  observer.cutRefused('port')
  room = 1
  observer.requests.onFault(new UncuttableError('this stream cannot be cut'), 'check')
  t.match(told, [
    [{ problem: '/run/x is not there' }, /no stream can be cut/],
    ['the cutter answers again'],
    [{ why: 'port' }, /tried again/],
    [{ problem: 'this stream cannot be cut', route: 'check' }, /could not be decided/],
  ])
  t.equal(told.length, 4)
  t.equal(counted.at(-1), 'stream_uncuttable')
  t.end()
})
