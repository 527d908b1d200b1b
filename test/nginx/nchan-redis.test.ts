// Two nginx hosts whose channels are in one Redis, as postern-nchan-redis.conf does it: what is said on one is heard
// on both, and a stream ends by the nginx that holds it, whatever becomes of that Redis. That all streams hear again
// when it is back is not asserted, since they do not: of 100 deaths of Redis 2 cost Nchan 1.3.6 a worker, and 3 left
// streams open that heard nothing for 15 s and more.
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Nginx, nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { NEEDS_REDIS, type RedisServer, startRedis } from '../fixtures/redis.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, V1 } from './ask.ts'
import { kickId, open, startDaemon } from './daemon.ts'
import { eventSource, type Listen, longPoll, settle, type Stream, webSocket } from './listen.ts'
import { reloadWhole, shareChannels } from './several.ts'

const STAY = [
  ['EventSource', eventSource],
  ['WebSocket', webSocket],
] as const
const WAYS = [...STAY, ['long-poll', longPoll]] as const
const BOUND = 500 // milliseconds in which a kick ends a stream
const skip = nginxMissing() || NEEDS_REDIS.skip

const kick = async (host: Nginx, id: string): Promise<number> =>
  (await ask(0, `/kick/${id}`, { method: 'DELETE', socket: host.kickSocket })).status

/** As the daemon does it: 404 says that nobody is there yet. Milliseconds until the stream has ended. */
const end = async (host: Nginx, id: string, streams: readonly Stream[]): Promise<number> => {
  await until('the kick finds somebody', async () => (await kick(host, id)) === 200)
  const elapsed = startStopwatch()
  await Promise.race([Promise.all(streams.map(({ ended }) => ended)), delay(20_000)])
  return streams.every(({ live }) => !live) ? Math.round(elapsed().ours) : Infinity
}

const publish = async (host: Nginx, channel: string, body: string): Promise<number> =>
  (await ask(host.port, `${V1}/pub/${channel}`, { body })).status

const said = (stream: Stream): string[] =>
  [...stream.text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)

const pair = async (
  t: Test,
  redis: RedisServer,
  password = '',
): Promise<{
  hosts: readonly [Nginx, Nginx]
  /** A stream on this host under this kick id. */
  listenOn(host: Nginx, how: Listen, channel: string, id?: string): Promise<Stream>
  /** An EventSource that goes on after this event. */
  resume(host: Nginx, channel: string, event: string): Promise<Stream>
}> => {
  const daemon = await startDaemon(t)
  const options = { postern: daemon.socket, ...shareChannels(redis.url, password) }
  const hosts = [await startNginx(t, options), await startNginx(t, options)] as const
  // nginx answers 503 until its workers have met Redis.
  for (const host of hosts) {
    await until('it has met Redis', async () => (await publish(host, 'first', 'x')) !== 503)
  }
  daemon.answer = ({ headers }) => {
    const [channel = '', id = ''] =
      String(headers['x-original-uri']).split('?')[1]?.split('&') ?? []
    return open(channel, id)
  }
  const listenOn = async (host: Nginx, how: Listen, channel: string, id = kickId()) => {
    const stream = await how(t, host.port, `x?${channel}&${id}`)
    await settle()
    return stream
  }
  return {
    hosts,
    listenOn,
    resume: (host, channel, event) =>
      eventSource(t, host.port, `x?${channel}&${kickId()}`, { 'Last-Event-ID': event }),
  }
}

