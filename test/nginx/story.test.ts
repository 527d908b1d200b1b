// The whole story with nothing scripted: the shipped nginx in front, the real daemon behind, real clients.
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import {
  bearer,
  login,
  makePlace,
  nginxFound,
  PASSWORD,
  type Place,
  type Run,
  serve,
  type Tokens,
  until,
} from '../fixtures/postern.ts'
import { type Ask, ask, RECORDINGS, SIP, V1 } from './ask.ts'

t.setTimeout(900_000) // many starts of a process, on a machine that may be busy

const V3 = '/pbxcore/api/v3'
const AUDIO = 'RIFF'.padEnd(1000, 'x')
const WEBSOCKET = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
}

interface Seen {
  [name: string]: string | undefined
}

/** An application that says which identity headers reached it. */
const startApplication = async (t: Test, socket: string): Promise<void> => {
  const server = createServer((request, response) => {
    const seen = Object.entries(request.headers).filter(([name]) =>
      /^(?:x[-_]auth|authorization)/.test(name),
    )
    response.end(JSON.stringify(Object.fromEntries(seen)))
  }).listen(socket)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
}

interface Scene {
  place: Place
  daemon: Run
  nginx: Awaited<ReturnType<typeof startNginx>>
  get(path: string, headers?: Ask['headers']): Promise<Awaited<ReturnType<typeof ask>>>
  asks(path: string, options?: Ask): ReturnType<typeof ask>
  publish(channel: string, body: string): Promise<number>
  secrets: string[]
}

const setUp = async (t: Test, sections: Readonly<Record<string, string>> = {}): Promise<Scene> => {
  const place = makePlace(t, sections)
  const recordings = t.testdir({
    mine: { 'a.wav': AUDIO },
    other: { 'a.wav': AUDIO },
    'a.wav': AUDIO,
  })
  await startApplication(t, place.at('app.sock'))
  const daemon = await serve(t, place, { covered: true })
  const nginx = await startNginx(t, {
    postern: place.at('http.sock'),
    kick: place.at('kick.sock'),
    recordings,
    app: `unix:${place.at('app.sock')}`,
  })
  await nginxFound(place)
  const asks = (path: string, options: Ask = {}) => ask(nginx.port, path, options)
  return {
    place,
    daemon,
    nginx,
    asks,
    get: (path, headers = {}) => asks(path, { headers }),
    publish: async (channel, body) => (await asks(`${V1}/pub/${channel}`, { body })).status,
    secrets: [],
  }
}

const enter = async ({ asks, secrets }: Scene, username = '201'): Promise<Tokens> => {
  const tokens = await login(asks, username)
  secrets.push(tokens.access, tokens.refresh)
  return tokens
}

/** The first message that a subscriber hears; published until it does. */
const hear = async (
  { publish, nginx }: Scene,
  subscribe: (url: string) => Promise<string>,
  token: string,
): Promise<string> => {
  const url = `${nginx.url}${V1}/sub/users-state?authorization=${token}`
  const state = { heard: false }
  const heard = subscribe(url).finally(() => (state.heard = true))
  while (!state.heard) {
    await publish('users-state', '{"states":{}}')
    await delay(20)
  }
  return heard
}

const WAYS: Readonly<Record<string, (url: string) => Promise<string>>> = {
  longPoll: async (url) => (await fetch(url)).text(),
  async eventSource(url) {
    const response = await fetch(url, { headers: { Accept: 'text/event-stream' } })
    let text = ''
    for await (const part of response.body ?? []) {
      text += Buffer.from(part).toString()
      const message = /^data: (.*)$/m.exec(text)?.[1]
      if (message !== undefined) return message
    }
    return text
  },
  webSocket(url) {
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const socket = new WebSocket(url.replace(/^http/, 'ws'))
    socket.addEventListener('message', ({ data }) => {
      resolve(String(data))
      socket.close()
    })
    socket.addEventListener('error', () => {
      reject(new Error('the WebSocket was refused'))
    })
    return promise
  },
}

