// Who asks about themselves: by Bearer, or by the cookie of a page of ours. Against the real daemon.

import t from 'tap'

import { type Answer, type Ask, bearer, startTestDaemon, V1 } from '../../fixtures/daemon.ts'

const daemon = await startTestDaemon(t)
const { access, refresh } = await daemon.softphone()
const OWN = ['/profile', '/auth/sessions']

const ask = (path: string, headers: NonNullable<Ask['headers']>): Promise<Answer> =>
  daemon.ask(V1 + path, { headers })

for (const path of OWN) {
  void t.test(`${path} takes the header or the cookie`, async (t) => {
    const https = { 'X-Forwarded-Proto': 'https' }
    const here = { ...https, 'X-Forwarded-Host': 'pbx.example' }
    const secure = { Cookie: `__Host-postern=${access}` }
    const rows: [what: string, due: number, headers: NonNullable<Ask['headers']>][] = [
      ['header', 200, bearer(access)],
      ['plain cookie', 200, { Cookie: `postern=${access}` }],
      ['secure cookie', 200, { ...https, ...secure }],
      ['secure cookie of ours', 200, { ...here, ...secure, Origin: 'https://pbx.example' }],
      ['another site’s page', 403, { ...here, ...secure, Origin: 'https://evil.example' }],
      ['another site’s fetch', 403, { ...https, ...secure, 'Sec-Fetch-Site': 'cross-site' }],
      ['secure cookie on http', 401, secure],
      ['plain cookie on https', 401, { ...https, Cookie: `postern=${access}` }],
      ['refresh cookie', 401, { Cookie: `refreshToken=${access}` }],
      ['refresh token as cookie', 403, { Cookie: `postern=${refresh}` }],
      ['two values', 401, { Cookie: `postern=${access}; postern=x` }],
      ['bad header, good cookie', 401, { ...bearer('x'), Cookie: `postern=${access}` }],
      ['nothing', 401, {}],
    ]
    for (const [what, due, headers] of rows) {
      const answer = await ask(path, headers)
      t.equal(answer.status, due, what)
      if (due !== 200) t.match(answer.json(), { success: false, error: String }, what)
      if (due === 401) t.match(answer.header('www-authenticate'), /^Bearer /, what)
    }
  })
}

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})
