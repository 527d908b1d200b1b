// Keys and trusted issuers on a running daemon: rotation that nobody notices, removal that everybody of that key
// does, and another system's users as guests.

import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { createKeyCommand } from '../../src/cli/key.ts'
import { reload } from '../../src/cli/reload.ts'
import { loadConfig } from '../../src/config/load.ts'
import { startDaemon } from '../../src/daemon/start.ts'
import { createLog } from '../../src/log.ts'
import { runCommand } from '../cli/run.ts'
import { createTestClock } from '../fixtures/clock.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import { keySet } from '../fixtures/keys.ts'
import {
  FOREIGN_AUDIENCE,
  FOREIGN_ISSUER,
  foreignClaims,
  foreignToken,
  pairOf,
} from '../fixtures/pairs.ts'
import {
  bearer,
  check,
  CHECK,
  checkHeaders,
  login,
  makePlace,
  PASSWORD,
  post,
} from '../fixtures/postern.ts'
import { V1 } from '../nginx/ask.ts'

const start = async (t: Test, sections: Readonly<Record<string, string>> = {}) => {
  const place = makePlace(t, sections)
  const clock = createTestClock()
  const log = createLog('error', { write: () => undefined })
  const readConfig = () => loadConfig(place.config)
  const daemon = await startDaemon(readConfig(), { log, clock, readConfig })
  const agent = new Agent({ keepAlive: true, maxSockets: 32 })
  t.teardown(async () => {
    agent.destroy()
    await daemon.stop()
  })
  const command = createKeyCommand(clock.now)
  /** The status of a check over a connection that is kept. */
  const ask = (token: string): Promise<number> =>
    new Promise((resolve, reject) => {
      request({
        socketPath: place.at('http.sock'),
        path: CHECK,
        agent,
        headers: checkHeaders(token),
      })
        .on('response', (response) => {
          response.resume().on('end', () => resolve(Number(response.statusCode)))
        })
        .on('error', reject)
        .end()
    })
  const renew = async (refreshToken: string): Promise<string> => {
    const { status, body } = await place.ask(`${V1}/auth/refresh`, {
      method: 'POST',
      headers: bearer(refreshToken),
    })
    if (status !== 200) throw new Error(`refresh: ${status} ${body}`)
    return String((JSON.parse(body) as Record<string, string>)['access_token'])
  }
  const key = async (...argv: string[]) => {
    const ran = await runCommand(command, [...argv, '--config', place.config])
    return { ...ran, kid: ran.out.split(' ')[0] ?? '' }
  }
  const keysIn = (): string[] =>
    (
      JSON.parse(readFileSync(place.at('state', 'keys.json'), 'utf8')) as {
        keys: { kid: string }[]
      }
    ).keys.map(({ kid }) => kid)
  const reloadNow = () => runCommand(reload, ['--config', place.config])
  return { place, clock, daemon, ask, renew, key, keysIn, reloadNow }
}

void t.test('F36: a key is rotated under 10,000 checks, and not one is refused', async (t) => {
  const { place, clock, ask, renew, key, keysIn } = await start(t)
  const logins = await Promise.all(Array.from({ length: 4 }, () => login(place.ask)))
  const tokens = logins.map(({ access }) => access)
  const old = tokens[0] ?? ''
  const [first = ''] = keysIn()
  const refused: number[] = []
  let asked = 0
  /** 2,000 checks while something happens. */
  const load = async (meanwhile: () => Promise<unknown>): Promise<void> => {
    const client = async (): Promise<void> => {
      for (let i = 0; i < 125; i++) {
        const status = await ask(tokens[asked % tokens.length] ?? '')
        asked++
        if (status !== 204) refused.push(status)
      }
    }
    await Promise.all([...Array.from({ length: 16 }, client), meanwhile()])
  }
  const renewAll = async (): Promise<void> => {
    for (const [index, { refresh }] of logins.entries()) tokens[index] = await renew(refresh)
  }

  await load(async () => {
    t.match(await key('add', '--alg', 'EdDSA'), { status: 0, out: /added[^]*reloaded/ })
  })
  await load(async () => {
    t.match(await key('retire', first), { status: 0, out: /retired[^]*reloaded/ })
  })
  t.match(await key('remove', first), { status: 1, err: /may be valid until/ })
  t.equal(await check(place, old), '204', 'what it signed still counts')
  await load(renewAll)
  clock.advance(3599)
  await renewAll()
  clock.advance(1)
  await load(async () => {
    t.match(await key('remove', first), { status: 0, out: /removed[^]*reloaded/ })
  })
  await load(renewAll)
  t.equal(asked, 10_000)
  t.same(refused, [])
  t.equal(await check(place, old), '401 unknown_key')
})

