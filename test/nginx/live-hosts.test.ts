// Two whole hosts, each with nginx, streams and a daemon of its own, on one real Redis: a right that ends on one has
// ended on both, and who loses one host goes on at the other.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { type Nginx, nginxMissing, startNginx } from '../fixtures/nginx.ts'
import {
  bearer,
  HASH,
  login,
  makePlace,
  type Place,
  type Run,
  serve,
  type Tokens,
  until,
} from '../fixtures/postern.ts'
import { freePort, NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { ask, RECORDINGS, type Reply, V1 } from './ask.ts'
import { endsWithin, QUIET_WAYS, withToken } from './live.ts'
import type { Stream } from './listen.ts'
import { endNginx, passOn, tellOthers } from './several.ts'

const BOUND = 1500 // milliseconds in which an end reaches the other host, and its streams

interface Host {
  readonly place: Place
  readonly nginx: Nginx
  readonly daemon: Run
  enter(): Promise<Tokens>
  play(token: string): Promise<number>
  post(path: string, token: string): Promise<Reply>
  publish(channel: string, text: string): Promise<number>
}

const startHosts = async (t: Test, url: string): Promise<[Host, Host]> => {
  const ports = [await freePort(), await freePort()] as const
  let keys = ''
  const start = async (name: string, here: number, there: number): Promise<Host> => {
    const place = makePlace(t)
    place.configure({
      store: `url = "${url}"\ntimeout = 2`, // a busy machine is no outage
      streams: `kick_socket = "${place.at('kick.sock')}"\nnginx = "${name}"`,
    })
    place.users(`201:${HASH}:user:Anna`, `202:${HASH}:user:Bert`)
    writeFileSync(place.at('a.wav'), 'RIFF')
    mkdirSync(place.at('state'), { mode: 0o700 })
    if (keys !== '') copyFileSync(keys, place.at('state', 'keys.json'))
    const nginx = await startNginx(t, {
      postern: place.at('http.sock'),
      kick: place.at('kick.sock'),
      recordings: place.folder,
      ...passOn(here, there),
    })
    await tellOthers(nginx)
    const daemon = await serve(t, place)
    keys = place.at('state', 'keys.json')
    const at = (path: string, options: Parameters<typeof ask>[2]): Promise<Reply> =>
      ask(nginx.port, path, options)
    return {
      place,
      nginx,
      daemon,
      enter: () => login(at),
      play: async (token) => (await at(`${RECORDINGS}/a.wav`, { headers: bearer(token) })).status,
      post: (path, token) => at(`${V1}${path}`, { method: 'POST', headers: bearer(token) }),
      publish: async (channel, body) => (await at(`${V1}/pub/${channel}`, { body })).status,
    }
  }
  return [await start('a', ports[0], ports[1]), await start('b', ports[1], ports[0])]
}

const listenOn = async (t: Test, host: Host, channel: string, token: string): Promise<Stream[]> => {
  const streams: Stream[] = []
  // The long-poll first: it does not say when it is open, the others do.
  for (const [, listen] of QUIET_WAYS.toReversed()) {
    streams.push(await listen(t, host.nginx.port, withToken(channel, token)))
  }
  await delay(200)
  return streams
}

const skip = nginxMissing() || NEEDS_REDIS.skip

void t.test('two hosts', { skip }, async (t) => {
  const redis = await startRedis(t)
  const [a, b] = await startHosts(t, redis.url)

  await t.test(
    'who logs in on one is let in on both, and hears what is said on either',
    async (t) => {
      const { access } = await a.enter()
      t.same([await a.play(access), await b.play(access)], [200, 200])
      for (const [from, channel] of [
        [a, 'users-state'],
        [b, 'contacts'],
      ] as const) {
        const streams = [
          ...(await listenOn(t, a, channel, access)),
          ...(await listenOn(t, b, channel, access)),
        ]
        const text = `for ${channel}`
        await from.publish(channel, text)
        await until('all have heard', () => streams.every((stream) => stream.text.includes(text)))
        for (const stream of streams) stream.close()
      }
      t.equal((await b.post('/auth/logout', access)).status, 200)
    },
  )

  for (const [where, pick] of [
    ['the one where it began', 0],
    ['the other', 1],
  ] as const)
    await t.test(`a logout on ${where} ends its streams on both, and no others`, async (t) => {
      const out = [a, b][pick] ?? a
      const [mine, other] = [await a.enter(), await a.enter()]
      const streams = [
        ...(await listenOn(t, a, 'active-calls', mine.access)),
        ...(await listenOn(t, b, 'active-calls', mine.access)),
      ]
      const stay = [
        ...(await listenOn(t, a, 'active-calls', other.access)),
        ...(await listenOn(t, b, 'active-calls', other.access)),
      ]
      const ended = endsWithin(streams, BOUND)
      t.equal((await out.post('/auth/logout', mine.access)).status, 200)
      const took = await ended
      t.ok(took < BOUND, `${Math.round(took)} ms`)
      t.same([await a.play(mine.access), await b.play(mine.access)], [401, 401])
      t.ok(stay.every(({ live }) => live))
      for (const stream of stay) stream.close()
      await a.post('/auth/logout', other.access)
    })

  await t.test('when a whole host is gone its clients go on at the other', async (t) => {
    const { access, refresh } = await a.enter()
    const lost = await listenOn(t, a, 'active-calls', access)
    await endNginx(a.nginx)
    await a.daemon.end('SIGKILL')
    await endsWithin(lost, BOUND)
    t.equal(await b.play(access), 200)
    t.equal((await b.post('/auth/refresh', refresh)).status, 200)
    const streams = await listenOn(t, b, 'active-calls', access)
    t.equal(await b.publish('active-calls', 'alone'), 201)
    await until('it is heard', () => streams.every(({ text }) => text.includes('alone')))
    const quiet = await listenOn(t, b, 'contacts', access)
    const ended = endsWithin(quiet, BOUND)
    t.equal((await b.post('/auth/logout', access)).status, 200)
    t.ok((await ended) < BOUND)
    t.equal(await b.play(access), 401)
  })
})
