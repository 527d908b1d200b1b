// What is said to the cutter and heard from it, with a scripted one: its answers, its silence, its end and its return.

import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { systemClock } from '../../src/clock.ts'
import { createCutter } from '../../src/streams/cutter.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { until } from '../fixtures/postern.ts'

const CONNECTION = '192.0.2.1 40000 192.0.2.2 443'

const stream = (cookie: string, connection = CONNECTION): Subscription => ({
  kick: 'kick-x',
  sid: 's',
  username: '201',
  userId: 1,
  role: 'user',
  resource: 'sip',
  startedAt: 1,
  until: 2,
  address: '',
  agent: '',
  kid: '',
  worker: '',
  action: 'connect',
  connection,
  cookie,
})

/** What stands behind the id → what is answered behind it; undefined: nothing. */
type Script = (verb: string, rest: string, socket: Socket) => string | undefined

const openScripted = async (
  t: Test,
  path: string,
  script: Script,
  greeting = 'postern-cut 1 b',
) => {
  const heard: string[] = []
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    connections++
    sockets.add(socket)
    let text = ''
    socket.on('error', () => undefined)
    if (greeting !== '') socket.write(`${greeting}\n`)
    socket.setEncoding('latin1').on('data', (more: string) => {
      const lines = (text + more).split('\n')
      text = lines.pop() ?? ''
      for (const line of lines) {
        heard.push(line.replace(/^(\w+) \d+ /, '$1 '))
        const [, verb = '', id = '', rest = ''] = /^(\w+) (\d+) (.*)$/.exec(line) ?? []
        const answer = script(verb, rest, socket)
        if (answer !== undefined) socket.write(`${id} ${answer}\n`)
      }
    })
  }).listen(path)
  await once(server, 'listening')
  const close = async (): Promise<void> => {
    if (!server.listening) return
    server.close()
    for (const socket of sockets) socket.destroy()
    await once(server, 'close')
  }
  t.teardown(close)
  return { heard, sockets, connections: () => connections, close }
}

const setUp = (t: Test, clock: Partial<typeof systemClock> = {}) => {
  // Not in t.testdir(): a socket's path has 107 bytes, and the tree may stand anywhere.
  const folder = mkdtempSync(join(tmpdir(), 'cut-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true })
  })
  const path = join(folder, 'cut.sock')
  const said: (string | undefined)[] = []
  const refused: string[] = []
  const beats: (() => void)[] = []
  let late = 0
  const cutter = createCutter({
    path,
    clock: {
      ...systemClock,
      monotonic: () => systemClock.monotonic() + late,
      every(_seconds, beat) {
        beats.push(beat)
        return () => void beats.splice(0)
      },
      ...clock,
    },
    onChange: (fault) => void said.push(fault?.message),
    onRefused: (why) => void refused.push(why),
  })
  t.teardown(() => {
    cutter.close()
  })
  return {
    path,
    cutter,
    said,
    refused,
    beat: () => beats[0]?.(),
    pass: (seconds: number) => void (late += seconds),
  }
}

void t.test('what the cutter answers', async (t) => {
  const { path, cutter, said, refused } = setUp(t)
  const answers: Record<string, string> = {
    'look a': '0a1b2c 17',
    'look b': 'gone',
    'look c': 'refused port',
    'look d': 'what it never says',
    'cut a 1': 'cut',
    'cut b 2': 'gone',
    'cut c 3': 'refused owner',
    'cut d 4': 'nonsense',
  }
  const { heard, connections } = await openScripted(
    t,
    path,
    (verb, rest) => answers[`${verb} ${rest}`],
  )
  t.ok(cutter.isStarting(), 'it may be started by the first question')
  t.same(await Promise.all(['a', 'b', 'c', 'd'].map(cutter.look)), [
    { cookie: '0a1b2c', queued: 17 },
    'gone',
    { refused: 'port' },
    { refused: 'other' },
  ])
  t.notOk(cutter.isStarting())
  const streams = ['a', 'b', 'c', 'd'].map((name, at) => stream(String(at + 1), name))
  t.same(await Promise.all(cutter.end(streams)), ['ended', 'nobody', 'refused', 'refused'])
  t.same(refused, ['owner', 'other'])
  t.same(heard.slice(0, 2), ['look a', 'look b'])
  t.equal(connections(), 1)
  t.equal(cutter.fault(), undefined)
  t.same(said, [])
})

void t.test('a cutter that has started anew looks again before it cuts', async (t) => {
  const { path, cutter, refused } = setUp(t)
  const found: Record<string, string> = {
    same: 'c1 0',
    other: 'c2 0',
    left: 'gone',
    closed: 'refused rate',
  }
  const looked = new Set<string>()
  const script: Script = (verb, rest) => {
    const [name = ''] = rest.split(' ')
    if (verb === 'look') {
      looked.add(name)
      return found[name]
    }
    return looked.has(name) && name === 'same' ? 'cut' : 'refused unlooked'
  }
  const { heard } = await openScripted(t, path, script)
  const ends = cutter.end(['same', 'other', 'left', 'closed'].map((name) => stream('c1', name)))
  t.same(await Promise.all(ends), ['ended', 'nobody', 'nobody', 'refused'])
  t.same(
    heard.filter((line) => line.startsWith('cut ')),
    ['cut same c1', 'cut other c1', 'cut left c1', 'cut closed c1', 'cut same c1', 'cut closed c1'],
    'what has another cookie by now is not cut',
  )
  t.same(refused, ['unlooked'])
})

