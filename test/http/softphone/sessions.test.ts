// GET /auth/sessions and DELETE /auth/sessions/<id>, against the real daemon: one's own, and nobody else's.

import t from 'tap'

import { NOW } from '../../fixtures/clock.ts'
import {
  type Answer,
  bearer,
  bytesOf,
  JSON_TYPE,
  PASSWORD,
  startTestDaemon,
  V1,
} from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const PATH = `${V1}/auth/sessions`
const list = async (token: string): Promise<Record<string, unknown>[]> => {
  const answer = await daemon.ask(PATH, { headers: bearer(token) })
  return (answer.json() as { sessions: Record<string, unknown>[] }).sessions
}
const end = (token: string, id: unknown): Promise<Answer> =>
  daemon.ask(`${PATH}/${String(id)}`, { method: 'DELETE', headers: bearer(token) })
const sidOf = (token: string): unknown => daemon.claimsOf(token)['sid']

void t.test('a user sees their own logins, and which one asks', async (t) => {
  const answer = await daemon.ask(`${V1}/auth/login`, {
    headers: { ...JSON_TYPE, 'User-Agent': 'Soft\tphone/1', 'X-Real-IP': '2001:db8::7' },
    body: JSON.stringify({ username: '202', password: PASSWORD }),
  })
  const one = String(answer.json()['access_token'])
  const two = await daemon.mikopbx('202')
  await daemon.softphone('201')
  const found = await list(one)
  t.equal(found.length, 2, 'nobody else’s')
  const own = found.find(({ id }) => id === sidOf(one))
  t.same(own, {
    id: sidOf(one),
    username: '202',
    dialect: 'softphone',
    created_at: NOW,
    expires_at: NOW + 30 * 86_400,
    last_seen_at: NOW,
    address: '2001:db8::7',
    agent: 'Soft?phone/1',
    subscriptions: [],
    current: true,
  })
  t.match(
    found.find(({ id }) => id === sidOf(two.access)),
    { dialect: 'mikopbx', current: false },
  )
  t.notMatch(JSON.stringify(found), /hash|credential|token/)
})

void t.test('one of them can be ended, and its token opens nothing any more', async (t) => {
  const [one, two] = [await daemon.softphone('202'), await daemon.softphone('202')]
  const answer = await end(one.access, sidOf(two.access))
  t.equal(answer.status, 200)
  t.match(answer.json(), { success: true, message: 'Session ended' })
  t.equal((await daemon.check(two.access)).header('x-auth-reason'), 'session_ended')
  t.equal((await daemon.check(one.access)).status, 204)
  t.equal((await end(one.access, sidOf(one.access))).status, 200, 'also the one that asks')
  t.equal((await end(one.access, sidOf(one.access))).status, 401)
})

void t.test(
  'another’s session, one that is over and one that never was are the same to say',
  async (t) => {
    const [own, over, other] = [
      await daemon.softphone('202'),
      await daemon.softphone('202'),
      await daemon.softphone('201'),
    ]
    await end(own.access, sidOf(over.access))
    const answers = new Set<string>()
    for (const id of [sidOf(other.access), sidOf(over.access), 'never', 'x'.repeat(64)]) {
      const answer = await end(own.access, id)
      t.equal(answer.status, 404)
      answers.add(bytesOf(answer))
    }
    t.equal(answers.size, 1)
    t.equal((await daemon.check(other.access)).status, 204)
  },
)

void t.test('without a good token nothing is listed or ended', async (t) => {
  const { access, refresh } = await daemon.softphone()
  t.equal((await daemon.ask(PATH)).status, 401)
  t.equal((await daemon.ask(PATH, { headers: bearer(refresh) })).status, 403)
  t.equal((await end('x', sidOf(access))).status, 401)
  t.equal((await end(refresh, sidOf(access))).status, 403)
  const cookie = { Cookie: `postern=${access}`, 'Sec-Fetch-Site': 'cross-site' }
  const forged = await daemon.ask(`${PATH}/${String(sidOf(access))}`, {
    method: 'DELETE',
    headers: cookie,
  })
  t.equal(forged.status, 403, 'from another site')
  t.equal((await daemon.check(access)).status, 204)
  for (const method of ['GET', 'POST']) {
    const answer = await daemon.ask(`${PATH}/x`, { method, headers: bearer(access) })
    t.equal(answer.status, 405)
    t.equal(answer.header('allow'), 'DELETE')
  }
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
