// `postern token inspect`: what a token says and what a check would answer, without ever printing what could
// be used as one.

import { once } from 'node:events'
import { createServer } from 'node:http'
import t from 'tap'

import { token } from '../../src/cli/token.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import { makePlace } from '../fixtures/postern.ts'
import { runCommand } from './run.ts'

void t.test('the running daemon says what a check would answer', async (t) => {
  const daemon = await startTestDaemon(t)
  const { config } = daemon.place
  const { access, refresh } = await daemon.softphone()
  const inspect = (text: string, ...more: string[]) =>
    runCommand(token, ['inspect', '--config', config, ...more], `${text}\n`)

  const good = await inspect(access)
  t.equal(good.status, 0)
  t.match(good.out, /^header\n {2}alg: "HS256"\n {2}typ: "at\+jwt"\n/)
  t.match(good.out, / {2}username: "201"\n/)
  t.match(good.out, / {2}exp: \d+ {2}\d{4}-\d\d-\d\dT/)
  t.match(good.out, /check: 204 allowed, for 201 as user$/)
  t.notOk(good.out.includes(access.split('.')[2] ?? '?'), 'the signature is not repeated')

  const granted = await inspect(access, '--action', 'subscribe', '--resource', 'users-state')
  t.match(granted.out, /check: 204/)
  const refused = await inspect(access, '--action', 'read', '--resource', 'secrets')
  t.match(refused, { status: 1, out: /check: 403 no_grant$/ })
  t.match(await inspect(refresh), { status: 1, out: /check: 401 wrong_type$/ })
  t.match(await inspect('rubbish'), {
    status: 1,
    out: 'header\n  not readable\npayload\n  not readable\ncheck: 401 malformed_token',
  })
  const odd = `${Buffer.from('{"a":"\\u001b[2J\\u2028","iat":1e300,"l":[1]}').toString('base64url')}.WzFd.x`
  const shown = await inspect(odd)
  t.match(shown.out, /a: "\\u001b\[2J\\u2028"/, 'nothing of it reaches the terminal as it stands')
  t.match(shown.out, /payload\n {2}not readable/)

  const json = await inspect(access, '--json')
  t.match(JSON.parse(json.out), { payload: { username: '201' }, check: { status: 204 } })

  await daemon.ask(`/pbxcore/api/module-softphone-backend/v1/auth/logout`, {
    method: 'POST',
    headers: { Authorization: `Bearer ${access}` },
  })
  t.match(await inspect(access), { status: 1, out: /check: 401 session_ended$/ })
})

void t.test(
  'without a daemon it says what the token holds, and that nobody was asked',
  async (t) => {
    const place = makePlace(t)
    place.configure()
    const ran = await runCommand(token, ['inspect', '--config', place.config], 'a.b.c')
    t.equal(ran.status, 74)
    t.match(ran.out, /check: not asked$/)
    t.match(ran.err, /the daemon is not running/)
    const json = await runCommand(token, ['inspect', '--json', '--config', place.config], 'a.b.c')
    t.same(JSON.parse(json.out), { check: null })
  },
)

void t.test('a daemon that answers oddly was not asked', async (t) => {
  const daemon = await startTestDaemon(t)
  const { config } = daemon.place
  const long = await runCommand(token, ['inspect', '--config', config], 'x'.repeat(9000))
  t.match(long, { status: 64, err: /bytes on standard input/ })
  const place = makePlace(t)
  place.configure()
  let answer = 'no json'
  const server = createServer((_, response) => void response.writeHead(503).end(answer))
  server.listen(place.at('control.sock'))
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const odd = await runCommand(token, ['inspect', '--config', place.config], 'x.y.z')
  t.match(odd, { status: 74, err: /unexpected reply from the daemon/ })
  answer = '{}'
  const busy = await runCommand(token, ['inspect', '--config', place.config], 'x.y.z')
  t.match(busy, { status: 74, out: /check: not asked/, err: /the daemon answered 503/ })
})

void t.test(
  'a token among the words is not repeated; wrong usage says what is right',
  async (t) => {
    const place = makePlace(t)
    place.configure()
    for (const argv of [
      [],
      ['inspect', 'eyJsecret'],
      ['look'],
      ['inspect', '--frob'],
      ['inspect', '--action', 'read'],
    ]) {
      const { status, err, out } = await runCommand(token, argv, 'x')
      t.equal(status, 64, argv.join(' '))
      t.notMatch(out + err, 'eyJsecret')
    }
    const empty = await runCommand(token, ['inspect', '--config', place.config], '')
    t.equal(empty.status, 64)
    place.configure({ listen: 'frob = 1' })
    t.equal((await runCommand(token, ['inspect', '--config', place.config], 'x')).status, 78)
  },
)
