// The kicker against a real nginx, and against sockets that misbehave: whatever they do, it says so in time.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { createKicker, type Kicker } from '../../src/streams/kicker.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, V1 } from '../nginx/ask.ts'
import { kickId, open, startDaemon } from '../nginx/daemon.ts'
import { eventSource, webSocket } from '../nginx/listen.ts'

/** A socket that says this to each request; undefined: nothing at all. */
const pretend = async (
  t: Test,
  answer: (asked: string, socket: Socket, count: number) => string | undefined,
): Promise<{ kicker: Kicker; asked: string[]; connections(): number }> => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-k-'))
  const path = join(folder, 'kick.sock')
  const asked: string[] = []
  const open = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    connections++
    open.add(socket)
    socket.on('error', () => undefined)
    socket.on('data', (data) => {
      asked.push(data.toString())
      const said = answer(data.toString(), socket, asked.length)
      if (said !== undefined) socket.write(said)
    })
  }).listen(path)
  await once(server, 'listening')
  const kicker = createKicker(path)
  t.teardown(() => {
    kicker.close()
    for (const socket of open) socket.destroy()
    server.close()
    rmSync(folder, { recursive: true, force: true })
  })
  return { kicker, asked, connections: () => connections }
}

const streamOf = (kick: string): Subscription => ({
  kick,
  sid: 's',
  username: '201',
  userId: 1,
  role: 'user',
  resource: 'room',
  startedAt: 0,
  until: 0,
  address: '',
  agent: '',
  kid: '',
  worker: '',
})
const end = async (kicker: Kicker, kick: string) => kicker.end([streamOf(kick)])[0]

const http = (status: number, body = ''): string =>
  `HTTP/1.1 ${status} X\r\nContent-Length: ${body.length}\r\n\r\n${body}`

void t.test('with a real nginx', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket })
  const kicker = createKicker(nginx.kickSocket)
  t.teardown(() => {
    kicker.close()
  })

  await t.test('it counts and ends the streams of one id', async (t) => {
    const [mine, other] = [kickId(), kickId()]
    t.equal(await end(kicker, mine), 'nobody')
    t.equal(await kicker.count(streamOf(mine)), 'unknown')
    const streams = []
    for (const kick of [mine, mine, other]) {
      daemon.answer = () => open('room', kick)
      streams.push(await (kick === other ? webSocket : eventSource)(t, nginx.port, 'x'))
    }
    // Nchan's count may lag, or be wrong for a while: that it says a number is all there is to see.
    t.type(await kicker.count(streamOf(mine)), 'number')
    t.equal(await end(kicker, mine), 'ended')
    await Promise.all(streams.slice(0, 2).map(({ ended }) => ended))
    t.ok(streams[2]?.live)
    t.equal(await end(kicker, other), 'ended')
    await streams[2]?.ended
  })

  await t.test('200 at once go over a few connections', async (t) => {
    const elapsed = startStopwatch()
    const all = await Promise.all(Array.from({ length: 200 }, () => end(kicker, kickId())))
    t.same(new Set(all), new Set(['nobody']))
    t.ok(elapsed().ours < 2000)
  })

  await t.test('it counts Nchan’s channels', async (t) => {
    t.ok((await kicker.countChannels()) >= 0)
  })

  await t.test('how long a channel keeps something, where it does', async (t) => {
    t.equal(await kicker.keepsUntil('quiet'), undefined, 'a channel that nobody knows')
    daemon.answer = () => open('quiet', kickId())
    const listening = await eventSource(t, nginx.port, 'x')
    t.equal(await kicker.keepsUntil('quiet'), undefined, 'one that somebody listens to')
    await ask(nginx.port, `${V1}/pub/quiet`, { body: 'x' })
    const left = Number(await kicker.keepsUntil('quiet')) - Date.now() / 1000
    t.ok(left > 17_900 && left <= 18_000, String(left))
    t.match(await ask(0, '/kept/quiet', { method: 'DELETE', socket: nginx.kickSocket }), {
      status: 403,
    })
    t.ok(listening.live)
    listening.close()
  })

  await t.test('nginx away is a fault, and back it works again', async (t) => {
    await nginx.stop()
    await t.rejects(kicker.countChannels())
    await t.rejects(end(kicker, kickId()), { code: /ENOENT|ECONNREFUSED/ })
    await t.rejects(kicker.count(streamOf(kickId())), { code: /ENOENT|ECONNREFUSED/ })
    const next = await startNginx(t, { postern: daemon.socket })
    const other = createKicker(next.kickSocket)
    t.teardown(() => {
      other.close()
    })
    t.equal(await end(other, kickId()), 'nobody')
  })
})

void t.test('what it asks names one private channel and nothing else', async (t) => {
  const { kicker, asked } = await pretend(t, () => http(200, '{"subscribers": 3}'))
  const id = `kick-${randomBytes(16).toString('base64url')}`
  t.equal(await end(kicker, id), 'ended')
  t.equal(await kicker.count(streamOf(id)), 3)
  t.ok(asked[0]?.startsWith(`DELETE /kick/${id} HTTP/1.1\r\n`))
  t.ok(asked[1]?.startsWith(`GET /kick/${id} HTTP/1.1\r\n`))
})

