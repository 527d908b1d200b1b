// What a cut leaves behind: of each kind a hundred are cut that came with a token in their address, and no log of nginx, of
// the daemon or of the cutter holds it. nginx's own levels would write the whole request line down.

import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import t, { type Test } from 'tap'

import { needsOpenssl } from '../fixtures/canned-server.ts'
import { NEEDS_CUTTER } from '../fixtures/cutter.ts'
import { nginxMissing } from '../fixtures/nginx.ts'
import { nginxFound, until } from '../fixtures/postern.ts'
import { RECORDINGS, SIP, V1 } from './ask.ts'
import { addressOf, openCutSite } from './cut-site.ts'

const COUNT = 100
const SETTLED = 300 // milliseconds in which whoever is refused would be
const WEBSOCKET = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const SUB = `${V1}/sub/room-x`

const KINDS: Readonly<Record<string, [path: string, headers: string[]]>> = {
  EventSource: [SUB, ['Accept: text/event-stream']],
  WebSocket: [SUB, WEBSOCKET],
  'long-poll': [`${V1}/sub/room-quiet`, []],
  SIP: [SIP, WEBSOCKET],
  'proxied WebSocket': ['/app/live/x', WEBSOCKET],
  'proxied event stream': ['/app/live/x', []],
  download: [`${RECORDINGS}/big.wav`, []],
}

const skip = nginxMissing() || needsOpenssl.skip || NEEDS_CUTTER.skip

void t.test(`${COUNT} cuts of each kind`, { skip }, async (t) => {
  const site = await openCutSite(t, {
    sections: {
      streams: 'per_session = 10000\nstreams_per_session = 10000',
      'roles.user':
        'grants = ["subscribe:room-*", "read:app", "read:recordings/**", "connect:sip"]',
    },
  })
  await nginxFound(site.place)
  const { port, folder, errorLog } = site.nginx
  site.keepBusy(t, 'room-x')

  const start = (t: Test, tls: boolean, text: string) => {
    const [host, at] = addressOf({ tls, ip: 4, via: 'direct' }, port)
    const socket = connect(at, host)
    const stream = tls ? connectTls({ socket, rejectUnauthorized: false }) : socket
    t.teardown(() => {
      socket.destroy()
    })
    let [live, heard] = [true, false]
    for (const one of [socket, stream]) one.on('error', () => undefined)
    socket.on('close', () => (live = false))
    stream.write(text)
    // Of a download the rest waits at nginx.
    stream.once('data', () => {
      heard = true
      stream.pause()
    })
    return { live: () => live, heard: () => heard, resume: () => stream.resume() }
  }

  for (const tls of [false, true])
    for (const [kind, [path, headers]] of Object.entries(KINDS))
      await t.test(`${kind}${tls ? ', TLS' : ''}`, async (t) => {
        const { access } = await site.enter()
        const before = site.sockets().size
        const counts = path === SIP || path.startsWith(V1)
        const text = [
          `GET ${path}?${counts ? 'authorization' : 'token'}=${access} HTTP/1.1`,
          'Host: x',
          // Where the query does not count, it is there all the same.
          ...(counts ? [] : [`Authorization: Bearer ${access}`]),
          `Referer: https://x.test/?token=${access}`,
          ...headers,
          '\r\n',
        ].join('\r\n')
        const streams = Array.from({ length: COUNT }, () => start(t, tls, text))
        await until('they are open', () =>
          kind === 'long-poll'
            ? site.sockets().size >= before + COUNT
            : streams.every(({ heard }) => heard()),
        )
        await delay(SETTLED)
        t.ok(streams.every(({ live }) => live()))
        await site.post('/auth/logout', access)
        for (const { resume } of streams) resume()
        await until('they have ended', () => streams.every(({ live }) => !live()))
      })

  const read = (at: string): string =>
    readdirSync(at, { withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.log'))
      .map(({ name }) => readFileSync(join(at, name), 'utf8'))
      .join('')
  const logs = {
    nginx: read(folder),
    daemon: site.daemon().out() + site.daemon().err() + read(site.place.folder),
    cutter: site.cutter.log(),
  }
  for (const [whose, text] of Object.entries(logs)) t.notMatch(text, /eyJ[\w-]{20}/, whose)
  t.match(logs.nginx, /\/sub\/room-x/, 'there are lines of these')
  t.notMatch(errorLog(), /exited on signal/)
  const { body } = await site.place.operator('/metrics')
  t.match(body, /postern_kicks_total\{cause="session_ended",result="ended",means="cut"\} \d{3}/)
})
