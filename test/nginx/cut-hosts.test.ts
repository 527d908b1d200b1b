// Cut streams of several daemons on one Redis, beside one nginx or two: an end that another daemon made ends them, and whoever
// made it over the very connection sees the answer.
import { generateKeyPairSync, sign } from 'node:crypto'
import { once } from 'node:events'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { setTimeout as delay } from 'node:timers/promises'
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
import { ask, V1 } from './ask.ts'
import { eventSource, type Stream, webSocket } from './listen.ts'
import { endsWithin, withToken } from './live.ts'
import { listInstances } from './several.ts'

const skip = NEEDS_CUTTER.skip || nginxMissing() || NEEDS_REDIS.skip
const BOUND = 500 // milliseconds after the answer
const ROOM = 'room-cut'

/** Two daemons on one store, with the keys of the first; beside one nginx where they have its sockets in common. */
const startDaemons = async (
  t: Test,
  isOneNginx: boolean,
  sections: Readonly<Record<string, string>> = {},
): Promise<[Place, Place]> => {
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
      softphone: 'rotate = true',
      refresh: 'grace = 1\nunseen_grace = 0',
      ...sections,
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

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ACME = 'https://acme.example'
const JWKS = JSON.stringify({
  keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'theirs', alg: 'ES256' }],
})

/** As another system issues it. */
const foreignToken = (): string => {
  const now = Math.floor(Date.now() / 1000)
  const life = { iat: now, nbf: now, exp: now + 600 }
  const who = { iss: ACME, aud: 'pbx', sub: '7', role: 'staff', jti: 'one' }
  const text = [
    { alg: 'ES256', typ: 'at+jwt', kid: 'theirs' },
    { ...who, ...life },
  ]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.')
  const signature = sign('sha256', Buffer.from(text), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  })
  return `${text}.${signature.toString('base64url')}`
}

void t.test('two hosts: what ends on one ends on the other', { skip }, async (t) => {
  const keys = `${t.testdir({ 'acme.json': JWKS })}/acme.json`
  const places = await startDaemons(t, false, {
    'issuers.acme': `issuer = "${ACME}"\naudience = "pbx"\njwks_file = "${keys}"\nrole_claim = "role"\nroles = ["staff=user"]`,
  })
  const ports: number[] = []
  for (const place of places) {
    const paths = { postern: place.at('http.sock'), kick: place.at('kick.sock') }
    const { port } = await startNginx(t, paths)
    await startCutter(t, { ports: [port], socket: place.at('cut.sock') })
    await nginxFound(place)
    ports.push(port)
  }
  const [one, two] = places
  const post = (place: Place, path: string, token: string) =>
    place.ask(`${V1}${path}`, { method: 'POST', headers: { Authorization: `Bearer ${token}` } })
  const order = (place: Place, path: string) =>
    ask(0, path, { method: 'POST', socket: place.at(`control.${places.indexOf(place)}.sock`) })
  const listen = async (token: string): Promise<Stream[]> => {
    const streams: Stream[] = []
    for (const port of ports)
      for (const open of [eventSource, webSocket])
        streams.push(await open(t, port, withToken(ROOM, token)))
    t.same(await Promise.all(places.map(cutStreams)), [2, 2])
    return streams
  }
  const ends = async (t: Test, streams: readonly Stream[]): Promise<void> => {
    const took = await endsWithin(streams, BOUND)
    t.ok(took < BOUND, `${Math.round(took)} ms`)
    await until(
      'it is over',
      async () => (await Promise.all(places.map(cutStreams))).join() === '0,0',
    )
  }

  await t.test('a refresh token that was copied', async (t) => {
    const { refresh } = await login(one.ask)
    const { body } = await post(two, '/auth/refresh', refresh)
    const { access_token: access, refresh_token: next } = JSON.parse(body) as Record<string, string>
    const streams = await listen(String(access))
    t.equal((await post(one, '/auth/refresh', String(next))).status, 200)
    await delay(2100)
    t.ok(streams.every(({ live }) => live))
    t.equal((await post(two, '/auth/refresh', refresh)).status, 401)
    await ends(t, streams)
  })

  await t.test('an operator, of a trusted issuer’s user', async (t) => {
    const streams = await listen(foreignToken())
    t.equal((await order(one, '/sessions/kick?user=acme:7')).status, 200)
    await ends(t, streams)
  })

  await t.test('a trusted issuer, which either is told of', async (t) => {
    const streams = await listen(foreignToken())
    for (const place of places) {
      writeFileSync(place.config, place.text().replace(/^\[issuers.acme\]\n(?:.+\n)*/m, ''))
      t.equal((await order(place, '/reload')).status, 200)
    }
    await ends(t, streams)
  })
})