/** Everything protected, by every way a client asks for it: the status that a token gets there. */
const tryEverywhere = async ({ get }: Scene, token: string): Promise<Record<string, number>> => {
  const query = `authorization=${token}`
  const stream = { Accept: 'text/event-stream' }
  const asked: Record<string, ReturnType<Scene['get']>> = {
    recording: get(`${RECORDINGS}/a.wav`, bearer(token)),
    range: get(`${RECORDINGS}/a.wav`, { ...bearer(token), Range: 'bytes=0-9' }),
    channel: get(`${V1}/sub/users-state?${query}`),
    'channel by token': get(`${V1}/sub/users-state?token=${token}`),
    'channel by header': get(`${V1}/sub/users-state`, bearer(token)),
    eventSource: get(`${V1}/sub/contacts?${query}`, stream),
    webSocket: get(`${V1}/sub/contacts?${query}`, WEBSOCKET),
    sip: get(`${SIP}?${query}`, WEBSOCKET),
    app: get('/app/', bearer(token)),
    profile: get(`${V1}/profile`, bearer(token)),
    media: get(`${V1}/check-media-access`, bearer(token)),
  }
  const statuses: Record<string, number> = {}
  for (const [name, reply] of Object.entries(asked)) statuses[name] = (await reply).status
  return statuses
}

const every = (statuses: Record<string, number>, status: number): Record<string, number> =>
  Object.fromEntries(Object.keys(statuses).map((name) => [name, status]))