void t.test('F38: an emergency removal ends access tokens at once, and no session', async (t) => {
  const { place, key, keysIn, renew } = await start(t)
  const { access, refresh } = await login(place.ask)
  const [first = ''] = keysIn()
  await key('add')
  t.equal(await check(place, access), '204')
  t.match(await key('remove', first, '--yes'), { status: 0 })
  t.equal(await check(place, access), '401 unknown_key')
  t.equal(await check(place, await renew(refresh)), '204', 'its session goes on')
  t.equal(await post(place, '/auth/logout', refresh), 200, 'and can be ended')
})

void t.test('F39: a key file that is gone or broken at a reload changes nothing', async (t) => {
  const { place, reloadNow } = await start(t)
  const file = place.at('state', 'keys.json')
  const good = readFileSync(file, 'utf8')
  const { access } = await login(place.ask)
  const rows: readonly (readonly [what: string, breaks: () => void, says: RegExp])[] = [
    ['gone', () => rmSync(file), /keys\.json: is gone: restore it/],
    ['broken', () => writeFileSync(file, '{', { mode: 0o600 }), /keys\.json: is not JSON/],
    ['open', () => chmodSync(file, 0o644), /keys\.json: has mode 644/],
  ]
  for (const [what, breaks, says] of rows) {
    breaks()
    t.match(await reloadNow(), { status: 78, err: says }, what)
    t.equal(await check(place, access), '204', what)
    t.match((await place.operator('/metrics')).body, /^postern_config_last_reload_successful 0$/m)
    writeFileSync(file, good, { mode: 0o600 })
    chmodSync(file, 0o600)
  }
  t.match(await reloadNow(), { status: 0, out: 'reloaded' })
  t.match((await place.operator('/metrics')).body, /^postern_config_last_reload_successful 1$/m)
})

void t.test(
  'a reload names what waits for a restart, and takes up nothing of a bad file',
  async (t) => {
    const { place, reloadNow } = await start(t)
    place.configure({ passwords: 'workers = 5', roles: '' })
    t.match(await reloadNow(), { status: 0, err: 'these wait for a restart: passwords.workers' })
    place.configure({ 'roles.user': 'grants = []', 'issuers.acme': 'jwks_file = "/none"' })
    const { access } = await login(place.ask)
    t.match(await reloadNow(), { status: 78 })
    t.equal(await check(place, access), '204')
  },
)

void t.test('others find our public keys, and may keep them', async (t) => {
  const { place, key } = await start(t)
  const get = async () => {
    const { status, headers, body } = await place.ask('/.well-known/jwks.json')
    t.equal(status, 200)
    t.equal(headers['cache-control'], 'public, max-age=300')
    return (JSON.parse(body) as { keys: Record<string, unknown>[] }).keys
  }
  t.same(await get(), [])
  const { kid } = await key('add', '--alg', 'ES256')
  t.match(await get(), [{ kid, alg: 'ES256', use: 'sig', kty: 'EC', crv: 'P-256' }])
  t.same(Object.keys((await get())[0] ?? {}).sort(), ['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y'])
  t.equal((await place.ask(`${V1}/health`)).headers['cache-control'], 'no-store')
})

