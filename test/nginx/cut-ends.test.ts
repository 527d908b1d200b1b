// Whatever nginx serves for a session ends with it, by the kernel's hand: each cause of an end, on a subscription and on
// a WebSocket that nginx passes on, and after each process has died that has a part in it. Needs root.

import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, request } from 'node:http'
import { connect } from 'node:http2'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { type Cutter, NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { nginxMissing } from '../fixtures/nginx.ts'
import { hashPassword } from '../../src/passwords/hash.ts'
import { CHEAP, until } from '../fixtures/postern.ts'
import { ask, SIP, V1 } from './ask.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'
import { claimsOf, endsWithin, HASH, openSite, poller, type Site, withToken } from './live.ts'

const skip = NEEDS_CUTTER.skip || nginxMissing()
const BOUND = 500 // milliseconds after the end of the right
const ROOM = 'room-cut'

/** An Asterisk that takes every upgrade, and says something each 20 ms. */
const startAsterisk = async (t: Test): Promise<string> => {
  const server = createServer()
  server.on('upgrade', (_request, socket: Socket) => {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    )
    const timer = setInterval(() => socket.write('NOTIFY'), 20)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      clearInterval(timer)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

const openCutSite = async (
  t: Test,
  options: {
    streams?: string
    sections?: Readonly<Record<string, string>>
    workers?: number
    h2?: number
    /** Another address to listen on. */
    also?: string
  } = {},
) => {
  const { workers = 2, sections, streams, h2, also } = options
  const more = h2 === undefined ? also : `127.0.0.1:${h2} http2`
  const asterisk = await startAsterisk(t)
  const site = await openSite(t, {
    ...(streams !== undefined && { streams }),
    nginx: {
      asterisk,
      workers,
      ...(more !== undefined && {
        listen: (port: number) => `127.0.0.1:${port}; listen ${more.replace('PORT', `${port}`)}`,
      }),
    },
    users: Array.from({ length: 8 }, (_, at) => `gone-${at}:${HASH}:user`),
    sections: {
      'roles.user': 'grants = ["subscribe:room-*", "connect:sip"]',
      'roles.guest': 'grants = ["subscribe:room-*"]',
      ...sections,
    },
  })
  const cutterOptions = {
    ports: [site.nginx.port, ...(h2 === undefined ? [] : [h2])],
    socket: site.place.at('cut.sock'),
  }
  let cutter: Cutter = await startCutter(t, cutterOptions)
  return {
    ...site,
    cutter: () => cutter,
    async startCutter() {
      cutter = await startCutter(t, cutterOptions)
    },
  }
}

const metric = async ({ place }: Pick<Site, 'place'>, series: string): Promise<number> => {
  const { body } = await place.operator('/metrics')
  const line = body.split('\n').find((one) => one.startsWith(`${series} `))
  return Number(line?.split(' ')[1] ?? 0)
}
const CUT = 'postern_streams{kind="cut"}'

/** A WebSocket that nginx passes on, as bytes. */
const connectSip = async (
  t: Test,
  port: number,
  token: string,
  host = '127.0.0.1',
): Promise<Stream> => {
  const outgoing = request({
    host,
    port,
    setHost: false,
    path: `${SIP}?authorization=${token}`,
    headers: { Host: 'pbx', Connection: 'Upgrade', Upgrade: 'websocket' },
    agent: false,
  }).end()
  const [, socket] = (await once(outgoing, 'upgrade')) as [unknown, Socket]
  t.teardown(() => socket.destroy())
  const { promise: ended, resolve } = Promise.withResolvers<string>()
  let text = ''
  socket.on('data', (part: Buffer) => (text += String(part)))
  socket.on('error', () => undefined)
  socket.on('close', () => {
    resolve('cut')
  })
  return {
    get text() {
      return text
    },
    get live() {
      return !socket.destroyed
    },
    ended,
    close: () => void socket.destroy(),
  }
}

void t.test('each end of a right ends all that is served by it', { skip }, async (t) => {
  const site = await openCutSite(t)
  const { nginx, place, enter } = site
  site.keepBusy(t, ROOM)
  const stranger = await enter('202')
  const others = await openAll(t, nginx.port, stranger.access)

  const users = (change: (text: string) => string): void => {
    writeFileSync(place.at('users'), change(readFileSync(place.at('users'), 'utf8')))
  }
  const changed = async (change: (text: string) => string): Promise<void> => {
    users(change)
    await site.control('/users/reload')
  }
  const causes: Record<string, (user: string, access: string) => Promise<unknown>> = {
    logout: (_user, access) => site.post('/auth/logout', access),
    'the own list of sessions': (_user, access) =>
      site.post(`/auth/sessions/${claimsOf(access).sid}`, access, 'DELETE'),
    disabling: (user) => changed((text) => text.replace(`${user}:`, `${user}:!`)),
    removal: (user) => changed((text) => text.replace(new RegExp(`^${user}:.*\n`, 'm'), '')),
    'another password': (user) =>
      changed((text) =>
        text.replace(
          new RegExp(`^${user}:[^:]*`, 'm'),
          () => `${user}:${hashPassword('x', CHEAP)}`,
        ),
      ),
    'the operator, kicking': (_user, access) =>
      site.control(`/sessions/kick?id=${claimsOf(access).sid}`),
    'the operator, ending': (user) => site.control(`/sessions/end?user=${user}`),
  }
  for (const [at, [cause, end]] of Object.entries(causes).entries()) {
    const user = `gone-${at}`
    const { access } = await enter(user)
    const streams = await openAll(t, nginx.port, access)
    await end(user, access)
    const took = await endsWithin(streams, BOUND)
    t.ok(took < BOUND, `${cause}: ${Math.round(took)} ms`)
  }
  t.ok(
    others.every(({ live }) => live),
    'and nobody else’s',
  )
  t.equal(await metric(site, CUT), 3)

  await changed((text) => text.replace(/^(202:[^:]*):user/m, '$1:guest'))
  const [, , sip] = others
  t.ok((await endsWithin([sip as Stream], BOUND)) < BOUND, 'a role that may less')
  t.same(
    others.map(({ live }) => live),
    [true, true, false],
  )
  t.equal(await metric(site, 'postern_streams_unsure'), 0)
  for (const sign of ['kick', 'cut']) {
    const ended = (await place.operator('/metrics')).body.match(
      new RegExp(`^postern_kicks_total\\{[^}]*means="${sign}"\\}.*$`, 'gm'),
    )
    t.equal(ended === null, sign === 'kick', `${sign}: ${String(ended)}`)
  }
  t.notMatch(nginx.errorLog(), /eyJ/, 'no log holds a credential')
})

const renew = async (site: Pick<Site, 'post'>, refresh: string): Promise<string> => {
  const { status, body } = await site.post('/auth/refresh', refresh)
  if (status !== 200) throw new Error(`refresh: ${status} ${body}`)
  return (JSON.parse(body) as { access_token: string }).access_token
}

const openAll = async (t: Test, port: number, token: string): Promise<Stream[]> => [
  await eventSource(t, port, withToken(ROOM, token)),
  await webSocket(t, port, withToken(ROOM, token)),
  await connectSip(t, port, token),
]

void t.test('the end of a token, and a refresh', { skip }, async (t) => {
  const site = await openCutSite(t, { sections: { softphone: 'access_ttl = 4' } })
  const { nginx, enter } = site
  site.keepBusy(t, ROOM)
  const [ends, stays] = [await enter('201'), await enter('202')]
  const [ending, staying] = [
    await openAll(t, nginx.port, ends.access),
    await openAll(t, nginx.port, stays.access),
  ]
  await delay(1500)
  const renewed = await renew(site, stays.refresh)
  await delay(claimsOf(ends.access).exp * 1000 - Date.now())
  const took = await endsWithin(ending, BOUND)
  t.ok(took < BOUND, `${Math.round(took)} ms`)
  t.ok(
    staying.every(({ live }) => live),
    'what was refreshed goes on',
  )
  const last = claimsOf(renewed).exp * 1000 - Date.now()
  await endsWithin(staying, last + BOUND)
})

void t.test('after each process has died that has a part in it', { skip }, async (t) => {
  const site = await openCutSite(t)
  const { nginx, enter } = site
  site.keepBusy(t, ROOM)
  const [mine, other, third] = [await enter('201'), await enter('202'), await enter('gone-0')]
  const [first, second, last] = [
    await openAll(t, nginx.port, mine.access),
    await openAll(t, nginx.port, other.access),
    await openAll(t, nginx.port, third.access),
  ]

  await t.test('the daemon', async (t) => {
    await site.kill()
    const left = await eventSource(t, nginx.port, withToken(ROOM, mine.access)).catch(
      () => undefined,
    )
    t.equal(left, undefined, 'nothing opens meanwhile')
    await site.start()
    t.ok(
      [...first, ...second].every(({ live }) => live),
      'a restart ends nobody',
    )
    t.equal(await metric(site, CUT), 9)
    await site.post('/auth/logout', mine.access)
    t.ok((await endsWithin(first, BOUND)) < BOUND)
  })

  await t.test('the cutter: first nothing ends, then all that was to', async (t) => {
    await site.cutter().kill()
    await site.post('/auth/logout', other.access)
    t.ok(second.every(({ live }) => live))
    await site.startCutter()
    await endsWithin(second, 2000)
    t.ok(
      last.every(({ live }) => live),
      'and nothing else',
    )
    await until('it is over', async () => (await metric(site, CUT)) === 3)
  })

  await t.test('a restore of the store', async (t) => {
    await site.postern('store', 'backup', site.place.at('backup.db'))
    const late = await openAll(t, nginx.port, (await enter('gone-1')).access)
    await site.kill()
    await site.postern('store', 'restore', '--keep-sessions', site.place.at('backup.db'))
    await site.start()
    t.ok((await endsWithin(late, BOUND)) < BOUND, 'the backup does not know them')
    t.ok(
      last.every(({ live }) => live),
      'and nobody else ends',
    )
    await until('it is over', async () => (await metric(site, CUT)) === 3)
  })

  await t.test('both, and a worker', async (t) => {
    const worker = Number(/^[1-9]\d*$/.exec(String(await workerOf(nginx.pid))))
    process.kill(worker, 'SIGKILL')
    await site.kill()
    await site.cutter().kill()
    await site.startCutter()
    await site.start()
    await site.post('/auth/logout', third.access)
    await endsWithin(last, BOUND)
    t.equal(await metric(site, 'postern_streams_unsure'), 0)
    await until('it is over', async () => (await metric(site, CUT)) === 0)
  })
})

const workerOf = async (master: number): Promise<number> =>
  Number(readFileSync(`/proc/${master}/task/${master}/children`, 'utf8').trim().split(' ')[0])

void t.test(
  'an honest long-poll meets no limit, and one that came too late ends',
  { skip },
  async (t) => {
    const site = await openCutSite(t, {
      streams: 'per_session = 2\nstreams_per_session = 8',
      workers: 1,
    })
    const { nginx, enter, publish } = site
    const { access } = await enter('201')
    const [one, two] = [
      await poller(t, nginx.port, withToken('room-1', access)),
      await poller(t, nginx.port, withToken('room-2', access)),
    ]
    await delay(1500) // a worker of nginx that has just started is given a second
    for (let at = 0; at < 60; at++) {
      await publish('room-1', `a${at}`)
      await publish('room-2', `b${at}`)
      await delay(30)
    }

    await until('all has come', () => one.text.includes('a59') && two.text.includes('b59'))
    t.ok(one.live && two.live)
    for (let at = 0; at < 60; at++) t.ok(one.text.includes(`a${at}`))
    const third = await ask(nginx.port, `${V1}/sub/${withToken('room-3', access)}`)
    t.equal(third.status, 403, 'what is open counts')
    await site.post('/auth/logout', access)
    t.ok((await endsWithin([one, two], BOUND)) < BOUND)
  },
)

/** A link of its own, which not every machine has; nginx does not say it. Two with clients by one name: test/cut. */
const openLink = (t: Test): string => {
  const name = `pst${process.pid}`
  const ip = (...args: readonly string[]) => execFileSync('ip', args)
  ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}e`)
  t.teardown(() => void ip('link', 'del', name))
  for (const end of [`${name}e`, name]) ip('link', 'set', end, 'up')
  const address = `fe80::${(process.pid % 0xffff).toString(16)}` // of a second run beside this one, another
  ip('addr', 'add', `${address}/64`, 'dev', name, 'nodad')
  return `${address}%${name}`
}

void t.test('a client by a link-local address is cut', { skip }, async (t) => {
  const link = openLink(t)
  const site = await openCutSite(t, { also: '[::]:PORT ipv6only=on' })
  const { access } = await site.enter('201')
  const stream = await connectSip(t, site.nginx.port, access, link)
  t.equal(await metric(site, CUT), 1)
  await site.post('/auth/logout', access)
  t.ok((await endsWithin([stream], BOUND)) < BOUND)
})

void t.test('a logout over the connection that it ends sees its answer', { skip }, async (t) => {
  const free = createServer().listen(0, '127.0.0.1')
  await once(free, 'listening')
  const { port } = free.address() as AddressInfo
  free.close()
  await once(free, 'close')
  const site = await openCutSite(t, { h2: port })
  for (let round = 0; round < 20; round++) {
    const { access } = await site.enter('201')
    const session = connect(`http://127.0.0.1:${port}`)
    const closed = new Promise((resolve) => session.once('close', resolve))
    session.on('error', () => undefined)
    const send = (path: string, method: string) => {
      const stream = session.request({
        ':path': `${V1}${path}`,
        ':method': method,
        authorization: `Bearer ${access}`,
      })
      stream.on('error', () => undefined)
      return stream
    }
    const listens = send(`/sub/${ROOM}`, 'GET')
    listens.resume()
    await until('it listens', async () => (await metric(site, CUT)) === 1)
    const out = send('/auth/logout', 'POST').end()
    const [answer] = (await once(out, 'response')) as [{ ':status': number }]
    const text = String((await once(out, 'data'))[0])
    const answered = performance.now()
    t.match({ status: answer[':status'], text }, { status: 200, text: /Logged out/ })
    await closed
    const took = performance.now() - answered
    t.ok(took < BOUND, `${Math.round(took)} ms after the answer`)
  }
})