void t.test('log in, play, hear, log out, and be out', { skip: nginxMissing() }, async (t) => {
  const scene = await setUp(t)
  const { asks, get, nginx, place, daemon } = scene
  const recording = `${RECORDINGS}/a.wav`

  // First: clients at one moment, as below, rightly need a connection each.
  await t.test(
    '60 checks share a handful of connections, and a refusal keeps its own',
    async (t) => {
      const { access } = await enter(scene)
      /** The daemon's ends of its connections, by inode. */
      const connections = (): string[] =>
        readFileSync('/proc/net/unix', 'utf8')
          .split('\n')
          .map((line) => line.trim().split(/\s+/))
          .filter(([, , , , , state, , path]) => state === '03' && path === place.at('http.sock'))
          .map((fields) => fields[6] ?? '')
      const used = new Set<string>()
      const statuses = new Map<number, number>()
      const asked = [
        bearer(access),
        bearer('nonsense'),
        {},
        { ...bearer(access), 'X-Path': '/app/' },
      ] as const
      for (let n = 0; n < 60; n++) {
        const { 'X-Path': path = recording, ...headers } = asked[n % asked.length] as Seen
        const { status } = await get(path, headers as Record<string, string>)
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        for (const inode of connections()) used.add(inode)
      }
      t.same(Object.fromEntries(statuses), { 200: 15, 401: 30, 403: 15 })
      t.ok(used.size >= 1 && used.size <= 4, `${used.size} connections for 60 checks`)
      t.same(connections().toSorted(), [...used].toSorted(), 'and not one was dropped')
    },
  )

  await t.test('a recording is played in ranges, by a token in the header alone', async (t) => {
    const { access } = await enter(scene)
    const part = await get(recording, { ...bearer(access), Range: 'bytes=0-3' })
    t.match(part, {
      status: 206,
      body: 'RIFF',
      headers: { 'content-range': 'bytes 0-3/1000', 'content-type': 'audio/wav' },
    })
    t.match(await get(recording, bearer(access)), { status: 200, body: AUDIO })
    const nobody = await get(recording)
    t.match(nobody, { status: 401, headers: { 'www-authenticate': /^Bearer realm="postern"$/ } })
    t.notOk(nobody.body.includes('RIFF'))
    t.match(await get(recording, bearer('nonsense')), {
      status: 401,
      headers: { 'www-authenticate': /error="invalid_token"/ },
    })
    t.equal((await get(`${recording}?authorization=${access}`)).status, 401, 'not from its URL')
  })

  for (const [name, subscribe] of Object.entries(WAYS))
    await t.test(`what is published is heard by ${name}`, async (t) => {
      const { access } = await enter(scene)
      t.equal(await hear(scene, subscribe, access), '{"states":{}}')
    })

  await t.test('a role may do what it was granted, and nothing else', async (t) => {
    const [user, admin] = [await enter(scene), await enter(scene, '900')]
    for (const channel of ['event-bus', 'user-202', 'a'.repeat(64)])
      t.equal((await get(`${V1}/sub/${channel}`, bearer(user.access))).status, 403, channel)
    await scene.publish('event-bus', 'for the operator')
    t.match(await get(`${V1}/sub/event-bus`, bearer(admin.access)), { body: 'for the operator' })
    t.equal((await get('/app/', bearer(user.access))).status, 403)
    t.equal((await get('/app/', bearer(admin.access))).status, 200)
  })

  await t.test('a refresh token opens nothing but refresh', async (t) => {
    const { refresh } = await enter(scene)
    const statuses = await tryEverywhere(scene, refresh)
    t.same(statuses, { ...every(statuses, 401), profile: 403 })
    const options = { method: 'POST', headers: bearer(refresh) }
    t.equal((await asks(`${V1}/auth/refresh`, options)).status, 200)
  })

  await t.test('after logout every token of that session is out, everywhere', async (t) => {
    const user = await enter(scene)
    const stays = await enter(scene, '900')
    const renewed = await asks(`${V1}/auth/refresh`, {
      method: 'POST',
      headers: bearer(user.refresh),
    })
    const second = String((JSON.parse(renewed.body) as Seen)['access_token'])
    scene.secrets.push(second)
    for (const token of [user.access, second])
      t.equal((await get(recording, bearer(token))).status, 200)

    const stream = await fetch(`${nginx.url}${V1}/sub/contacts?authorization=${user.access}`, {
      headers: { Accept: 'text/event-stream' },
    })
    t.equal(stream.status, 200)
    const ended = stream.text().catch(() => '')
    const out = { method: 'POST', headers: bearer(user.access) }
    t.equal((await asks(`${V1}/auth/logout`, out)).status, 200)
    for (const token of [user.access, second]) {
      const statuses = await tryEverywhere(scene, token)
      t.same(statuses, every(statuses, 401))
    }
    const late = { method: 'POST', headers: bearer(user.refresh) }
    t.equal((await asks(`${V1}/auth/refresh`, late)).status, 401)
    await ended
    t.pass('the live stream has ended')
    t.equal((await get(recording, bearer(stays.access))).status, 200, 'nobody else is out')
  })

  await t.test('the PBX dialect leads through the same door', async (t) => {
    const entered = await asks(`${V3}/auth:login`, {
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: `login=201&password=${encodeURIComponent(PASSWORD)}&rememberMe=true`,
    })
    t.equal(entered.status, 200)
    const { data } = JSON.parse(entered.body) as { data: { accessToken: string } }
    const Cookie = String(entered.headers['set-cookie']?.[0]?.split(';')[0])
    scene.secrets.push(data.accessToken, Cookie.split('=')[1] ?? '')
    t.equal((await get(recording, bearer(data.accessToken))).status, 200)
    const renewed = await asks(`${V3}/auth:refresh`, { method: 'POST', headers: { Cookie } })
    t.equal(renewed.status, 200)
    t.not(String(renewed.headers['set-cookie']?.[0]?.split(';')[0]), Cookie, 'rotated')
    const out = { method: 'POST', headers: bearer(data.accessToken) }
    t.equal((await asks(`${V3}/auth:logout`, out)).status, 200)
    t.equal((await get(recording, bearer(data.accessToken))).status, 401)
    t.equal((await asks(`${V3}/auth:refresh`, { method: 'POST', headers: { Cookie } })).status, 401)
  })

  await t.test("what a client sends along changes nobody's mind", async (t) => {
    const user = await enter(scene)
    const forged = {
      'X-Original-URI': '/app/public/',
      'X-Auth-Action': 'read',
      'X-Auth-Resource': 'recordings/a.wav',
      'X-Auth-Accept': 'header query cookie ticket',
      'X-Auth-User': '900',
      'X-Auth-Role': 'admin',
    }
    t.equal((await get(recording, forged)).status, 401)
    t.equal((await get('/app/', { ...forged, ...bearer(user.access) })).status, 403)
    t.equal((await get(`/app/?authorization=${user.access}`, forged)).status, 401)

    const admin = await enter(scene, '900')
    const claims = { ...forged, X_Auth_User: 'root', 'X-Auth-Session': 'mine' }
    const seen = JSON.parse(
      (await get('/app/', { ...claims, ...bearer(admin.access) })).body,
    ) as Seen
    t.match(seen, { 'x-auth-user': '900', 'x-auth-role': 'admin', 'x-auth-session': /^.{10,}$/ })
    t.not(seen['x-auth-session'], 'mine')
    t.notOk(seen['authorization'], 'the token stays with us')
    t.same(JSON.parse((await get('/app/public/', claims)).body), {}, 'unprotected: nobody')
  })

  await t.test('a line break in a path becomes no header', async (t) => {
    const { access } = await enter(scene)
    const injected = `%0d%0aAuthorization:%20Bearer%20${access}%0d%0aX-Original-Method:%20GET%0d%0aX:%20.wav`
    for (const path of [`${RECORDINGS}/`, `${RECORDINGS}/a`, `${V1}/sub/x`, '/app/']) {
      const { status } = await get(path + injected)
      t.ok([401, 404].includes(status), `${path}: ${status}`)
    }
  })

  await t.test('a channel name is one or it is none', async (t) => {
    const { access } = await enter(scene, '900')
    const names = [
      'a'.repeat(65),
      'Users-State',
      '%2e%2e',
      '%00',
      '',
      'users-state/',
      'a%2fb',
      'kick-x',
    ]
    for (const name of names) {
      const { status } = await get(`${V1}/sub/${name}`, bearer(access))
      t.ok([400, 403, 404].includes(status), `${name}: ${status}`)
    }
    t.equal((await get(`/x${V1}/sub/a`, bearer(access))).status, 404)
  })

  await t.test('a daemon that hangs, or is killed, lets nobody in', async (t) => {
    const { access } = await enter(scene)
    const paths = [recording, '/app/', `${V1}/sub/users-state`, `${V1}/profile`]
    const all = () =>
      Promise.all(paths.map(async (path) => (await get(path, bearer(access))).status))
    daemon.child.kill('SIGSTOP')
    // The profile is no check: it may wait for its turn for longer than we do.
    const hanging = await Promise.all(paths.slice(0, 3).map((path) => get(path, bearer(access))))
    daemon.child.kill('SIGCONT')
    for (const reply of hanging) t.match(reply, { status: 503, headers: { 'retry-after': '2' } })
    await until('it goes on', async () => (await get(recording, bearer(access))).status === 200)

    const { pid } = daemon
    t.ok(pid > 0)
    t.same(await daemon.end('SIGTERM'), { code: 0, signal: null })
    t.same(await all(), [503, 503, 503, 503])
    const again = await serve(t, place)
    t.equal((await get(recording, bearer(access))).status, 200, 'and is asked again at once')
    await again.end('SIGKILL')
    t.same(await all(), [503, 503, 503, 503])
    await serve(t, place)
    t.equal((await get(recording, bearer(access))).status, 200)
  })

  await t.test('no token, password or key is left in any log', async (t) => {
    t.ok(scene.secrets.length > 10)
    const keys = readFileSync(place.at('state', 'keys.json'), 'utf8')
    const secrets = [...scene.secrets, PASSWORD, encodeURIComponent(PASSWORD)]
    secrets.push(/"k": ?"([^"]+)"/.exec(keys)?.[1] ?? 'no key was found')
    const logs = {
      'the access log of nginx': nginx.accessLog(),
      'the error log of nginx': nginx.errorLog(),
      "the daemon's log": daemon.out() + daemon.err(),
      'the security log': readFileSync(place.at('security.log'), 'utf8'),
    }
    t.match(logs['the access log of nginx'], /sub\/users-state\?\[masked\]/)
    t.match(logs['the access log of nginx'], /check=401 reason=session_ended/)
    t.match(logs['the security log'], /\[LOGOUT\] .*From: 127\.0\.0\.1 \| User: 201/)
    for (const [name, text] of Object.entries(logs))
      t.same(
        secrets.filter((secret) => text.includes(secret)),
        [],
        name,
      )
  })
})

