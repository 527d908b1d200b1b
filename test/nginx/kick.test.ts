// Ending a live subscription: exactly the one, in every way a client listens, whatever it races with. Only
// what the client sees counts here: the number of subscribers that Nchan tells lags behind, for good after
// a WebSocket was kicked (1.3.6).
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, V1 } from './ask.ts'
import { type Answer, kickId, open, pass, resumeOf, startDaemon } from './daemon.ts'
import { eventSource, longPoll, type Stream, webSocket } from './listen.ts'

const WAYS = [
  ['EventSource', eventSource, /^(?:end|cut)$/],
  ['WebSocket', webSocket, /^1001 410 Gone$/],
  ['long-poll', longPoll, /^410$/],
] as const
const LIMIT = 30 // seconds

/** Waits for what must come soon. */
async function until(what: string, come: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() / 1000 + LIMIT
  while (!(await come())) {
    if (performance.now() / 1000 > deadline) throw new Error(`not within ${LIMIT} s: ${what}`)
    await delay(5)
  }
}

void t.test('kicks', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket })
  const private_ = (path: string, method: string) =>
    ask(0, path, { method, socket: nginx.kickSocket, headers: { Accept: 'text/json' } })
  const kick = async (id: string) => (await private_(`/kick/${id}`, 'DELETE')).status
  /** As the daemon does it: 404 says that nobody is there yet. */
  const end = async (id: string): Promise<void> => {
    await until('the kick finds somebody', async () => (await kick(id)) === 200)
  }
  const count = async (id: string): Promise<number> => {
    const { status, body } = await private_(`/kick/${id}`, 'GET')
    return status === 404 ? 0 : (JSON.parse(body) as { subscribers: number }).subscribers
  }
  const publish = (channel: string, body: string) =>
    ask(nginx.port, `${V1}/pub/${channel}`, { body })
  /** The next subscriptions to get these ids, in turn. */
  const give = (channel: string, ids: readonly string[]): void => {
    let next = 0
    daemon.answer = (asked) => open(channel, ids[next++ % ids.length] ?? '', resumeOf(asked))
  }
  t.beforeEach(() => {
    daemon.answer = pass
    daemon.asked.length = 0
    daemon.ended.length = 0
  })

  for (const [way, listen, howItEnds] of WAYS)
    void t.test(`${way}: one id ends its stream and no other`, async (t) => {
      for (let round = 0; round < 20; round++) {
        const [mine, other] = [kickId(), kickId()]
        give(`one-${way.toLowerCase()}`, [mine, other])
        const asked = daemon.asked.length
        const first = await listen(t, nginx.port, 'x')
        await until('mine was checked', () => daemon.asked.length === asked + 1)
        const second = await listen(t, nginx.port, 'x')
        await until('the other was checked', () => daemon.asked.length === asked + 2)

        await end(mine)
        t.match(await first.ended, howItEnds)
        t.ok(second.live, 'the other stream lives on')
        await end(other)
        t.match(await second.ended, howItEnds)
      }
    })

  void t.test(
    'the streams of one session to one channel share an id, and end together',
    async (t) => {
      for (let round = 0; round < 20; round++) {
        const shared = kickId()
        give('shared', [shared])
        const streams: Stream[] = []
        for (const [, listen] of [...WAYS, ...WAYS]) streams.push(await listen(t, nginx.port, 'x'))
        await until('all six listen', async () => (await count(shared)) === 6)
        const elapsed = startStopwatch()
        await end(shared)
        await Promise.all(streams.map((stream) => stream.ended))
        const took = Math.round(elapsed().ours)
        t.ok(took < 500, `${took} ms`)
      }
    },
  )

  void t.test('what is kicked hears nothing more, and the channel goes on', async (t) => {
    const [mine, other] = [kickId(), kickId()]
    give('busy', [mine, other])
    const first = await eventSource(t, nginx.port, 'x')
    const second = await webSocket(t, nginx.port, 'x')
    await publish('busy', 'before')
    await until('both have heard', () =>
      [first, second].every((stream) => stream.text.includes('before')),
    )
    await end(mine)
    await first.ended
    t.match(await publish('busy', 'after'), { status: 201 })
    await until('the other has heard', () => second.text.includes('after'))
    t.notMatch(first.text, /after/)
  })

  void t.test('200 of 1,000 streams end within 2 s, and only they', async (t) => {
    const kicked = Array.from({ length: 100 }, kickId)
    const streams: { stream: Stream; id: string }[] = []
    const connect = async (id: string) => {
      streams.push({
        stream: await eventSource(t, nginx.port, 'crowd', { Cookie: `id=${id}` }),
        id,
      })
    }
    daemon.answer = ({ headers }) => open('crowd', String(headers.cookie).slice('id='.length))
    // Two tabs each for those that go.
    const ids = [...kicked, ...kicked, ...Array.from({ length: 800 }, kickId)]
    while (ids.length > 0) await Promise.all(ids.splice(0, 50).map(connect))
    t.equal(streams.length, 1000)

    const elapsed = startStopwatch()
    const statuses = await Promise.all(kicked.map(kick))
    const going = streams.filter(({ id }) => kicked.includes(id))
    await Promise.all(going.map(({ stream }) => stream.ended))
    const took = Math.round(elapsed().ours)
    t.equal(going.length, 200)
    t.same(new Set(statuses), new Set([200]))
    t.ok(took < 2000, `${took} ms`)
    await publish('crowd', 'still there?')
    const left = streams.filter(({ stream }) => stream.live)
    t.equal(left.length, 800)
    await until('all others hear what comes next', () =>
      left.every(({ stream }) => stream.text.includes('still there?')),
    )
    for (const { stream } of streams) stream.close()
  })

  for (const [way, listen] of WAYS)
    void t.test(
      `${way}: a kick before the subscription is 404, and works when repeated`,
      async (t) => {
        const early = kickId()
        const checked = Promise.withResolvers<Answer>()
        daemon.answer = () => checked.promise
        const coming = listen(t, nginx.port, 'early')
        await until('the check is under way', () => daemon.asked.length === 1)
        t.equal(await kick(early), 404)
        checked.resolve(open('early', early))
        const stream = await coming
        await end(early)
        t.type(await stream.ended, 'string')
      },
    )

  void t.test(
    'after a kick, Last-Event-ID goes on where it was: nothing lost, nothing twice',
    async (t) => {
      for (let round = 0; round < 20; round++) {
        const ids = Array.from({ length: 3 }, kickId)
        const channel = `resume-${round}`
        give(channel, ids)
        const said = (stream: Stream) =>
          [...stream.text.matchAll(/^data: (.*)$/gm)].map(([, data = '']) => data)
        const last = (stream: Stream) => [...stream.text.matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? ''

        let next = 1
        const say = async () => await publish(channel, String(next++))
        const hears = async (stream: Stream, count: number) => {
          // One published in the very moment of a return may wait for the next (Nchan 1.3.6 with several
          // workers and two ids: 1 in 60).
          await until(`${count} are heard`, async () => {
            if (said(stream).length >= count) return true
            await say()
            return false
          })
        }

        const first = await eventSource(t, nginx.port, 'x')
        await hears(first, 2)
        await end(ids[0] ?? '')
        await first.ended
        for (const _ of '12') await say()

        const second = await eventSource(t, nginx.port, 'x', { 'Last-Event-ID': last(first) })
        await hears(second, 4)
        await end(ids[1] ?? '')
        await second.ended
        await say()

        // A new EventSource object sends no header: the address may say it.
        const query = `x?last_event_id=${encodeURIComponent(last(second))}`
        const third = await eventSource(t, nginx.port, query)
        await hears(third, 2)
        third.close()
        const heard = [first, second, third].flatMap(said)
        t.same(
          heard,
          heard.map((_, index) => String(index + 1)),
        )
      }
    },
  )

  void t.test('a long-poll that was kicked goes on by ETag under a new id', async (t) => {
    const ids = Array.from({ length: 3 }, kickId)
    give('poll', ids)
    await publish('poll', '1')
    const first = await ask(nginx.port, `${V1}/sub/x`)
    const from = {
      'If-Modified-Since': String(first.headers['last-modified']),
      'If-None-Match': String(first.headers.etag),
    }
    const waiting = await longPoll(t, nginx.port, 'x', from)
    await end(ids[1] ?? '')
    t.equal(await waiting.ended, '410')
    await publish('poll', '2')
    t.match(await ask(nginx.port, `${V1}/sub/x`, { headers: from }), { status: 200, body: '2' })
  })

  void t.test('the end of a stream is told, with its id', async (t) => {
    for (const [way, listen] of WAYS.slice(0, 2)) {
      const [left, kicked] = [kickId(), kickId()]
      give('told', [left, kicked])
      const leaving = await listen(t, nginx.port, 'x')
      await listen(t, nginx.port, 'x')
      leaving.close()
      await until(`${way}: the one that left is told`, () => daemon.ended.includes(left))
      await end(kicked)
      await until(`${way}: the one that was kicked is told`, () => daemon.ended.includes(kicked))
    }
  })

  void t.test('a daemon that is away, or hangs, keeps no stream and no kick waiting', async (t) => {
    for (const state of ['away', 'hangs'] as const) {
      const ids = Array.from({ length: 4 }, kickId)
      give('calm', ids)
      const streams = [
        await eventSource(t, nginx.port, 'x'),
        await webSocket(t, nginx.port, 'x'),
        await eventSource(t, nginx.port, 'x'),
        await webSocket(t, nginx.port, 'x'),
      ]
      daemon.answerEnded = 'hang'
      if (state === 'away') await daemon.stop()
      // What is published while a stream opens may wait for the next message (Nchan 1.3.6).
      await until('all have heard', async () => {
        t.match(await publish('calm', state), { status: 201 }, 'publishing goes on')
        return streams.every(({ text }) => text.includes(state))
      })

      const elapsed = startStopwatch()
      streams[0]?.close()
      streams[1]?.close()
      for (const id of ids.slice(2)) await end(id)
      await Promise.all(streams.map(({ ended }) => ended))
      const took = Math.round(elapsed().ours)
      t.ok(took < 1000, `${state}: ${took} ms`)
      if (state === 'away') await daemon.listen()
    }
    daemon.answerEnded = { status: 204 }
    t.equal((await ask(nginx.port, '/app/public/')).status, 502, 'the workers live on')
    t.notMatch(nginx.errorLog(), /exited on signal/)
  })

  void t.test('the private socket takes two verbs for kick ids, and nothing else', async (t) => {
    await publish('users-state', 'x')
    const id = kickId()
    give('users-state', [id])
    const stream = await eventSource(t, nginx.port, 'x')
    await until('it is counted', async () => (await count(id)) === 1)

    const rows: [method: string, path: string, status: number][] = [
      ['POST', `/kick/${id}`, 403],
      ['PUT', `/kick/${id}`, 403],
      ['OPTIONS', `/kick/${id}`, 403],
      ['DELETE', '/kick/users-state', 404],
      ['GET', '/kick/users-state', 404],
      ['DELETE', `/kick/${id}x`, 404],
      ['DELETE', `/kick/${id}%0a`, 404],
      ['DELETE', `/kick/${id}/`, 404],
      ['DELETE', `/kick/kick-${'a'.repeat(21)}.`, 404],
      ['DELETE', '/kick/', 404],
      ['GET', '/', 404],
      ['POST', `${V1}/pub/users-state`, 404],
      ['GET', `${V1}/sub/users-state`, 404],
      ['GET', `/kick/${kickId()}`, 404],
      ['DELETE', `/kick/${kickId()}`, 404],
    ]
    for (const [method, path, status] of rows)
      t.equal((await private_(path, method)).status, status, `${method} ${path}`)
    t.ok(stream.live)
    t.match(await publish('users-state', 'y'), { status: 201 })

    const { status, headers, body } = await private_(`/kick/${id}`, 'GET')
    t.equal(status, 200)
    t.match(headers['content-type'], 'text/json')
    t.match(JSON.parse(body), { messages: 0, subscribers: Number })
  })

  void t.test('from outside nobody kicks, and nobody says that a stream has ended', async (t) => {
    const lower = `kick-${'a'.repeat(22)}`
    daemon.answer = () => open('outside', lower)
    const stream = await eventSource(t, nginx.port, 'x')
    const asked = daemon.asked.length
    for (const path of [
      `/kick/${lower}`,
      `${V1}/pub/${lower}`,
      `${V1}/sub/${lower}`,
      `${V1}/pub/%6bick-${'a'.repeat(22)}`,
      '/_postern/subscription-ended',
    ])
      for (const method of ['GET', 'POST', 'DELETE'])
        t.equal((await ask(nginx.port, path, { method })).status, 404, `${method} ${path}`)
    t.equal(daemon.asked.length, asked)
    t.same(
      daemon.ended.filter((id) => id === lower),
      [],
    )
    t.ok(stream.live)
  })

  void t.test('a reload ends every stream; new ones can be kicked as ever', async (t) => {
    const ids = Array.from({ length: 6 }, kickId)
    give('reload', ids)
    const streams: Stream[] = []
    for (const [, listen] of WAYS) streams.push(await listen(t, nginx.port, 'x'))
    await until('all were checked', () => daemon.asked.length === 3)
    nginx.reload()
    await Promise.all(streams.map(({ ended }) => ended))
    t.same(await Promise.all(ids.slice(0, 3).map(kick)), [404, 404, 404], 'nobody is there')

    for (const [index, [way, listen, howItEnds]] of WAYS.entries()) {
      const id = ids[index + 3] ?? ''
      const stream = await listen(t, nginx.port, 'x')
      await end(id)
      t.match(await stream.ended, howItEnds, way)
    }
    t.notMatch(nginx.errorLog(), /exited on signal/)
  })
})