void t.test('two hosts that share their channels', { skip }, async (t) => {
  const redis = await startRedis(t)
  const { hosts, listenOn, resume } = await pair(t, redis)
  const [a, b] = hosts

  void t.test('what is said on one is heard on both, in every way to listen', async (t) => {
    for (const [way, listen] of WAYS)
      for (const [from, to] of [
        [a, b],
        [b, a],
      ] as const) {
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

  void t.test('who comes late finds on one what was said on the other', async (t) => {
    for (const text of ['old', 'newest']) await publish(a, 'users-state', text)
    const late = await listenOn(b, eventSource, 'users-state')
    await until('it is there', () => late.text.includes('newest'))
    t.same(said(late), ['newest'], 'a state is its newest message alone')
  })

  void t.test('who loses one host goes on at the other: nothing lost, nothing twice', async (t) => {
    for (let round = 0; round < 10; round++) {
      const channel = `resume-${round}`
      const first = await listenOn(a, eventSource, channel)
      for (const text of ['1', '2']) await publish(a, channel, text)
      await until('two are heard', () => said(first).length === 2)
      const last = [...first.text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? ''
      first.close()
      for (const text of ['3', '4']) await publish(round % 2 === 0 ? a : b, channel, text)
      const second = await resume(b, channel, last)
      await until('the rest is heard', () => said(second).length >= 2)
      await publish(b, channel, '5')
      await until('and what comes next', () => said(second).includes('5'))
      t.same([...said(first), ...said(second)], ['1', '2', '3', '4', '5'])
    }
  })

  void t.test('a kick ends the streams of its host, and no other', async (t) => {
    for (let round = 0; round < 10; round++) {
      const channel = `ended-${round}`
      const [mine, other] = [kickId(), kickId()]
      const streams: Stream[] = []
      for (const [, listen] of [...WAYS, ...WAYS]) {
        streams.push(await listenOn(b, listen, channel, mine))
      }
      const beside = await listenOn(b, eventSource, channel, other)
      const away = await listenOn(a, webSocket, channel, kickId())
      await delay(50)
      const took = await end(b, mine, streams)
      t.ok(took < BOUND, `${took} ms`)
      t.ok(beside.live && away.live)
      t.equal(await publish(a, channel, 'still there?'), 201)
      await until('the others hear', () =>
        [beside, away].every(({ text }) => text.includes('still there?')),
      )
      beside.close()
      away.close()
    }
  })

  void t.test('the kick socket of another host does not reach it', async (t) => {
    const id = kickId()
    const stream = await listenOn(b, eventSource, 'far', id)
    t.equal(await kick(a, id), 404)
    await publish(a, 'far', 'still there')
    await until('it is', () => stream.text.includes('still there'))
    t.ok((await end(b, id, [stream])) < BOUND)
  })

  void t.test('50 of 250 streams end, and only they', async (t) => {
    const streams: Stream[] = []
    const ids = Array.from({ length: 250 }, kickId)
    while (streams.length < ids.length) {
      const some = ids.slice(streams.length, streams.length + 50)
      streams.push(...(await Promise.all(some.map((id) => listenOn(b, eventSource, 'crowd', id)))))
    }
    const elapsed = startStopwatch()
    const going = streams.slice(0, 50)
    t.same(new Set(await Promise.all(ids.slice(0, 50).map((id) => kick(b, id)))), new Set([200]))
    await Promise.all(going.map(({ ended }) => ended))
    t.ok(elapsed().ours < 2000)
    await publish(a, 'crowd', 'still there?')
    await until('all others hear', () =>
      streams.slice(50).every(({ text }) => text.includes('still there?')),
    )
    for (const stream of streams) stream.close()
  })

  void t.test(
    'the Redis knows the channels by one name, and forgets streams by itself',
    async (t) => {
      const keys = redis.cli('keys', '*').split('\n')
      t.ok(keys.length > 10)
      t.same(
        keys.filter((key) => !key.startsWith('nchan:{channel:postern/')),
        [],
      )
      for (const key of keys.filter((name) => name.includes('/kick-')).slice(0, 20)) {
        const seconds = Number(redis.cli('ttl', key))
        t.ok(seconds !== -1 && seconds < 3600, `${key}: ${seconds}`)
      }
    },
  )

  void t.test('while it is away a kick works; after a reload all is as it was', async (t) => {
    const ids = Array.from({ length: 4 }, kickId)
    const streams: Stream[] = []
    for (const [at, id] of ids.entries()) {
      streams.push(await listenOn(b, at % 2 === 0 ? eventSource : webSocket, 'away', id))
    }
    await redis.kill()
    await delay(300)
    t.ok(streams.some(({ live }) => live))
    for (const [at, id] of ids.entries()) {
      const elapsed = startStopwatch()
      await until('it has ended', async () => {
        await kick(b, id)
        return streams[at]?.live === false
      })
      t.ok(elapsed().ours < BOUND)
    }
    for (const host of hosts) t.equal(await publish(host, 'away', 'lost'), 503)
    await t.rejects(listenOn(b, eventSource, 'away'), { message: 'EventSource: 503' })

    await redis.start()
    for (const host of hosts) await reloadWhole(host)
    for (const host of hosts) {
      await until('it has met Redis', async () => (await publish(host, 'away', 'x')) !== 503)
    }
    const again = await listenOn(b, eventSource, 'away')
    await publish(a, 'away', 'again')
    await until('it is heard', () => again.text.includes('again'))
  })

  void t.test('while it hangs a kick ends what is live, and what is about to be', async (t) => {
    const [mine, fresh] = [kickId(), kickId()]
    const stream = await listenOn(b, webSocket, 'hung', mine)
    redis.signal('SIGSTOP')
    const coming = listenOn(b, eventSource, 'hung-fresh', fresh)
    coming.catch(() => undefined)
    try {
      t.ok((await end(b, mine, [stream])) < BOUND)
      // Opened at once, or refused: in no case does it come later and stay.
      const opened = await Promise.race([coming.catch(() => undefined), delay(3000)])
      if (opened !== undefined) t.ok((await end(b, fresh, [opened])) < BOUND)
    } finally {
      redis.signal('SIGCONT')
    }
    await until('both go on', async () =>
      (await Promise.all(hosts.map((host) => publish(host, 'hung', 'x')))).every(
        (one) => one < 300,
      ),
    )
  })

  void t.test('a reload of one host leaves the other alone', async (t) => {
    const [here, there] = [
      await listenOn(a, eventSource, 'reload'),
      await listenOn(b, eventSource, 'reload'),
    ]
    await reloadWhole(a)
    await here.ended
    t.ok(there.live)
    const again = await listenOn(a, eventSource, 'reload')
    await until('both hear', async () => {
      await publish(b, 'reload', 'x')
      return [again, there].every(({ text }) => text.includes('x'))
    })
  })
})

void t.test('with a password of its own', { skip }, async (t) => {
  const redis = await startRedis(t, { requirepass: 'nchan-secret' })
  const { hosts, listenOn } = await pair(t, redis, 'nchan-secret')
  const stream = await listenOn(hosts[1], eventSource, 'closed')
  t.equal(await publish(hosts[0], 'closed', 'hello'), 201)
  await until('it is heard', () => stream.text.includes('hello'))
})
