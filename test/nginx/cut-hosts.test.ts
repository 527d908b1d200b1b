// Cut streams of several daemons on one Redis, beside one nginx or two: an end that another daemon made ends them, and whoever
// made it over the very connection sees the answer.
import { once } from 'node:events'
import { copyFileSync, mkdirSync } from 'node:fs'
import { connect } from 'node:http2'
import t, { type Test } from 'tap'

import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import {
  HASH,
  login,
  makePlace,
  nginxFound,
  type Place,
  serve,
  until,
} from '../fixtures/postern.ts'
import { freePort, NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { V1 } from './ask.ts'
import { listInstances } from './several.ts'

const skip = NEEDS_CUTTER.skip || nginxMissing() || NEEDS_REDIS.skip
const BOUND = 500 // milliseconds after the answer
const ROOM = 'room-cut'

/** Two daemons on one store, with the keys of the first; beside one nginx where they have its sockets in common. */
const startDaemons = async (t: Test, isOneNginx: boolean): Promise<[Place, Place]> => {
  const { url } = await startRedis(t)
  const places = [makePlace(t), makePlace(t)] as const
  for (const [at, place] of places.entries()) {
    const beside = isOneNginx ? places[0] : place
    place.configure({
      store: `url = "${url}"\ntimeout = 2`, // a busy machine is no outage
      streams: `kick_socket = "${beside.at('kick.sock')}"\ncut_socket = "${beside.at('cut.sock')}"`,
      listen: `control = "${beside.at(`control.${at}.sock`)}"`,
      throttle: 'pair_failures = 1000000\naddress_failures = 1000000\naccount_failures = 1000000',
      sessions: 'per_user = 0',
      'roles.user': 'grants = ["subscribe:room-*"]',
    })
    place.users(`201:${HASH}:user:Anna`)
    mkdirSync(place.at('state'), { mode: 0o700 })
    if (at > 0) copyFileSync(places[0].at('state', 'keys.json'), place.at('state', 'keys.json'))
    await serve(t, place)
  }
  return [...places]
}

const cutStreams = async (place: Place): Promise<number> =>
  Number(/^postern_streams\{kind="cut"\} (\d+)/m.exec((await place.operator('/metrics')).body)?.[1])

void t.test('a logout that another instance answers than has its stream', { skip }, async (t) => {
  const places = await startDaemons(t, true)
  const [one] = places
  const h2 = await freePort()
  const nginx = await startNginx(t, {
    postern: one.at('http.sock'),
    kick: one.at('kick.sock'),
    local: listInstances(places.map((place) => place.at('http.sock'))),
    listen: (port) => `127.0.0.1:${port}; listen 127.0.0.1:${h2} http2`,
  })
  await startCutter(t, { ports: [nginx.port, h2], socket: one.at('cut.sock') })
  await Promise.all(places.map(nginxFound))
  let elsewhere = 0
  for (let round = 0; round < 20; round++) {
    const { access } = await login(one.ask)
    const session = connect(`http://127.0.0.1:${h2}`).on('error', () => undefined)
    const closed = new Promise((resolve) => session.once('close', resolve))
    const send = (path: string, method: string) =>
      session
        .request({ ':path': V1 + path, ':method': method, authorization: `Bearer ${access}` })
        .on('error', () => undefined)
    send(`/sub/${ROOM}`, 'GET').resume()
    const held = (): Promise<number[]> => Promise.all(places.map(cutStreams))
    await until('it listens', async () => (await held()).includes(1))
    const [here] = await held()
    const out = send('/auth/logout', 'POST').end()
    let text = ''
    out.on('data', (part: Buffer) => (text += String(part)))
    const status = once(out, 'response').then(
      ([head]) => (head as { ':status': number })[':status'],
    )
    const ended = new Promise<void>((resolve) => out.once('close', resolve))
    await Promise.race([ended, closed])
    const answered = performance.now()
    t.match(text, /Logged out/)
    t.equal(await Promise.race([status, closed.then(() => 'cut')]), 200)
    await closed
    const took = performance.now() - answered
    t.ok(took < BOUND, `${Math.round(took)} ms after the answer`)
    elsewhere += here ?? 0
    await until('it is over', async () => (await held()).every((count) => count === 0))
  }
  t.ok(
    elsewhere > 0,
    `${elsewhere} of 20 streams were the first one’s, whose turn the logout was not`,
  )
})
