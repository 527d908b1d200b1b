// The daemon dies, is away, comes back, cannot reach nginx, or is told of fewer rights: nothing stays open that
// should not, and nothing opens that should not.

import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, RECORDINGS, V1 } from './ask.ts'
import { bearer, endsWithin, HASH, openSite, QUIET_WAYS, ROOMS, withToken } from './live.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'

const BOUND = 500 // milliseconds after the end of the right

void t.test('streams and the daemon that let them in', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.wav': 'RIFF' })
  const site = await openSite(t, { nginx: { recordings } })
  const { nginx, enter, post, publish, place } = site
  const all = async (channel: string, token: string): Promise<Stream[]> => {
    const streams: Stream[] = []
    // The long-poll first: it does not say when it is open, the others do.
    for (const [, listen] of QUIET_WAYS.toReversed()) {
      streams.push(await listen(t, nginx.port, withToken(channel, token)))
    }
    await until('they are let in', async () => (await site.admitted(token)) >= 2)
    return streams
  }

  await t.test('kill -9, start, logout: they close', async (t) => {
    for (let round = 0; round < 3; round++) {
      const channel = `room-kill-${round}`
      const [mine, other] = [await enter('201'), await enter('202')]
      const streams = await all(channel, mine.access)
      const stays = await all(channel, other.access)
      await site.kill()
      t.ok(
        streams.every(({ live }) => live),
        'nginx holds them without us',
      )
      await site.start()
      t.ok(
        [...streams, ...stays].every(({ live }) => live),
        'taken over',
      )
      // Those of before, and those of after.
      const later = await all(channel, mine.access)
      const ended = endsWithin([...streams, ...later], BOUND)
      t.equal((await post('/auth/logout', mine.access)).status, 200)
      const took = await ended
      t.ok(took < 1000, `${Math.round(took)} ms`)
      t.ok(stays.every(({ live }) => live))
      for (const stream of stays) stream.close()
      await post('/auth/logout', other.access)
    }
  })

  await t.test('who was put out while it was away finds no stream left', async (t) => {
    const { access } = await enter('201')
    const streams = await all('room-away', access)
    await site.kill()
    place.users(`202:${HASH}:user`)
    const ended = endsWithin(streams, 3000)
    await site.start()
    await ended
    t.equal((await post('/profile', access, 'GET')).status, 401)
  })

  await t.test('away: 503 and when to try again, nothing open, and producers go on', async (t) => {
    place.users(`201:${HASH}:user:Anna`, `202:${HASH}:user`, `300:${HASH}:guest`)
    await site.control('/users/reload')
    const { access } = await enter('201')
    mkdirSync(join(recordings, 'x'), { recursive: true })
    writeFileSync(join(recordings, 'x', 'b.wav'), 'RIFF')
    const stream = await eventSource(t, nginx.port, withToken('room-out', access))
    const recording = () => ask(nginx.port, `${RECORDINGS}/x/b.wav`, { headers: bearer(access) })
    const channel = () => ask(nginx.port, `${V1}/sub/room-out`, { headers: bearer(access) })
    t.equal((await recording()).status, 200)
    await site.kill()
    for (const [what, asked] of [
      ['recording', recording],
      ['channel', channel],
    ] as const) {
      const { status, headers, body } = await asked()
      t.equal(status, 503, what)
      t.ok(Number(headers['retry-after']) > 0, what)
      t.match(JSON.parse(body), { success: false, error: 'Service unavailable' }, what)
    }
    t.equal((await ask(nginx.port, `${RECORDINGS}/x/b.wav`)).status, 503, 'and without a token too')
    t.match(await publish('room-out', 'while away'), { status: 201 })
    await until('who listens hears it', () => stream.text.includes('while away'))
    await site.start()
    const elapsed = startStopwatch()
    await until('it decides again', async () => (await recording()).status === 200)
    t.ok(elapsed().ours < 1000)
    stream.close()
  })

  await t.test('a grant that a reload takes away takes its streams along', async (t) => {
    const { access } = await enter('201')
    const lost = [
      await eventSource(t, nginx.port, withToken('room-lost', access)),
      await webSocket(t, nginx.port, withToken('room-lost', access)),
    ]
    const kept = await eventSource(t, nginx.port, withToken('room-kept', access))
    place.configure({
      streams: `kick_socket = "${place.at('kick.sock')}"\nper_session = 3\nstreams_per_session = 4`,
      'roles.user': 'grants = ["subscribe:room-kept"]',
      'roles.guest': `grants = ["${ROOMS}"]`,
    })
    site.daemon().child.kill('SIGHUP')
    await endsWithin(lost, 3000)
    t.ok(kept.live)
    t.equal((await ask(nginx.port, `${V1}/sub/${withToken('room-lost', access)}`)).status, 403)
    kept.close()
  })

  await t.test('so does another role in the users file', async (t) => {
    const { access } = await enter('300')
    const lost = await eventSource(t, nginx.port, withToken('room-lost', access))
    const kept = await webSocket(t, nginx.port, withToken('room-kept', access))
    place.users(`201:${HASH}:user:Anna`, `300:${HASH}:user`)
    await endsWithin([lost], 4000)
    t.ok(kept.live)
    kept.close()
  })

  await t.test('at the limit of a session one more is refused, and nobody ends', async (t) => {
    const { access } = await enter('201')
    const channel = withToken('room-kept', access)
    const streams: Stream[] = []
    const open = async (): Promise<boolean> => {
      streams.push(await webSocket(t, nginx.port, channel))
      return true
    }
    // Of half of them nginx must have shown something first.
    for (let at = 0; at < 4; at++) await until('it opens', () => open().catch(() => false))
    for (let again = 0; again < 5; again++) {
      await t.rejects(open(), /refused/)
      const reply = await ask(nginx.port, `${V1}/sub/${channel}`)
      t.equal(reply.status, 403)
      await pause(200)
    }
    t.equal(streams.length, 4)
    t.ok(streams.every(({ live }) => live))
    for (const stream of streams) stream.close()
  })
})

