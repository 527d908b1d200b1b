// A user's own sessions with what listens in them, and the end of one: nobody else's.

import t from 'tap'

import { bearer, startTestDaemon, V1 } from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const PATH = `${V1}/auth/sessions`
const end = (id: string, token: string) =>
  daemon.ask(`${PATH}/${id}`, { method: 'DELETE', headers: bearer(token) })
const sidOf = (token: string): string => String(daemon.claimsOf(token)['sid'])
interface Listed {
  id: string
  username: string
  current: boolean
  subscriptions: unknown[]
}
const list = async (token: string): Promise<Listed[]> => {
  const answer = await daemon.ask(PATH, { headers: bearer(token) })
  t.equal(answer.status, 200)
  return (answer.json() as { sessions: Listed[] }).sessions
}

void t.test('a user sees their own sessions, and what listens in them', async (t) => {
  const [first, second, other] = [
    await daemon.softphone(),
    await daemon.mikopbx(),
    await daemon.softphone('202'),
  ]
  const listens = {
    'X-Auth-Accept': 'header',
    'X-Auth-Action': 'subscribe',
    resource: 'users-state',
  }
  t.equal((await daemon.check(first.access, listens)).status, 204)
  const sessions = await list(second.access)
  t.same(
    new Set(sessions.map(({ id }) => id)),
    new Set([sidOf(first.access), sidOf(second.access)]),
  )
  t.ok(sessions.every(({ username }) => username === '201'))
  const of = (token: string) => sessions.find(({ id }) => id === sidOf(token))
  t.match(of(first.access), {
    dialect: 'softphone',
    current: false,
    address: '192.0.2.1',
    subscriptions: [{ resource: 'users-state', address: '192.0.2.1' }],
  })
  t.match(of(second.access), { dialect: 'mikopbx', current: true, subscriptions: [] })
  t.notMatch(JSON.stringify(sessions), /kick-|credential|eyJ/)
  t.same(
    (await list(other.access)).map(({ id }) => id),
    [sidOf(other.access)],
  )
})

void t.test('one of them ends by its id, and its tokens with it', async (t) => {
  const [here, there] = [await daemon.softphone(), await daemon.softphone()]
  const answer = await end(sidOf(there.access), here.access)
  t.equal(answer.status, 200)
  t.same(answer.json(), { success: true, message: 'Session ended' })
  t.equal((await daemon.check(there.access)).status, 401)
  t.equal((await daemon.check(here.access)).status, 204)
  t.match(await daemon.securityLog(), /\[SESSION_ENDED\] user \|.*User: 201/)
  t.equal((await end(sidOf(there.access), here.access)).status, 404, 'once is enough')
  t.equal((await end(sidOf(here.access), here.access)).status, 200, 'also this one')
  t.equal((await daemon.check(here.access)).status, 401)
})

void t.test("another user's is as unknown as none", async (t) => {
  const [mine, other] = [await daemon.softphone(), await daemon.softphone('202')]
  const [theirs, none] = [
    await end(sidOf(other.access), mine.access),
    await end('no-such-session', mine.access),
  ]
  t.same([theirs.status, none.status], [404, 404])
  t.equal(theirs.body, none.body)
  t.equal((await daemon.check(other.access)).status, 204)
})

void t.test('without a good token of their own nobody sees or ends anything', async (t) => {
  const { access, refresh } = await daemon.softphone()
  for (const [headers, status] of [
    [{}, 401],
    [bearer('x'), 401],
    [bearer(refresh), 403],
  ] as const) {
    const id = sidOf(access)
    t.equal((await daemon.ask(PATH, { headers })).status, status)
    t.equal((await daemon.ask(`${PATH}/${id}`, { method: 'DELETE', headers })).status, status)
  }
  t.equal((await daemon.check(access)).status, 204)
  t.same(await daemon.leaks(), [])
})