void t.test('another system’s users pass as guests, and never as ours', async (t) => {
  const pair = pairOf('RS256', 'theirs')
  const { place, reloadNow } = await start(t)
  const file = place.at('acme.json')
  writeFileSync(file, keySet(pair.open), { mode: 0o644 })
  const text = (changes: Record<string, unknown> = {}): string =>
    foreignToken(pair, { payload: foreignClaims(changes) })
  t.equal(await check(place, text()), '401 wrong_type', 'nobody trusts them yet')
  const section = [
    `issuer = "${FOREIGN_ISSUER}"`,
    `audience = "${FOREIGN_AUDIENCE}"`,
    `jwks_file = "${file}"`,
    'role_claim = "realm_access.roles"',
    'roles = ["staff=user"]',
  ].join('\n')
  place.configure({ 'issuers.acme': section })
  t.match(await reloadNow(), { status: 0 })

  const { status, headers } = await place.ask(CHECK, {
    headers: checkHeaders(text({ sub: '900' })),
  })
  t.equal(status, 204)
  t.match(headers, { 'x-auth-user': 'acme:900', 'x-auth-role': 'user' })
  t.equal(await check(place, text({ realm_access: { roles: ['admin'] } })), '403 unknown_role')
  const profile = await place.ask(`${V1}/profile`, { headers: bearer(text({ sub: '900' })) })
  t.match(JSON.parse(profile.body), { user: { username: 'acme:900', role: 'user' } })
  t.equal(await post(place, '/auth/logout', text()), 401)
  t.equal(await post(place, '/auth/refresh', text()), 403)
  t.match((await place.operator('/metrics')).body, /^postern_issuer_keys\{issuer="acme"\} 1$/m)

  const named = await place.ask(`${V1}/auth/login`, {
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username: 'acme:900', password: PASSWORD }),
  })
  t.equal(named.status, 401, 'no source of ours is asked for a name of theirs')
  rmSync(file)
  t.equal(await check(place, text()), '204', 'the last good keys stay')
  place.configure()
  t.match(await reloadNow(), { status: 0 })
  t.equal(await check(place, text()), '401 wrong_type', 'they are trusted no more')
})

void t.test('a key that is withdrawn while nobody asks ends what it let in', async (t) => {
  const pair = pairOf('RS256', 'theirs')
  const file = join(t.testdir({ 'acme.json': keySet(pair.open) }), 'acme.json')
  const section = `issuer = "${FOREIGN_ISSUER}"\naudience = "${FOREIGN_AUDIENCE}"\njwks_file = "${file}"\nrole_claim = "realm_access.roles"\nroles = ["staff=user"]`
  const daemon = await startTestDaemon(t, { sections: { 'issuers.acme': section } })
  const token = foreignToken(pair, { payload: foreignClaims({}) })
  const opened = await daemon.check(token, {
    resource: 'users-state',
    'X-Auth-Action': 'subscribe',
  })
  t.equal(opened.status, 204)
  t.same(daemon.kicked, [])
  writeFileSync(file, keySet(pairOf('RS256', 'other').open))
  for (let passed = 0; passed < 60 && daemon.kicked.length === 0; passed++) {
    daemon.clock.advance(1)
    await pause(100)
  }
  t.same(daemon.kicked, [opened.header('x-auth-kick')])
})

void t.test('an issuer that was never heard of is no refusal: nobody was judged', async (t) => {
  const { place } = await start(t, {
    'issuers.acme': `issuer = "${FOREIGN_ISSUER}"\naudience = "pbx"\njwks_url = "http://127.0.0.1:1/"\nrole_claim = "role"\nroles = ["staff=user"]`,
  })
  const token = foreignToken(pairOf('EdDSA', 'a'))
  const { status, headers } = await place.ask(CHECK, { headers: checkHeaders(token) })
  t.equal(status, 503)
  t.ok(headers['retry-after'])
  t.match(
    (await place.operator('/metrics')).body,
    /^postern_faults_total\{kind="issuer_away"\} 1$/m,
  )
  const { access } = await login(place.ask)
  t.equal(await check(place, access), '204', 'ours pass')
})
