// Whoever upgrades from 0.1.0 keeps a configuration and nginx files of that time: the example as it was, and an nginx that
// nobody has reloaded, in front of the daemon of today.

import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { checkConfig } from '../../src/cli/check-config.ts'
import { runCommand } from '../cli/run.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { bearer, login, makePlace, nginxFound, PASSWORD, serve } from '../fixtures/postern.ts'
import { type Ask, ask, RECORDINGS, SIP, V1, V3 } from './ask.ts'
import { endsWithin, WAYS, withToken } from './live.ts'

const BEFORE = join(import.meta.dirname, '..', 'fixtures', 'v0.1.0')

/** 0.1.0's example, on paths of our own. */
const makePlaceOfBefore = (t: Test) => {
  const place = makePlace(t)
  const moved: readonly (readonly [from: string, to: string])[] = [
    ['unix:/run/postern/http.sock', `unix:${place.at('http.sock')}`],
    ['/run/postern/control.sock', place.at('control.sock')],
    ['127.0.0.1:9478', `unix:${place.at('op.sock')}`],
    ['/var/lib/postern', place.at('state')],
    ['/etc/postern/users', place.at('users')],
    ['/run/postern-nginx/kick.sock', place.at('kick.sock')],
    ['/var/log/postern/security.log', place.at('security.log')],
  ]
  let text = readFileSync(join(BEFORE, 'postern.example.toml'), 'utf8')
  for (const [from, to] of moved) text = text.replace(` = "${from}"`, ` = "${to}"`)
  writeFileSync(place.config, text)
  return place
}

void t.test('check-config names what has changed for the example of 0.1.0', async (t) => {
  const place = makePlaceOfBefore(t)
  const { status, err } = await runCommand(checkConfig, [place.config])
  t.equal(status, 0)
  t.same(
    err.split('\n').map((line) => line.replace(/^warning: .*?postern\.toml:\d+: /, '')),
    [
      'listen.socket_mode: no longer has an effect (the mode is 0660, for the group of listen.socket_group): remove it',
      'listen.max_connections: no longer has an effect (4096 connections): remove it',
      'http_users.max_in_flight: no longer has an effect (32 questions under way at once): remove it',
      'tokens.leeway: no longer has an effect (5 seconds): remove it',
      'tickets.ttl: no longer has an effect (30 seconds where the client asks for no other life, at most tickets.max_ttl; tickets.connect_ttl for SIP): remove it',
      'subscriptions: is called [streams] now: rename the section, the next version no longer reads the old name',
      'passwords.queue: no longer has an effect (64 logins may wait): remove it',
      'throttle.window: no longer has an effect (900 seconds): remove it',
      'roles.admin.grants: may read below api/ and write nothing, so that POST, PUT and DELETE are refused there: add "write:api/**" where the role should change things',
    ],
  )
})

/** What stands behind nginx: it says how it was asked. */
const startBehind = async (t: Test, socket: string): Promise<void> => {
  const server = createServer(({ method, url, headers }, response) => {
    response.end([method, url, headers['x-auth-user']].join(' '))
  }).listen(socket)
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
}

