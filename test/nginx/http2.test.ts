// HTTP/2 as deployed: the shipped site with TLS and http2 on tells the whole story to curl and to a browser, and one
// connection carries a stream and the logout that ends it.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { type ClientHttp2Session, connect } from 'node:http2'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import t from 'tap'

import { browserMissing, openBrowser } from '../fixtures/browser.ts'
import { createCertificate, needsOpenssl } from '../fixtures/canned-server.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { makePlace, nginxFound, PASSWORD, serve } from '../fixtures/postern.ts'
import { RECORDINGS, V1 } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'

const SOUND = 'RIFF'.padEnd(1000, 'x')
const LOGIN = JSON.stringify({ username: '201', password: PASSWORD })

const skip = nginxMissing() || needsOpenssl.skip

void t.test('over HTTP/2', { skip }, async (t) => {
  const place = makePlace(t)
  const recordings = t.testdir({ 'a.wav': SOUND })
  createCertificate(place.folder, 'DNS:localhost')
  await serve(t, place)
  const nginx = await startNginx(t, {
    postern: place.at('http.sock'),
    kick: place.at('kick.sock'),
    recordings,
    speaks: 'ssl http2',
    site: [
      uncomment('site.example.conf', 'ssl_certificate '),
      uncomment('site.example.conf', 'ssl_certificate_key'),
      uncomment('site.example.conf', 'if ($https = "") {'),
      ['/etc/ssl/certs/pbx.example.com.pem', place.at('cert.pem')],
      ['/etc/ssl/private/pbx.example.com.key', place.at('key.pem')],
    ],
  })
  await nginxFound(place)
  const url = `https://localhost:${nginx.port}`
  const api = `${url}${V1}`
  const recording = `${url}${RECORDINGS}/a.wav`

  /** Its answer, headers and all, and behind it `status version`. */
  const curl = async (...args: readonly string[]): Promise<string> => {
    const all = [
      '-sS',
      '--http2',
      '--cacert',
      place.at('cert.pem'),
      '-w',
      '\\n%{http_code} %{http_version}',
    ]
    const { stdout } = await promisify(execFile)('curl', [...all, ...args], { timeout: 60_000 })
    return stdout
  }
  const bearer = (token: string): string[] => ['-H', `Authorization: Bearer ${token}`]
  const publish = (message: string) => curl('-X', 'POST', '-d', message, `${api}/pub/users-state`)
  const tokenIn = (text: string, name = 'access_token'): string =>
    new RegExp(`"${name}":"([^"]+)"`).exec(text)?.[1] ?? ''

  await t.test(
    'curl logs in, refreshes, plays a part, listens, logs out, and is out',
    async (t) => {
      const entered = await curl(
        '-H',
        'Content-Type: application/json',
        '-d',
        LOGIN,
        `${api}/auth/login`,
      )
      t.match(entered, /\n200 2$/)
      const [access, refresh] = [tokenIn(entered), tokenIn(entered, 'refresh_token')]
      const renewed = await curl('-X', 'POST', ...bearer(refresh), `${api}/auth/refresh`)
      t.match(renewed, /\n200 2$/)
      const token = tokenIn(renewed)
      t.match(await curl(...bearer(token), `${api}/profile`), /"username":"201".*\n200 2$/s)
      const part = await curl('-i', '-r', '0-3', ...bearer(token), recording)
      t.match(part, /content-range: bytes 0-3\/1000[^]*RIFF\n206 2$/i)
      t.match(part, /strict-transport-security: max-age=31536000/i)
      t.match(await curl('-r', '2000-', ...bearer(token), recording), /416 2$/)
      t.match(await curl('-I', ...bearer(token), recording), /content-length: 1000[^]*200 2$/i)
      t.match(await curl(recording), /"Unauthorized: log in[^]*401 2$/)

      const listening = curl(
        '-N',
        '-H',
        'Accept: text/event-stream',
        ...bearer(token),
        `${api}/sub/users-state`,
      )
      await delay(300)
      await publish('heard')
      t.match(await curl('-X', 'POST', ...bearer(token), `${api}/auth/logout`), /200 2$/)
      t.match(await listening, /data: heard[^]*200 2$/, 'and the stream has ended')
      for (const out of [access, token]) t.match(await curl(...bearer(out), recording), /401 2$/)
      t.match(await curl('-X', 'POST', ...bearer(refresh), `${api}/auth/refresh`), /401 2$/)
    },
  )

  await t.test(
    'a logout ends the stream beside it on its connection, and nothing else',
    async (t) => {
      const session = connect(url, { rejectUnauthorized: false })
      t.teardown(() => {
        session.destroy()
      })
      const ask = async (
        from: ClientHttp2Session,
        path: string,
        headers: Record<string, string>,
        body?: string,
      ) => {
        const stream = from.request({
          ':path': path,
          ':method': body === undefined ? 'GET' : 'POST',
          ...headers,
        })
        stream.end(body)
        const [{ ':status': status }] = (await once(stream, 'response')) as [{ ':status': number }]
        let text = ''
        const ended = (async () => {
          for await (const data of stream) text += String(data)
          return text
        })()
        return { status, ended, heard: () => text }
      }
      const enter = async (): Promise<Record<string, string>> => {
        const answer = await ask(
          session,
          `${V1}/auth/login`,
          { 'content-type': 'application/json' },
          LOGIN,
        )
        return { authorization: `Bearer ${tokenIn(await answer.ended)}` }
      }
      const [leaves, stays] = [await enter(), await enter()]
      const listen = (token: Record<string, string>) =>
        ask(session, `${V1}/sub/users-state`, { accept: 'text/event-stream', ...token })
      const [ends, goesOn] = [await listen(leaves), await listen(stays)]
      t.same([ends.status, goesOn.status], [200, 200])
      const out = await ask(session, `${V1}/auth/logout`, leaves, '')
      t.equal(out.status, 200)
      await ends.ended
      while (!goesOn.heard().includes('after')) {
        await publish('after')
        await delay(20)
      }
      t.notMatch(ends.heard(), /after/)
      t.notOk(session.closed || session.destroyed, 'the connection stays')
      t.equal((await listen(leaves)).status, 401)
      t.equal((await ask(session, `${V1}/profile`, stays)).status, 200)
    },
  )

  await t.test('a browser does all of it by its cookie', { skip: browserMissing() }, async (t) => {
    const { context } = await openBrowser(t)
    const page = await context.newPage()
    // Whatever page of the site: this one has nothing on it.
    await page.goto(`${url}/nothing`)
    const story = await page.evaluate<Record<string, unknown>>(`(async () => {
      const api = '${V1}', recording = '${RECORDINGS}/a.wav'
      const post = (path, body, headers = {}) =>
        fetch(api + path, { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body })
      const told = {}
      const login = await post('/auth/login', '${LOGIN.replace('}', ',"cookie":true}')}')
      told.login = login.status
      const { refresh_token } = await login.json()
      told.refresh = (await post('/auth/refresh', undefined, { Authorization: 'Bearer ' + refresh_token })).status
      const part = await fetch(recording, { headers: { Range: 'bytes=0-3' } })
      told.part = [part.status, await part.text()].join(' ')
      const source = new EventSource(api + '/sub/users-state')
      const socket = new WebSocket(location.origin.replace('http', 'ws') + api + '/sub/users-state')
      await Promise.all([source, socket].map((one) => new Promise((resolve) => { one.onopen = resolve })))
      told.live = [source.readyState, socket.readyState]
      const closed = Promise.all([
        new Promise((resolve) => { source.onerror = () => { source.close(); resolve() } }),
        new Promise((resolve) => { socket.onclose = resolve }),
      ])
      told.logout = (await post('/auth/logout')).status
      await closed
      told.after = (await fetch(recording)).status
      told.protocols = [...new Set(performance.getEntriesByType('resource')
        .filter(({ name }) => name.includes('/auth/')).map((entry) => entry.nextHopProtocol))]
      return told
    })()`)
    t.same(story, {
      login: 200,
      refresh: 200,
      part: '206 RIFF',
      live: [1, 1],
      logout: 200,
      after: 401,
      protocols: ['h2'],
    })
  })
})
