// The Nchan channels as shipped: who may publish, which names exist, and that a message arrives by every
// way a client listens.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, V1 } from './ask.ts'
import { kickId, open, PASS, pass, refuse, startDaemon } from './daemon.ts'

const LIMIT = AbortSignal.timeout(300_000)

void t.test('channels', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket, origins: ['https://phone.test'] })
  const subscribe = (channel: string, headers: Record<string, string> = {}) =>
    ask(nginx.port, `${V1}/sub/${channel}`, { headers })
  const publish = (channel: string, body: string, more = {}) =>
    ask(nginx.port, `${V1}/pub/${channel}`, { body, ...more })
  /** Publishes until somebody hears it: a subscription has no moment at which it says "I am there". */
  const publishHeard = async (channel: string, body: string) => {
    while (!LIMIT.aborted && (await publish(channel, body)).status !== 201) await delay(20)
  }
  t.beforeEach(() => {
    daemon.answer = pass
    daemon.asked.length = 0
  })

  void t.test('a long-poll receives what is published', async (t) => {
    const waiting = subscribe('poll?authorization=A')
    while (daemon.asked.length === 0) await delay(5)
    await publish('poll', '{"n":1}')
    const reply = await waiting
    t.match(reply, { status: 200, body: '{"n":1}' })
    t.match(daemon.last().headers, {
      'x-auth-action': 'subscribe',
      'x-auth-accept': 'header query ticket cookie',
      'x-original-uri': `${V1}/sub/poll?authorization=A`,
    })
    t.equal(daemon.last().url, '/check/poll')
  })

  void t.test('an EventSource receives what is published', async (t) => {
    const headers = { Accept: 'text/event-stream' }
    const url = `${nginx.url}${V1}/sub/stream?authorization=A`
    const response = await fetch(url, { headers, signal: LIMIT })
    t.equal(response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
    const sent = publishHeard('stream', '{"n":2}')
    let text = ''
    for await (const part of response.body ?? []) {
      text += Buffer.from(part).toString()
      if (text.includes('\n\n') && text.includes('data')) break
    }
    await sent
    t.match(text, /^data: \{"n":2\}$/m)
  })

  void t.test('a WebSocket receives what is published, unchanged', async (t) => {
    const message = '{"states":{"201":{"state":"Idle","name":"Zoë \\u0001"}}}'
    const socket = new WebSocket(`ws://127.0.0.1:${nginx.port}${V1}/sub/socket?authorization=A`)
    const heard = Promise.withResolvers<unknown>()
    socket.addEventListener('message', (event) => heard.resolve(event.data))
    socket.addEventListener('error', () => heard.reject(new Error('the WebSocket was refused')))
    const sent = publishHeard('socket', message)
    t.equal(await heard.promise, message)
    await sent
    socket.close()
  })

  void t.test('a refused WebSocket is refused before the upgrade', async (t) => {
    daemon.answer = () => refuse(401, 'expired')
    const reply = await subscribe('socket', {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    })
    t.match(reply, { status: 401, headers: { 'www-authenticate': 'Bearer error="invalid_token"' } })
  })

  void t.test('the daemon names the channel', async (t) => {
    daemon.answer = () => open('users-state-user-7', kickId())
    await publish('users-state-user-7', 'seven')
    await publish('users-state', 'all')
    t.match(await subscribe('me/users-state'), { status: 200, body: 'seven' })
    t.equal(daemon.last().resource, 'me/users-state')
    daemon.answer = () => open('active-calls-user-7', kickId())
    await publish('active-calls-user-7', 'calls of seven')
    t.match(await subscribe('me/active-calls'), { status: 200, body: 'calls of seven' })
    t.equal(daemon.last().resource, 'me/active-calls')
  })

  void t.test('a refusal for a channel of their own leads to no wider one', async (t) => {
    await publish('users-state', 'all')
    for (const [answer, status] of [
      [refuse(401, 'expired'), 401],
      [refuse(403, 'no_grant'), 403],
      [{ status: 503 }, 503],
      [PASS, 503],
    ] as const) {
      daemon.answer = () => answer
      const reply = await subscribe('me/users-state')
      t.equal(reply.status, status)
      t.notMatch(reply.body, /all/)
    }
    t.equal(daemon.asked.length, 4, 'nothing else is asked for')
  })

  void t.test('a pass that names no channel, or an odd id, opens nothing', async (t) => {
    const kick = kickId()
    const table: [what: string, ids: string][] = [
      ['neither', ''],
      ['no channel', `,${kick}`],
      ['an empty kick id', 'users-state,'],
      ['a kick id cut short', `users-state,${kick.slice(0, -1)}`],
      ['a kick id of another shape', `users-state,${'a'.repeat(27)}`],
      ['a kick id where the channel should be', `${kickId()},${kick}`],
      ['a channel that no producer could name', `Users State,${kick}`],
    ]
    await publish('users-state', 'x')
    for (const [what, ids] of table) {
      daemon.answer = () => ({
        status: 204,
        headers: { ...PASS.headers, 'X-Auth-Channels': ids },
      })
      const reply = await subscribe('users-state')
      t.match(reply, { status: 503, headers: { 'retry-after': '2' } }, what)
    }
  })

  void t.test(
    'a name is 1 to 64 of a-z, 0-9 and -, and nothing else reaches the check',
    async (t) => {
      const names = [
        'a'.repeat(65),
        'Users-State',
        'users_state',
        '%2e%2e',
        '%2e%2e/sub/',
        '%00',
        '',
        'users-state/',
        'a%2fb',
        'a/b',
        'users-state%0a',
        'users-state%0d%0aX-Evil:%20yes',
        'users-state%20',
        'users-state%3f',
        'me/users-states',
        'me/contacts',
        'me/',
        'kick-',
        'kick-abc',
        `kick-${'a'.repeat(22)}`,
      ]
      daemon.answer = (one) => (one.resource !== undefined ? pass(one) : { status: 404 })
      for (const name of names) {
        const wanted = name === '%00' ? 400 : 404
        t.equal((await subscribe(name)).status, wanted, `sub ${name}`)
        t.equal((await publish(name, 'x')).status, wanted, `pub ${name}`)
      }
      t.equal((await ask(nginx.port, `/x${V1}/sub/a`)).status, 404, 'a path in front')
      t.notOk(daemon.asked.some((one) => one.resource !== undefined))

      daemon.answer = () => refuse(403, 'no_grant')
      for (const name of ['a', 'a'.repeat(64), '0', '-', 'event-bus', 'kicks', '%75sers-state'])
        t.equal((await subscribe(name)).status, 403, name)
      t.equal(daemon.last().resource, 'users-state', 'decoded')
    },
  )

  void t.test('producers of this machine publish without a token, nobody else does', async (t) => {
    const table: [what: string, more: object, status: number][] = [
      ['from 127.0.0.1', {}, 202],
      ['with a token it needs not', { headers: { Authorization: 'Bearer A' } }, 202],
      ['from elsewhere', { from: '127.0.0.2' }, 403],
      ['relayed by a proxy here', { headers: { 'X-Forwarded-For': '192.0.2.1' } }, 403],
      ['relayed, saying it is us', { headers: { 'X-Forwarded-For': '127.0.0.1' } }, 403],
      ['relayed by a proxy that says Forwarded', { headers: { Forwarded: 'for=127.0.0.1' } }, 403],
      [
        'from elsewhere, saying it is us',
        { from: '127.0.0.2', headers: { 'X-Real-IP': '127.0.0.1' } },
        403,
      ],
      // Reading a channel's state and ending its subscriptions are no producer's business.
      ['GET', { method: 'GET' }, 403],
      ['PUT', { method: 'PUT' }, 403],
      ['DELETE', { method: 'DELETE' }, 403],
      ['OPTIONS', { method: 'OPTIONS' }, 403],
    ]
    for (const [what, more, status] of table) {
      const reply = await publish('rules', 'x', more)
      t.equal(reply.status, status, what)
      if (status === 403)
        t.match(JSON.parse(reply.body), { success: false, error: 'Forbidden' }, what)
    }
    t.equal(daemon.asked.length, 0, 'the daemon is not asked')
  })

  void t.test('a subscriber cannot publish', async (t) => {
    for (const method of ['POST', 'PUT', 'DELETE']) {
      const path = `${V1}/sub/mute`
      const reply = await ask(nginx.port, path, { method, body: 'x' })
      t.ok([403, 405].includes(reply.status), `${method}: ${reply.status}`)
    }
    t.match((await publish('mute', 'from the producer')).body, /queued messages: 1\b/)
    t.equal((await subscribe('mute')).body, 'from the producer')
  })

  void t.test('a late subscriber finds the newest state, and all contacts', async (t) => {
    const count = async (channel: string) => {
      for (let i = 1; i <= 12; i++) await publish(channel, `${channel} ${i}`)
      const { body } = await publish(channel, 'last')
      return Number(/queued messages: (\d+)/.exec(body)?.[1])
    }
    const table: [channel: string, buffered: number][] = [
      ['users-state', 1],
      ['active-calls', 1],
      ['users-state-user-7', 1],
      ['active-calls-user-7', 1],
      ['contacts', 13],
      ['event-bus', 10],
    ]
    for (const [channel, buffered] of table) t.equal(await count(channel), buffered, channel)
    t.equal((await subscribe('users-state')).body, 'last')
    for (let i = 0; i < 200; i++) await publish('contacts', 'x')
    t.match((await publish('contacts', 'x')).body, /queued messages: 200\b/)
  })

  void t.test('a channel drains by Last-Modified and ETag', async (t) => {
    for (const body of ['one', 'two', 'three']) await publish('drain', body)
    const seen: string[] = []
    let headers: Record<string, string> = {}
    while (seen.length < 3) {
      const reply = await subscribe('drain', headers)
      seen.push(reply.body)
      headers = {
        'If-Modified-Since': String(reply.headers['last-modified']),
        'If-None-Match': String(reply.headers.etag),
      }
    }
    t.same(seen, ['one', 'two', 'three'])
  })

  void t.test('junk where a message id should stand harms no worker', async (t) => {
    await publish('junk', 'x')
    for (const id of ['-1', '0:0', 'x', '1:[2],-', '9'.repeat(400), '%00', ':,:,:', '1:[[[']) {
      const junk = { 'Last-Event-ID': id, 'If-None-Match': id, 'If-Modified-Since': id }
      const controller = new AbortController()
      // One that Nchan takes for the future waits: it is enough that the worker lives on.
      const asked = fetch(`${nginx.url}${V1}/sub/junk`, {
        headers: junk,
        signal: controller.signal,
      })
      const status = asked.then(
        (response) => response.status,
        () => 0,
      )
      const first = await Promise.race([status, delay(100, 0)])
      controller.abort()
      t.ok([0, 200, 304, 400].includes(first), `${id}: ${first}`)
      t.equal((await publish('junk', 'x')).status >= 200, true)
    }
    t.notMatch(nginx.errorLog(), /exited on signal/)
  })

  void t.test(
    'a page of another origin brings a token of its own, and never cookies',
    async (t) => {
      await publish('origin', 'x')
      for (const origin of ['https://evil.test', 'https://phone.test', 'null', nginx.url]) {
        const { status, headers } = await subscribe('origin', { Origin: origin })
        t.equal(status, 200, origin)
        t.equal(headers['access-control-allow-origin'], '*', origin)
        t.notOk(headers['access-control-allow-credentials'], origin)
      }
    },
  )

  void t.test('answers are not kept and not guessed at', async (t) => {
    await publish('headers', '<script>')
    t.match((await subscribe('headers')).headers, {
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    })
  })
})
