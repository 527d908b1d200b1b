// A refusal that is given before the body is there, through nginx: the client sees the refusal, never "try again".
import t from 'tap'

import { startTestDaemon } from '../fixtures/daemon.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, V1, V3 } from './ask.ts'

const EACH = 150 // of one that was refused at once, 2 to 9 in 100 became a 503

void t.test('no refusal becomes a 503', { skip: nginxMissing() }, async (t) => {
  const daemon = await startTestDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket })
  const body = 'x'.repeat(60_000)
  const json = { 'Content-Type': 'application/json' }
  const foreign = { ...json, 'Sec-Fetch-Site': 'cross-site', Cookie: 'refreshToken=x' }
  const rows = [
    ['nobody’s path', `${V1}/nobody`, 'POST', json, 404],
    ['another method', `${V1}/auth/refresh`, 'PUT', json, 405],
    ['a logout', `${V1}/auth/logout`, 'POST', json, 401],
    ['a logout by another site', `${V1}/auth/logout`, 'POST', foreign, 401],
    ['a refresh by another site', `${V3}/auth:refresh`, 'POST', foreign, 403],
    ['a body that is too large', `${V1}/auth/ticket`, 'POST', json, 413],
  ] as const
  for (const [what, path, method, headers, status] of rows) {
    const statuses = new Map<number, number>()
    for (let at = 0; at < EACH; at += 10) {
      const asked = Array.from({ length: 10 }, () =>
        ask(nginx.port, path, { method, headers, body }),
      )
      for (const reply of await Promise.all(asked)) {
        statuses.set(reply.status, (statuses.get(reply.status) ?? 0) + 1)
      }
    }
    t.same([...statuses], [[status, EACH]], what)
  }
})
