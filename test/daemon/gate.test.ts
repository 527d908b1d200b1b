// What a config and a key set decide, and that a reload swaps all of it at once, under requests that are
// already on their way.

import { generateKeyPairSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import t from 'tap'

import { NOW } from '../fixtures/clock.ts'
import {
  bearer,
  bytesOf,
  HASH,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  USERS,
  V1,
  V3,
} from '../fixtures/daemon.ts'
import { CHECK } from '../fixtures/postern.ts'

const daemon = await startTestDaemon(t, {
  sections: { mikopbx: 'role_names = ["admin=admins", "user=users"]' },
})

void t.test('both dialects and the check stand on one table', async (t) => {
  const [softphone, mikopbx] = [await daemon.softphone(), await daemon.mikopbx()]
  for (const { access } of [softphone, mikopbx]) {
    t.equal((await daemon.check(access)).status, 204)
    t.equal((await daemon.ask(`${V1}/profile`, { headers: bearer(access) })).status, 200)
  }
})

void t.test('each dialect has its own lives and names of roles, and grants are ours', async (t) => {
  const softphone = await daemon.softphone('900')
  t.match(daemon.claimsOf(softphone.access), { role: 'admin', exp: NOW + 3600 })
  const mikopbx = await daemon.mikopbx('900')
  t.match(daemon.claimsOf(mikopbx.access), { role: 'admins', exp: NOW + 900 })
  const user = await daemon.mikopbx('201')
  t.match(daemon.claimsOf(user.access), { role: 'users' })
  for (const [{ access }, role] of [
    [softphone, 'admin'],
    [mikopbx, 'admin'],
    [user, 'user'],
  ] as const) {
    t.equal((await daemon.check(access)).header('x-auth-role'), role)
  }
})

void t.test('no token passes from one dialect’s refresh to the other’s', async (t) => {
  const [softphone, mikopbx] = [await daemon.softphone(), await daemon.mikopbx()]
  const crossed = [
    await daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(mikopbx.refresh) }),
    await daemon.ask(`${V3}/auth:refresh`, {
      method: 'POST',
      headers: { Cookie: `refreshToken=${softphone.refresh}` },
    }),
  ]
  for (const answer of crossed) t.equal(answer.status, 401)
})

void t.test('every check is counted by what it asked and why it was refused', async (t) => {
  const { access } = await daemon.softphone()
  await daemon.check(access)
  await daemon.ask(CHECK)
  await daemon.check('junk', { 'X-Auth-Action': 'dance' })
  for (const series of [
    '{action="read",result="allowed",reason=""}',
    '{action="unknown",result="refused",reason="no_credential"}',
    '{action="unknown",result="refused",reason="malformed_token"}',
  ]) {
    t.ok((await daemon.metric(`postern_decisions_total${series}`)) > 0, series)
  }
  t.equal(await daemon.metric('postern_http_requests_total{route="check",status="204"}'), 0)
})

void t.test('a refresh lets live subscriptions go on', async (t) => {
  const { access, refresh } = await daemon.softphone()
  const asked = {
    'X-Auth-Accept': 'header',
    'X-Auth-Action': 'subscribe',
    resource: 'users-state',
  }
  t.equal((await daemon.check(access, asked)).status, 204)
  const until = async (): Promise<number | undefined> => {
    const { sessions } = (
      await daemon.ask(`${V1}/auth/sessions`, { headers: bearer(access) })
    ).json() as { sessions: { current: boolean; subscriptions: { until: number }[] }[] }
    return sessions.find(({ current }) => current)?.subscriptions[0]?.until
  }
  t.equal(await until(), NOW + 3600)
  daemon.clock.advance(60)
  await daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(refresh) })
  t.equal(await until(), NOW + 3660)
})

void t.test(
  'a reload moves everything at once, and what is under way ends as it began',
  async (t) => {
    const { access } = await daemon.softphone()
    const body = JSON.stringify({ username: '201', password: PASSWORD })
    const underWay = daemon.ask(`${V1}/auth/login`, { headers: JSON_TYPE, body })
    const hashing = async (): Promise<boolean> => (await daemon.operator('/healthz')).status === 200
    t.ok(await hashing()) // one answer later, the login has come in
    await daemon.reload({
      softphone: 'base_path = "/moved"\naccess_ttl = 60',
      'roles.user': 'grants = []',
    })
    const old = await underWay
    t.match(old.json(), { success: true, expires_in: 3600 })
    t.equal((await daemon.ask(`${V1}/auth/login`, { headers: JSON_TYPE, body })).status, 404)
    const fresh = await daemon.ask('/moved/auth/login', { headers: JSON_TYPE, body })
    t.match(fresh.json(), { success: true, expires_in: 60 })
    const denied = await daemon.check(access)
    t.equal(
      denied.header('x-auth-reason'),
      'no_grant',
      'a token that was out before is judged anew',
    )
    await daemon.reload({})
    t.equal((await daemon.check(access)).status, 204)
  },
)

void t.test('a name out of a trusted issuer’s part is one that nobody has', async (t) => {
  const own = await startTestDaemon(t)
  const keys = own.place.at('sso.json')
  const issuer = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' })
  writeFileSync(keys, JSON.stringify({ keys: [{ ...issuer, kid: 'k', alg: 'EdDSA', use: 'sig' }] }))
  own.place.users(...USERS, `sso-nobody:${HASH}:user`)
  await own.reload({
    'issuers.sso': [
      'issuer = "https://sso.example"',
      'audience = "pbx"',
      `jwks_file = "${keys}"`,
      'role_claim = "role"',
      'roles = ["staff=user"]',
    ].join('\n'),
  })
  const answers = new Set<string>()
  for (const username of ['sso:alice', 'sso:', 'nobody']) {
    const answer = await own.ask(`${V1}/auth/login`, {
      headers: JSON_TYPE,
      body: JSON.stringify({ username, password: PASSWORD }),
    })
    t.equal(answer.status, 401, username)
    answers.add(bytesOf(answer))
  }
  t.equal(answers.size, 1)
  t.equal((await own.softphone('sso-nobody')).answer.status, 200, 'which begins behind the colon')
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