void t.test('every status that means an end is one', async (t) => {
  for (const status of [200, 202, 204]) {
    const said = status === 204 ? 'HTTP/1.1 204 X\r\n\r\n' : http(status, 'ok')
    const { kicker } = await pretend(t, () => said)
    t.equal(await end(kicker, 'kick-x'), 'ended', String(status))
  }
})

void t.test('an answer that says nothing is a fault, and names the cure', async (t) => {
  const rows: [what: string, said: string][] = [
    ['500', http(500, 'broken')],
    ['403', http(403)],
    ['302', http(302)],
    ['200 without a number', http(200, '{"channels": 3}')],
    ['200 with text for a number', http(200, '{"subscribers": "many"}')],
    ['nothing', http(200)],
  ]
  for (const [what, said] of rows) {
    const { kicker } = await pretend(t, () => said)
    if (!said.includes(' 200 ')) {
      await t.rejects(end(kicker, 'kick-x'), /include postern-kick\.conf as it stands/, what)
    }
    await t.rejects(
      kicker.count(streamOf('kick-x')),
      /include postern-kick\.conf as it stands/,
      what,
    )
  }
})

void t.test('garbage, an end in the middle and silence are faults, in time', async (t) => {
  const rows: [
    what: string,
    answer: Parameters<typeof pretend>[1],
    fault: { code: RegExp | string; message?: RegExp },
  ][] = [
    ['garbage', () => 'SSH-2.0-OpenSSH\r\n\r\n', { code: /^HPE_/ }],
    ['closed', (_asked, socket) => void socket.destroy(), { code: 'ECONNRESET' }],
    [
      'cut short',
      (_asked, socket) => {
        socket.end('HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{"subs')
        return undefined
      },
      { code: 'ECONNRESET' },
    ],
    ['hangs', () => undefined, { code: 'ETIMEDOUT', message: /gets no answer from nginx/ }],
    [
      'hangs in its answer',
      () => 'HTTP/1.1 200 X\r\nContent-Length: 100\r\n\r\n{"subs',
      { code: 'ETIMEDOUT' },
    ],
  ]
  const elapsed = startStopwatch()
  await Promise.all(
    rows.map(async ([what, answer, fault]) => {
      const { kicker } = await pretend(t, answer)
      await Promise.all([
        t.rejects(end(kicker, 'kick-x'), fault, what),
        t.rejects(kicker.count(streamOf('kick-x')), fault, what),
      ])
    }),
  )
  t.ok(elapsed().ours < 4000, `${Math.round(elapsed().ours)} ms`)
})

void t.test('a kept connection that closes at the moment of its use is no fault', async (t) => {
  const { kicker, asked, connections } = await pretend(t, (_asked, socket, count) => {
    if (count === 1) return http(200, 'x')
    if (connections() > 1) return http(404)
    socket.destroy()
    return undefined
  })
  t.equal(await end(kicker, 'kick-x'), 'ended')
  t.equal(await end(kicker, 'kick-y'), 'nobody')
  t.equal(connections(), 2)
  t.equal(asked.length, 3)
})

void t.test('all kept connections close at once, as at a reload of nginx', async (t) => {
  let quiet = true
  const sockets = new Set<Socket>()
  const { kicker, connections } = await pretend(t, (_asked, socket) => {
    sockets.add(socket)
    return quiet ? http(404) : http(200, 'x')
  })
  await Promise.all(Array.from({ length: 32 }, () => end(kicker, 'kick-x')))
  const kept = connections()
  t.ok(kept > 1)
  quiet = false
  for (const socket of sockets) socket.destroy()
  t.equal(await end(kicker, 'kick-y'), 'ended')
  t.equal(connections(), kept + 1)
})

void t.test('no end waits behind what is asked for clients that come back', async (t) => {
  const { kicker } = await pretend(t, (asked) =>
    asked.startsWith('DELETE') ? http(404) : undefined,
  )
  const looks = Array.from({ length: 16 }, (_, n) => kicker.keepsUntil(`room-${n}`))
  const late = Promise.allSettled(looks).then(() => 'late')
  t.equal(await Promise.race([end(kicker, 'kick-x'), late]), 'nobody')
})

void t.test('an answer that takes as long as Nchan’s second try is one', async (t) => {
  const { kicker } = await pretend(t, (_asked, socket) => {
    setTimeout(() => socket.write(http(404)), 1200)
    return undefined
  })
  t.equal(await end(kicker, 'kick-x'), 'nobody')
})

void t.test('nobody there, and closed', async (t) => {
  const kicker = createKicker(join(t.testdir(), 'none.sock'))
  const cure = /none\.sock is not there: .* `systemctl restart nginx`/
  await t.rejects(end(kicker, 'kick-x'), { name: 'Error', code: 'ENOENT', message: cure })
  const { kicker: other } = await pretend(t, () => undefined)
  const asked = end(other, 'kick-x')
  await new Promise(setImmediate)
  other.close()
  await t.rejects(asked, { code: 'ECONNRESET' })
})

void t.test('counts that nginx does not give are a fault', async (t) => {
  const { kicker } = await pretend(t, () => http(404, ''))
  await t.rejects(kicker.countChannels(), /nginx answered 404/)
  const { kicker: other } = await pretend(t, () => http(200, 'hello'))
  await t.rejects(other.countChannels(), /nginx answered 200 there: include postern-kick/)
})