void t.test(
  'an nginx of 0.1.0 goes on with the daemon of today',
  { skip: nginxMissing() },
  async (t) => {
    const place = makePlaceOfBefore(t)
    const behind = `unix:${place.at('app.sock')}`
    await startBehind(t, place.at('app.sock'))
    await serve(t, place)
    const nginx = await startNginx(t, {
      shipped: join(BEFORE, 'nginx'),
      postern: place.at('http.sock'),
      kick: place.at('kick.sock'),
      recordings: t.testdir({ 'a.wav': 'RIFF' }),
      app: behind,
      asterisk: behind,
      pbx: behind,
    })
    await nginxFound(place)
    const asks = (path: string, options: Ask = {}) => ask(nginx.port, path, options)
    const user = await login(asks)
    const admin = await login(asks, '900')
    const post = { method: 'POST' }
    const websocket = {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
      'Sec-WebSocket-Version': '13',
      'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
    }
    const json = { 'Content-Type': 'application/json' }
    const ticket = await asks(`${V1}/auth/ticket`, {
      headers: { ...bearer(user.access), ...json },
      body: '{"action":"read","resource":"recordings/a.wav"}',
    })
    const shown = (JSON.parse(ticket.body) as { ticket: string }).ticket
    const entered = await asks(`${V3}/auth:login`, {
      headers: json,
      body: JSON.stringify({ login: '900', password: PASSWORD }),
    })
    const Cookie = String(entered.headers['set-cookie']?.[0]?.split(';')[0])
    const { data } = JSON.parse(entered.body) as { data: { accessToken: string } }

    const rows: readonly (readonly [what: string, path: string, asked: Ask, expected: RegExp])[] = [
      ['health', `${V1}/health`, {}, /^200 /],
      ['profile', `${V1}/profile`, { headers: bearer(user.access) }, /^200 .*"201"/],
      ['nobody', `${V1}/profile`, {}, /^401 /],
      ['media', `${V1}/check-media-access`, { headers: bearer(user.access) }, /^200 /],
      ['refresh', `${V1}/auth/refresh`, { ...post, headers: bearer(user.refresh) }, /^200 /],
      ['sessions', `${V1}/auth/sessions`, { headers: bearer(user.access) }, /^200 /],
      [
        'a wrong password',
        `${V1}/auth/login`,
        { headers: json, body: '{"username":"201","password":"x"}' },
        /^401 /,
      ],
      ['a recording', `${RECORDINGS}/a.wav`, { headers: bearer(user.access) }, /^200 RIFF$/],
      ['by nobody', `${RECORDINGS}/a.wav`, {}, /^401 /],
      ['by ticket', `${RECORDINGS}/a.wav?ticket=${shown}`, {}, /^200 RIFF$/],
      [
        'in ranges',
        `${RECORDINGS}/a.wav`,
        { headers: { ...bearer(user.access), Range: 'bytes=0-1' } },
        /^206 RI$/,
      ],
      ['publish', `${V1}/pub/users-state`, { body: 'hello' }, /^20[12] /],
      ['no channel of theirs', `${V1}/sub/event-bus`, { headers: bearer(user.access) }, /^403 /],
      [
        'a token in the query',
        `${V1}/sub/users-state?authorization=${user.access}`,
        {},
        /^200 hello$/,
      ],
      [
        'SIP',
        `${SIP}?authorization=${user.access}`,
        { headers: websocket },
        /^200 GET \/asterisk\/ws /,
      ],
      ['SIP by nobody', SIP, { headers: websocket }, /^401 /],
      ['an application', '/app/x', { headers: bearer(admin.access) }, /^200 GET \/app\/x 900$/],
      ['not for everybody', '/app/x', { headers: bearer(user.access) }, /^403 /],
      ['the API', `${V3}/extensions`, { headers: bearer(data.accessToken) }, /^200 GET .* 900$/],
      [
        'changing it, as before',
        `${V3}/extensions`,
        { ...post, headers: bearer(data.accessToken) },
        /^200 POST .* 900$/,
      ],
      ['a refresh there', `${V3}/auth:refresh`, { ...post, headers: { Cookie } }, /^200 /],
      [
        'a logout there',
        `${V3}/auth:logout`,
        { ...post, headers: bearer(data.accessToken) },
        /^200 /,
      ],
      ['and out', `${V3}/extensions`, { headers: bearer(data.accessToken) }, /^401 /],
    ]
    for (const [what, path, asked, expected] of rows) {
      const { status, body } = await asks(path, asked)
      t.match(`${status} ${body}`, expected, what)
    }

    const streams = await Promise.all(
      WAYS.map(([, listen]) => listen(t, nginx.port, withToken('contacts', user.access))),
    )
    await asks(`${V1}/pub/contacts`, { body: 'heard' })
    t.equal(
      (await asks(`${V1}/auth/logout`, { ...post, headers: bearer(user.access) })).status,
      200,
    )
    t.ok((await endsWithin(streams, 500)) < 500, 'as it was promised then')
    const { body } = await place.operator('/metrics')
    t.match(body, /^postern_streams_uncuttable_total\{why="old_nginx"\} [1-9]/m)
    t.equal((await asks(`${RECORDINGS}/a.wav`, { headers: bearer(user.access) })).status, 401)
  },
)