void t.test('a file has one name, however it is spelled', { skip: nginxMissing() }, async (t) => {
  const scene = await setUp(t, { 'roles.user': 'grants = ["read:recordings/mine/**"]' })
  const { nginx } = scene
  const { access } = await enter(scene)
  /** The status of a request line exactly as written. */
  const raw = async (path: string): Promise<number> => {
    const socket = connect(nginx.port, '127.0.0.1')
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access}\r\nConnection: close\r\n\r\n`,
    )
    let text = ''
    for await (const part of socket as AsyncIterable<Buffer>) text += part.toString('latin1')
    return Number(text.split(' ')[1])
  }
  type Row = [path: string, status: number]
  const table: (string | Row)[] = [
    'what is mine',
    ['mine/a.wav', 200],
    ['mine/./a.wav', 200],
    ['%6dine/a.wav', 200],
    ['other/../mine/a.wav', 200],
    'what is not, eight ways',
    ['other/a.wav', 403],
    ['mine/../other/a.wav', 403],
    ['mine/%2e%2e/other/a.wav', 403],
    ['mine/..%2fother/a.wav', 403],
    ['mine%2f..%2fother%2fa.wav', 403],
    ['/other/a.wav', 403],
    ['./other/a.wav', 403],
    ['%6fther/a.wav', 403],
    ['mine;x=1/a.wav', 403],
    'what names no file',
    ['mine/..;/other/a.wav', 404],
    ['mine/..\\other/a.wav', 404],
    ['mine/..%5cother/a.wav', 404],
    ['mi%09ne/a.wav', 404],
    ['mi\tne/a.wav', 400],
    ['mine/a.wav%00', 400],
    ['mine/a.wav%0a', 404],
    ['', 404],
    ['mine/', 404],
  ]
  for (const row of table) {
    if (typeof row === 'string') t.comment(row)
    else t.equal(await raw(`${RECORDINGS}/${row[0]}`), row[1], row[0])
  }
  t.ok((await raw(`${RECORDINGS}/../../../etc/passwd`)) >= 400)
})

// As the original's users type them, one a row; the variables are theirs.
const LOGIN = `curl -sS -X POST "$BASE_URL/auth/login" -H "Content-Type: application/json" -d '{"username":"201","password":"${PASSWORD}"}'`
const TOKENS = `LOGIN_RES="$(${LOGIN})"
ACCESS_TOKEN="$(printf '%s\\n' "$LOGIN_RES" | sed -nE 's/.*"access_token":"([^"]+)".*/\\1/p')"
REFRESH_TOKEN="$(printf '%s\\n' "$LOGIN_RES" | sed -nE 's/.*"refresh_token":"([^"]+)".*/\\1/p')"
printf '%s %s' "$ACCESS_TOKEN" "$REFRESH_TOKEN"`

type Line = [what: string, line: string, status: number, body: object | string]
const LINES: readonly (Line | 'log in')[] = [
  ['login', LOGIN, 200, { success: true, token_type: 'Bearer', expires_in: 3600 }],
  'log in',
  [
    'profile',
    'curl -sS "$BASE_URL/profile" -H "Authorization: Bearer $ACCESS_TOKEN"',
    200,
    { success: true, user: { id: Number, username: '201', role: 'user' } },
  ],
  [
    'refresh',
    'curl -sS -X POST "$BASE_URL/auth/refresh" -H "Authorization: Bearer $REFRESH_TOKEN"',
    200,
    { success: true, access_token: String, token_type: 'Bearer', expires_in: 3600 },
  ],
  [
    'logout',
    'curl -sS -X POST "$BASE_URL/auth/logout" -H "Authorization: Bearer $ACCESS_TOKEN"',
    200,
    { success: true, message: 'Logged out successfully' },
  ],
  'log in', // here a logout is real
  [
    'health',
    'curl -sS "$BASE_URL/health"',
    200,
    { success: true, status: 'ok', timestamp: Number },
  ],
  [
    'check-media-access',
    'curl -sS "$BASE_URL/check-media-access" -H "Authorization: Bearer $ACCESS_TOKEN"',
    200,
    { success: true },
  ],
  [
    'an invalid token',
    'curl -sS "$BASE_URL/profile" -H "Authorization: Bearer invalid_token"',
    401,
    { success: false, error: String, timestamp: Number },
  ],
  [
    'the refresh token in place of the access token',
    'curl -sS "$BASE_URL/profile" -H "Authorization: Bearer $REFRESH_TOKEN"',
    403,
    { success: false, error: String, timestamp: Number },
  ],
  [
    'empty credentials',
    `curl -sS -X POST "$BASE_URL/auth/login" -H "Content-Type: application/json" -d '{"username":"","password":""}'`,
    400,
    { success: false, error: String, timestamp: Number },
  ],
  [
    'publish, from this machine',
    `curl -sS -X POST "$BASE_URL/pub/users-state" -H "Content-Type: application/json" -d '{"event":"users-state-update"}'`,
    202,
    '',
  ],
  [
    'subscribe',
    'curl -sS "$BASE_URL/sub/users-state?authorization=$ACCESS_TOKEN"',
    200,
    { event: 'users-state-update' },
  ],
]

const shell = (script: string, env: Record<string, string>): Promise<string> => {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const options = { env: { ...process.env, ...env }, timeout: 120_000 }
  execFile('bash', ['-c', script], options, (error, stdout) => {
    if (error) reject(error)
    else resolve(stdout)
  })
  return promise
}

void t.test("the original's own curl lines work", { skip: nginxMissing() }, async (t) => {
  const { nginx } = await setUp(t)
  const env: Record<string, string> = { BASE_URL: `${nginx.url}${V1}` }
  for (const line of LINES) {
    if (line === 'log in') {
      const [access = '', refresh = ''] = (await shell(TOKENS, env)).split(' ')
      t.match([access, refresh], [/^ey/, /^ey/], 'the tokens, as their sed takes them out')
      env['ACCESS_TOKEN'] = access
      env['REFRESH_TOKEN'] = refresh
      continue
    }
    const [what, script, status, body] = line
    const printed = await shell(`${script} -w '\\n%{http_code}'`, env)
    const cut = printed.lastIndexOf('\n')
    t.equal(printed.slice(cut + 1), String(status), what)
    const text = printed.slice(0, cut)
    if (typeof body !== 'string') t.match(JSON.parse(text), body, what)
  }
})