void t.test('no stream opens that could not be ended', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.wav': 'RIFF' })
  const site = await openSite(t, { nginx: { recordings } })
  const { nginx, place } = site
  const { port, kickSocket: kick } = nginx
  const { access } = await site.enter()
  const headers = bearer(access)
  const listen = () => ask(port, `${V1}/sub/room-x`, { headers })
  const { body } = await ask(port, `${V1}/auth/ticket`, {
    headers: { ...headers, 'Content-Type': 'application/json' },
    body: JSON.stringify({ action: 'subscribe', resource: 'room-x', ttl: 300 }),
  })
  const ticket = `room-x?ticket=${(JSON.parse(body) as { ticket: string }).ticket}`
  const metrics = async () => (await place.operator('/metrics')).body
  const said = (text: RegExp) =>
    site
      .daemon()
      .log()
      .filter(({ msg }) => text.test(String(msg)))
  t.match(await metrics(), /^postern_nchan_channels \d+$/m)

  const before = await eventSource(t, port, withToken('room-x', access))
  rmSync(kick) // nginx listens on, and nobody can reach it
  await until('it is missed', async () => /^postern_nchan_channels Nan$/m.test(await metrics()))
  for (const asked of [listen, () => ask(port, `${V1}/sub/${ticket}`)]) {
    t.match(await asked(), { status: 503, headers: { 'retry-after': /^[1-9]/ } })
  }
  t.match(said(/^no new stream is let in/), [{ level: 50, problem: /systemctl restart nginx/ }])
  t.match(await metrics(), /^postern_faults_total{kind="kick_socket_away"} [1-9]/m)
  t.equal((await ask(port, `${RECORDINGS}/a.wav`, { headers })).status, 200, 'all else goes on')
  t.equal((await ask(port, `${V1}/sub/other`, { headers })).status, 403, 'a refusal is one')

  nginx.reload()
  await before.ended
  t.notOk(existsSync(kick), 'a reload does not bring it back')
  t.equal((await listen()).status, 503)

  await nginx.stop()
  await startNginx(t, { postern: place.at('http.sock'), recordings, port, kick })
  await until('it is found', () => said(/new streams are let in$/).length > 0)
  const streams = [
    await eventSource(t, port, ticket), // which was not spent
    await webSocket(t, port, withToken('room-x', access)),
  ]
  const ended = endsWithin(streams, BOUND)
  await site.post('/auth/logout', access)
  t.ok((await ended) < BOUND)
})