void t.test('nobody there: said once, tried once a second, and found again', async (t) => {
  const { path, cutter, said, pass } = setUp(t)
  await t.rejects(cutter.look(CONNECTION), /is not there|has nobody listening/)
  t.match(said, [`${path} is not there: \`systemctl enable --now postern-cut.socket\``])
  t.equal(cutter.fault()?.message, said[0])
  const server = await openScripted(t, path, () => 'gone')
  await t.rejects(cutter.look(CONNECTION), /is not there/, 'within the second nobody asks')
  t.equal(server.connections(), 0)
  pass(1)
  const probe = cutter.look(CONNECTION)
  const beside = cutter.look(CONNECTION)
  await Promise.resolve()
  await t.rejects(cutter.look(CONNECTION), /is not there/, 'nobody else waits for the probe')
  t.same(await Promise.all([probe, beside]), ['gone', 'gone'])
  t.same(said.slice(1), [undefined])
  await server.close()
  await until('its end is noticed', () => cutter.isStarting())
  t.equal(said.length, 2, 'an end while nothing is asked is no fault')
  pass(1)
  await t.rejects(cutter.look(CONNECTION), /is not there|has nobody listening/)
  t.equal(said.length, 3)
})

void t.test('one that ends as it is asked is asked again, once', async (t) => {
  const { path, cutter, said } = setUp(t)
  let dies = 1
  const { connections } = await openScripted(t, path, (_verb, _rest, socket) => {
    if (dies-- > 0) socket.destroy()
    return 'gone'
  })
  t.same(await Promise.all([cutter.look('a'), cutter.look('b')]), ['gone', 'gone'])
  t.equal(connections(), 2)
  t.same(said, [])
  dies = 2
  await t.rejects(cutter.look('a'), /gives no answer/)
  t.equal(connections(), 3, 'on the connection there is, and on one more')
  t.equal(said.length, 1)
})

void t.test('whatever is no cutter is not believed', async (t) => {
  const others = {
    'another version': 'postern-cut 2 b',
    'something else': 'HTTP/1.1 400 Bad Request',
    'no end of line': 'x'.repeat(5000),
  }
  for (const [what, greeting] of Object.entries(others)) {
    const { path, cutter } = setUp(t)
    const server = await openScripted(t, path, () => undefined, '')
    const rejected = t.rejects(cutter.look('a'), /is answered by something else/, what)
    await until('it is connected', () => server.sockets.size === 1)
    for (const socket of server.sockets)
      socket.write(what.startsWith('no') ? greeting : `${greeting}\n1 abc 0\n`)
    await rejected
  }
})

void t.test('one that accepts and closes, or says nothing, is away', async (t) => {
  const closes = setUp(t)
  const server = createServer((socket) => socket.destroy()).listen(closes.path)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
  })
  await t.rejects(closes.cutter.look('a'), /gives no answer/)

  const odd = setUp(t)
  const cutter = createCutter({
    path: join(odd.path, 'below', 'x'.repeat(200)),
    clock: systemClock,
    onChange: () => undefined,
    onRefused: () => undefined,
  })
  await t.rejects(cutter.look('a'), /gives no answer \(E[A-Z]+\)/)
  cutter.close()

  const silent = setUp(t, { deadline: (_seconds, job) => systemClock.deadline(0.2, job) })
  const script: Script = (_verb, rest) => (rest === 'slow' ? undefined : 'gone')
  await openScripted(t, silent.path, script)
  const slow = silent.cutter.look('slow')
  const over = t.rejects(slow, /gives no answer: `journalctl -u postern-cut`/)
  // Each other answer is no sign that this one will come.
  for (let tries = 0; tries < 100 && silent.said.length === 0; tries++) {
    if (tries < 2) t.equal(await silent.cutter.look('quick'), 'gone')
    else await silent.cutter.look('quick').catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  t.equal(silent.said.length, 1, 'within two seconds')
  await over
})

void t.test('without streams the cutter may go to rest', async (t) => {
  const { path, cutter, beat, pass, said } = setUp(t)
  const { sockets, connections } = await openScripted(t, path, () => 'gone')
  await cutter.look('a')
  pass(60)
  beat()
  await cutter.look('a')
  t.equal(connections(), 1)
  pass(91)
  beat()
  const [socket] = sockets
  await until('it is left', () => socket?.destroyed === true)
  t.ok(cutter.isStarting(), 'it is started again by the next')
  t.equal(await cutter.look('a'), 'gone')
  t.equal(connections(), 2)
  t.same(said, [])
})

void t.test('closed it asks nothing, and says nothing', async (t) => {
  const { path, cutter, said } = setUp(t)
  const { heard } = await openScripted(t, path, () => undefined)
  const asked = cutter.look('a')
  await until('it is asked', () => heard.length === 1)
  cutter.close()
  await t.rejects(asked, /is closed/)
  await t.rejects(cutter.look('a'), /is closed/)
  t.same(said, [])

  const other = setUp(t)
  const unsent = other.cutter.look('a')
  other.cutter.close()
  await t.rejects(unsent, /is closed/)
})

void t.test('10,000 orders are one batch', async (t) => {
  const { path, cutter } = setUp(t)
  await openScripted(t, path, () => 'cut')
  const ends = cutter.end(Array.from({ length: 10_000 }, () => stream('a')))
  t.equal((await Promise.all(ends)).filter((one) => one === 'ended').length, 10_000)
})
