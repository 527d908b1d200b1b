// Two nginx hosts that pass on to each other what is published on them, as postern-pass-on.conf does it: it is heard
// on both, once, and neither waits for the other nor lets a stranger speak.
import { once } from 'node:events'
import { Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Nginx, nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { freePort } from '../fixtures/redis.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, type Ask, V1 } from './ask.ts'
import { kickId, open, startDaemon } from './daemon.ts'
import { eventSource, type Listen, longPoll, settle, type Stream, webSocket } from './listen.ts'
import { endNginx, passOn, tellOthers, workersOf } from './several.ts'

const WAYS = [
  ['EventSource', eventSource],
  ['WebSocket', webSocket],
  ['long-poll', longPoll],
] as const

const publish = async (host: Nginx, channel: string, options: string | Ask): Promise<number> => {
  const asked = typeof options === 'string' ? { body: options } : options
  return (await ask(host.port, `${V1}/pub/${channel}`, asked)).status
}

const said = (stream: Stream): string[] =>
  [...stream.text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)

interface Pair {
  /** The daemon's socket. */
  readonly postern: string
  /** The requests that reached it. */
  asked(): number
  readonly hosts: readonly [Nginx, Nginx]
  /** Where each is reached by the other. */
  readonly ports: readonly [number, number]
  /** A stream on this host. */
  listenOn(
    host: Nginx,
    how: Listen,
    channel: string,
    headers?: Record<string, string>,
    id?: string,
  ): Promise<Stream>
}

const startPair = async (t: Test, allowed?: string): Promise<Pair> => {
  const daemon = await startDaemon(t)
  daemon.answer = ({ headers }) => {
    const [channel = '', id = ''] =
      String(headers['x-original-uri']).split('?')[1]?.split('&') ?? []
    return open(channel, id)
  }
  const ports = [await freePort(), await freePort()] as const
  const start = async (here: number, there: number): Promise<Nginx> => {
    const options = { postern: daemon.socket, ...passOn(here, there, allowed) }
    const host = await startNginx(t, options)
    await tellOthers(host)
    return host
  }
  const hosts = [await start(ports[0], ports[1]), await start(ports[1], ports[0])] as const
  return {
    postern: daemon.socket,
    asked: () => daemon.asked.length,
    hosts,
    ports,
    async listenOn(host, how, channel, headers = {}, id = kickId()) {
      const stream = await how(t, host.port, `x?${channel}&${id}`, headers)
      await settle()
      return stream
    },
  }
}

const skip = nginxMissing()

void t.test('two hosts that do not know each other', { skip }, async (t) => {
  const daemon = await startDaemon(t)
  daemon.answer = () => open('room', kickId())
  const options = { postern: daemon.socket }
  const [a, b] = [await startNginx(t, options), await startNginx(t, options)]
  const [here, there] = [await eventSource(t, a.port, 'x'), await eventSource(t, b.port, 'x')]
  await settle()
  t.equal(await publish(a, 'room', 'hello'), 201)
  await until('it is heard here', () => here.text.includes('hello'))
  await delay(500)
  t.notMatch(there.text, /hello/, 'a publish reaches the Nchan that it was sent to')
})

void t.test('two hosts that pass on to each other', { skip }, async (t) => {
  const { hosts, ports, asked, listenOn } = await startPair(t)
  const [a, b] = hosts
  const directions = [
    [a, b],
    [b, a],
  ] as const

  void t.test('what is said on one is heard on both, in every way to listen', async (t) => {
    for (const [way, listen] of WAYS)
      for (const [from, to] of directions) {
        const channel = `said-${way.toLowerCase()}-${from === a}`
        const streams = [await listenOn(from, listen, channel), await listenOn(to, listen, channel)]
        // A long-poll does not say when it is open.
        if (listen === longPoll) await delay(300)
        const elapsed = startStopwatch()
        t.equal(await publish(from, channel, 'hello'), 201)
        await until('both have heard', () => streams.every(({ text }) => text.includes('hello')))
        t.ok(elapsed().ours < 1000, way)
        for (const stream of streams) stream.close()
      }
  })

  void t.test('once, with its type and its event', async (t) => {
    const streams = [await listenOn(a, eventSource, 'once'), await listenOn(b, eventSource, 'once')]
    const headers = { 'Content-Type': 'application/json', 'X-EventSource-Event': 'ring' }
    await publish(a, 'once?secret=1', { body: '{}', headers })
    await until('both have heard', () => streams.every((stream) => said(stream).length > 0))
    await delay(500)
    for (const stream of streams) {
      t.same(said(stream), ['{}'])
      t.match(stream.text, /^event: ring$/m)
    }
    const late = await ask(b.port, `${V1}/sub/x?once&${kickId()}`)
    t.match(late, { status: 200, body: '{}', headers: { 'content-type': 'application/json' } })
  })

  void t.test('who comes late finds on one what was said on the other', async (t) => {
    for (const text of ['old', 'newest']) {
      await publish(a, 'users-state', text)
      await delay(100)
    }
    const late = await listenOn(b, eventSource, 'users-state')
    await until('it is there', () => late.text.includes('newest'))
    t.same(said(late), ['newest'], 'a state is its newest message alone')
  })

  void t.test('who loses one host goes on at the other', async (t) => {
    for (let round = 0; round < 10; round++) {
      const channel = `resume-${round}`
      const first = await listenOn(a, eventSource, channel)
      for (const text of ['1', '2', '3', '4']) {
        await publish(a, channel, text)
        await delay(20)
        if (text === '2') {
          await until('two are heard', () => said(first).length === 2)
          first.close()
        }
      }
      const last = [...first.text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? ''
      const second = await listenOn(b, eventSource, channel, { 'Last-Event-ID': last })
      await until('the rest is heard', () => said(second).includes('4'))
      // Ids are seconds and a number: at the turn of one the last may come twice.
      const heard = [...new Set([...said(first), ...said(second)])]
      t.same(heard, ['1', '2', '3', '4'])
      second.close()
    }
  })

  void t.test('a producer that keeps its connection is heard in its order on both', async (t) => {
    const streams = [
      await listenOn(a, eventSource, 'order'),
      await listenOn(b, eventSource, 'order'),
    ]
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    t.teardown(() => {
      agent.destroy()
    })
    const texts = Array.from({ length: 500 }, (_, at) => `m${at}`)
    for (const text of texts) {
      const outgoing = request({
        host: '127.0.0.1',
        port: a.port,
        method: 'POST',
        path: `${V1}/pub/order`,
        headers: { 'Content-Length': text.length },
        agent,
      })
      outgoing.end(text)
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage]
      response.resume()
      await once(response, 'end')
    }
    await until('all are heard', () => streams.every((stream) => said(stream).length >= 500))
    for (const stream of streams) t.same(said(stream), texts)
  })

  void t.test('a message of any size that is taken at all', async (t) => {
    for (const size of [10_000, 20_000, 900_000]) {
      const channel = `size-${size}`
      const text = 'x'.repeat(size)
      const streams = [
        await listenOn(a, eventSource, channel),
        await listenOn(b, eventSource, channel),
      ]
      t.equal(await publish(a, channel, text), 201)
      await until('both have heard', () => streams.every((stream) => said(stream)[0] === text))
      // Of unknown length.
      const headers = { 'Transfer-Encoding': 'chunked' }
      const chunked = request({
        host: '127.0.0.1',
        port: b.port,
        method: 'POST',
        path: `${V1}/pub/${channel}`,
        headers,
        agent: false,
      })
      chunked.end(`${text}y`)
      const [response] = (await once(chunked, 'response')) as [IncomingMessage]
      response.resume()
      t.equal(response.statusCode, 201)
      await until('and again', () => streams.every((stream) => said(stream)[1] === `${text}y`))
    }
    t.equal(await publish(a, 'size-too-large', 'x'.repeat(1_100_000)), 413)
  })

  void t.test('kicks are the affair of each', async (t) => {
    const id = kickId()
    const stream = await listenOn(b, webSocket, 'kicked', {}, id)
    const other = await listenOn(a, webSocket, 'kicked')
    const kick = async (host: Nginx): Promise<number> =>
      (await ask(0, `/kick/${id}`, { method: 'DELETE', socket: host.kickSocket })).status
    t.equal(await kick(a), 404)
    await until('it is there', async () => (await kick(b)) === 200)
    t.match(await stream.ended, /410/)
    t.ok(other.live)
  })

  void t.test('nobody else speaks by that way', async (t) => {
    const stream = await listenOn(b, eventSource, 'closed')
    const id = `kick-${'a'.repeat(22)}`
    const kicked = await listenOn(b, eventSource, 'closed', {}, id)
    const before = asked()
    const rows: [port: number, method: string, path: string, status: number][] = [
      [ports[1], 'GET', '/passed-on/closed', 403],
      [ports[1], 'DELETE', '/passed-on/closed', 403],
      [ports[1], 'PUT', '/passed-on/closed', 403],
      [ports[1], 'POST', `/passed-on/${id}`, 404],
      [ports[1], 'POST', `/passed-on/closed%0a`, 404],
      [ports[1], 'POST', '/passed-on/', 404],
      [ports[1], 'POST', `${V1}/pub/closed`, 404],
      [ports[1], 'GET', `${V1}/sub/closed`, 404],
      [ports[1], 'DELETE', `/kick/${id}`, 404],
      [b.port, 'POST', '/passed-on/closed', 404],
      [b.port, 'POST', '/_postern/pass-on/postern_host_b', 404],
      [b.port, 'POST', '/_postern/pass-on/postern_host_none', 404],
      [b.port, 'POST', '/_postern/pass-on/postern_pbx', 404],
      [b.port, 'POST', '/_postern/pass-on/postern', 404],
    ]
    for (const [port, method, path, status] of rows) {
      t.equal((await ask(port, path, { method, body: 'x' })).status, status, `${method} ${path}`)
    }
    t.same([said(stream), said(kicked), kicked.live], [[], [], true])
    t.equal(asked(), before, 'nothing of it is proxied')
  })

  void t.test(
    'one that is away, or hangs, keeps nobody waiting; when it is back it hears',
    async (t) => {
      const alone = await startPair(t)
      const [here, there] = alone.hosts
      const stream = await alone.listenOn(here, eventSource, 'away')
      /** Says it five times: the milliseconds of the third fastest. */
      const say = async (text: string): Promise<number> => {
        const times: number[] = []
        for (let at = 0; at < 5; at++) {
          const elapsed = startStopwatch()
          t.equal(await publish(here, 'away', text), 201)
          times.push(elapsed().ours)
        }
        return times.toSorted((one, two) => one - two)[2] ?? Infinity
      }
      const far = await alone.listenOn(there, eventSource, 'away')
      await say('before')
      await until('it is heard', () => said(far).length === 5)

      const workers = await workersOf(there)
      const signal = (name: NodeJS.Signals): void => {
        for (const pid of workers) process.kill(pid, name)
      }
      signal('SIGSTOP')
      const hung = await say('hangs').finally(() => {
        signal('SIGCONT')
      })
      t.ok(hung < 400, `hangs: ${Math.round(hung)} ms`)

      await endNginx(there)
      await far.ended
      const away = await say('away')
      t.ok(away < 400, `away: ${Math.round(away)} ms`)
      await until('all is heard here', () => said(stream).length === 15)

      const [own, other] = alone.ports
      const { postern } = alone
      await startNginx(t, { postern, port: there.port, ...passOn(other, own) })
      const back = await alone.listenOn(there, eventSource, 'back')
      await publish(here, 'back', 'hello')
      await until('it hears', () => said(back).includes('hello'))
    },
  )

  void t.test('no worker has died of it', async (t) => {
    for (const host of hosts) t.notMatch(host.errorLog(), /exited on signal/)
  })
})

void t.test('who is not allowed is not heard', { skip }, async (t) => {
  const { hosts, ports, listenOn } = await startPair(t, '127.0.0.9')
  const [a, b] = hosts
  const [here, there] = [
    await listenOn(a, eventSource, 'mine'),
    await listenOn(b, eventSource, 'mine'),
  ]
  t.equal(await publish(a, 'mine', 'hello'), 201)
  await until('it is heard here', () => here.text.includes('hello'))
  t.equal((await ask(ports[1], '/passed-on/mine', { body: 'x' })).status, 403)
  t.equal((await ask(ports[1], '/passed-on/mine', { body: 'y', from: '127.0.0.9' })).status, 201)
  await until('who is allowed is heard', () => said(there).length > 0)
  t.same(said(there), ['y'])
})
