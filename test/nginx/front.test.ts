// Behind another nginx that ends the TLS, as most sites are: what is refused until the public origin is listed, what
// doctor says of it, and that all of it works then. The browser's side of it is in test/page.test.ts.
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { request } from 'node:https'
import { connect } from 'node:net'
import t from 'tap'

import { needsOpenssl } from '../fixtures/canned-server.ts'
import { nginxMissing, startFront, startNginx } from '../fixtures/nginx.ts'
import { makePlace, nginxFound, PASSWORD, run, serve, until } from '../fixtures/postern.ts'
import { RECORDINGS, V1, V3 } from './ask.ts'

const WEBSOCKET = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

const skip = nginxMissing() || needsOpenssl.skip

void t.test('behind a front that ends the TLS', { skip }, async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  const nginx = await startNginx(t, {
    postern: place.at('http.sock'),
    kick: place.at('kick.sock'),
    recordings: place.folder,
  })
  const front = await startFront(t, 'pbx.test', nginx.port)
  await nginxFound(place)
  const url = `https://pbx.test:${front.port}`
  // What a client without a name server finds it by.
  const local = `https://localhost:${front.port}`

  const asks = async (path: string, headers: Record<string, string>, body?: unknown) => {
    const options = { method: body === undefined ? 'GET' : 'POST', rejectUnauthorized: false }
    const named = { ...headers, Host: new URL(url).host }
    const asked = request(`${local}${path}`, { ...options, headers: named, agent: false })
    asked.end(body === undefined ? undefined : JSON.stringify(body))
    const opened = once(asked, 'upgrade').then(([response, socket]) => {
      ;(socket as { destroy(): void }).destroy()
      return response as IncomingMessage
    })
    const answered = once(asked, 'response').then(([response]) => response as IncomingMessage)
    const response = await Promise.race([opened, answered])
    let text = ''
    if (response.statusCode !== 101) for await (const part of response) text += String(part)
    const [cookie] = response.headers['set-cookie'] ?? []
    return { status: response.statusCode, text, cookie }
  }
  const page = { Origin: url, 'Content-Type': 'application/json' }
  const browser = { ...page, 'Sec-Fetch-Site': 'same-origin' }
  const enter = (headers: Record<string, string>) =>
    asks(`${V1}/auth/login`, headers, { username: '201', password: PASSWORD, cookie: true })
  const doctor = async (): Promise<string> => {
    const argv = ['doctor', '--config', place.config, '--url', `${local}${RECORDINGS}/a.wav`]
    const asked = run(t, argv, { env: { SSL_CERT_FILE: front.certificate } })
    await asked.ended
    return asked.out()
  }
  const reload = async (section: string): Promise<void> => {
    place.configure({ site: section })
    t.equal((await run(t, ['reload', '--config', place.config]).ended).code, 0)
  }

  await t.test('what is not listed is refused, and doctor names the line', async (t) => {
    t.match(await enter(page), { status: 403, text: /site\.origins/ })
    t.match(await enter(browser), { status: 400, text: /needs https.*site\.origins/ })
    const logged = `"origin":"${url}","own":"http://pbx.test"`
    await until('it is logged', () => daemon.out().includes(logged))
    const said = await doctor()
    t.match(said, `BAD   ${local}: its pages count as another site’s`)
    t.match(said, `write origins = ["${local}"] below [site] in postern.toml`)
  })

  await t.test('that line is the cure', async (t) => {
    await reload(`origins = ["${url}"]`)
    const login = await enter(page)
    t.match(login, { status: 200, cookie: /^__Host-postern=.*; Secure/ })
    t.match(await enter(browser), { status: 200, cookie: /; Secure/ })
    t.match(await enter({ ...page, Origin: 'https://pbx.test' }), { status: 403 }, 'another port')
    const cookie = { Cookie: String(login.cookie?.split(';')[0]) }
    const rows: [what: string, headers: Record<string, string>, status: number][] = [
      ['a WebSocket of ours', { ...WEBSOCKET, Origin: url }, 101],
      ['one of another site', { ...WEBSOCKET, Origin: 'https://evil.example' }, 403],
      ['one of the inner address', { ...WEBSOCKET, Origin: nginx.url }, 403],
      ['one that does not say', WEBSOCKET, 403],
    ]
    for (const [what, headers, status] of rows) {
      const answer = await asks(`${V1}/sub/users-state`, { ...headers, ...cookie })
      t.equal(answer.status, status, what)
    }
    const ticket = { action: 'read', resource: 'recordings/a.wav' }
    t.equal((await asks(`${V1}/auth/ticket`, { ...page, ...cookie }, ticket)).status, 200)
    const entered = await asks(`${V3}/auth:login`, page, { login: '201', password: PASSWORD })
    t.match(entered, { status: 200, cookie: /^refreshToken=.*; Secure/ })
    const refresh = { ...page, Cookie: String(entered.cookie?.split(';')[0]) }
    t.equal((await asks(`${V3}/auth:refresh`, refresh, {})).status, 200)
    t.match(await asks(`${V1}/auth/logout`, { ...page, ...cookie }, {}), {
      status: 200,
      cookie: /^__Host-postern=;/,
    })
    t.match(await doctor(), `add "${local}" to site.origins in postern.toml`)
    await reload(`origins = ["${url}", "${local}"]`)
    t.match(await doctor(), `ok    ${local}: its pages count as this site’s own`)
  })

  await t.test('without a Host, as from a client of HTTP/1.0, what is listed counts', async (t) => {
    const post = async (origin: string): Promise<string> => {
      const socket = connect(nginx.port, '127.0.0.1')
      socket.write(`POST ${V3}/auth:refresh HTTP/1.0\r\nOrigin: ${origin}\r\n\r\n`)
      let text = ''
      for await (const part of socket) text += String(part)
      return text.slice(0, text.indexOf('\r\n'))
    }
    t.match(await post(url), / 401 /)
    t.match(await post('https://evil.example'), / 403 /)
  })
})
