// GET /check-media-access of the softphone dialect, against the real daemon: whether a token is a good access
// token, and never more than that.

import t from 'tap'

import { type Answer, bearer, startTestDaemon, V1 } from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const ask = (headers: Record<string, string>): Promise<Answer> =>
  daemon.ask(`${V1}/check-media-access`, { headers })

void t.test('a good access token is a 200 that says nothing else', async (t) => {
  const { access } = await daemon.softphone()
  const answer = await ask(bearer(access))
  t.equal(answer.status, 200)
  t.same(answer.json(), { success: true })
  t.notMatch(answer.lines.join('\n'), /^x-auth/im)
})

void t.test('a refresh token does not pass, in no transport', async (t) => {
  const { refresh } = await daemon.softphone()
  t.equal((await ask(bearer(refresh))).status, 401)
  t.equal((await ask({ Cookie: `refreshToken=${refresh}` })).status, 401)
  t.equal(
    (await daemon.ask(`${V1}/check-media-access?authorization=${refresh}`)).status,
    401,
    'nor does the query count here',
  )
})

void t.test('anything else is a 401', async (t) => {
  const none = await ask({})
  t.equal(none.status, 401)
  t.equal(none.header('www-authenticate'), 'Bearer realm="postern"')
  t.match(none.json(), { success: false, error: 'Unauthorized', timestamp: Number })
  const { access } = await daemon.softphone()
  await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(access) })
  const ended = await ask(bearer(access))
  t.equal(ended.status, 401)
  t.equal(ended.header('www-authenticate'), 'Bearer realm="postern", error="invalid_token"')
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
