// What comes to a channel's door and is no subscription, and what stands in front of it: everybody gets an answer at
// once, and every byte of an event stream as it comes.

import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, SIP, V1 } from './ask.ts'
import { pass, refuse, startDaemon } from './daemon.ts'
import { makeFolder } from './processes.ts'

void t.test("the channels' door", { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const folder = makeFolder(t)
  const [front, back] = [join(folder, 'front.sock'), join(folder, 'back.sock')]
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    // Another nginx in front, as it comes.
    http: `server { listen unix:${front}; location / { proxy_pass http://unix:${back}; } }`,
    site: [['    listen 80;', `    listen 80;\n    listen unix:${back};`]],
  })
  const channel = `${V1}/sub/users-state`
  t.beforeEach(() => {
    daemon.answer = pass
    daemon.asked.length = 0
  })

  /** The answers on one connection to what is written at once, until nginx closes it. */
  const talk = async (text: string, enough?: (heard: string) => boolean): Promise<string> => {
    const socket = connect(nginx.port, '127.0.0.1')
    let isClosed = false
    socket.on('close', () => (isClosed = true)).on('error', () => undefined)
    let heard = ''
    socket.setEncoding('latin1').on('data', (part: string) => (heard += part))
    socket.write(text)
    try {
      await until('it is answered', () => isClosed || enough?.(heard) === true)
    } finally {
      socket.destroy()
    }
    return heard
  }

  void t.test('whoever does not come to listen is told so at once', async (t) => {
    const elapsed = startStopwatch()
    for (const method of ['HEAD', 'PATCH', 'MKCOL', 'POST', 'PUT', 'DELETE', 'PROPFIND', 'LOCK']) {
      const reply = await ask(nginx.port, channel, { method })
      t.match(
        reply,
        { status: 405, headers: { allow: 'GET', 'cache-control': 'no-store' } },
        method,
      )
      if (method !== 'HEAD') {
        t.match(JSON.parse(reply.body), { success: false, error: 'Method not allowed' }, method)
      }
      const publisher = await ask(nginx.port, `${V1}/pub/users-state`, {
        method,
        from: '127.0.0.2',
      })
      t.equal(publisher.status, 403, `${method} to publish`)
    }
    t.ok(elapsed().ours < 5000)
    t.equal(daemon.asked.length, 0, 'and the daemon is not asked')
  })

  void t.test(
    'its answer is the last of the connection, and no answer to what stands behind it',
    async (t) => {
      const line = (method: string, path: string) =>
        `${method} ${path} HTTP/1.1\r\nHost: pbx\r\n\r\n`
      for (const method of ['HEAD', 'PATCH', 'MKCOL']) {
        const heard = await talk(line(method, channel) + line('GET', '/nothing-here'))
        t.same(heard.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 405'], method)
        t.match(heard, '\r\nConnection: close\r\n', 'whoever sent more sends it again')
      }
    },
  )

  void t.test('a connection becomes a WebSocket or nothing', async (t) => {
    for (const upgrade of ['h2c', 'websocket, h2c', 'TLS/1.0', 'websockets']) {
      const headers = { Connection: 'Upgrade', Upgrade: upgrade }
      await ask(nginx.port, `${V1}/pub/users-state`, { body: 'x' })
      t.match(await ask(nginx.port, channel, { headers }), { status: 200, body: 'x' }, upgrade)
      t.notOk(daemon.last().headers['x-original-upgrade'], upgrade)
    }
    daemon.answer = () => refuse(401, 'no_credential')
    for (const path of [channel, SIP]) {
      await ask(nginx.port, path, { headers: { Connection: 'Upgrade', Upgrade: 'WebSocket' } })
      t.equal(daemon.last().headers['x-original-upgrade'], 'websocket', path)
    }
  })

  void t.test('an event stream passes another nginx byte for byte, as it comes', async (t) => {
    const socket = connect(front)
    t.teardown(() => socket.destroy())
    let heard = ''
    socket.setEncoding('utf8').on('data', (part: string) => (heard += part))
    socket.write(`GET ${channel} HTTP/1.1\r\nHost: pbx\r\nAccept: text/event-stream\r\n\r\n`)
    await until('the stream has begun', () => /: ?hi|data: /.test(heard))
    while (!heard.includes('data: through')) {
      await ask(nginx.port, `${V1}/pub/users-state`, { body: 'through' })
      await delay(20)
    }
    t.notMatch(heard, /x-accel-buffering/i, 'it is a word between the two')
    const direct = await talk(
      `GET ${channel} HTTP/1.1\r\nHost: pbx\r\nAccept: text/event-stream\r\n\r\n`,
      (text) => text.includes('\r\n\r\n'),
    )
    t.match(direct, /^X-Accel-Buffering: no\r$/m)
    const poll = await ask(nginx.port, channel)
    t.notOk(poll.headers['x-accel-buffering'], 'a long-poll has an end')
  })
})
