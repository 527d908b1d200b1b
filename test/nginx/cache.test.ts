// A cache of the site's own, for all of http {}: it must never hold a decision, a token, or what one user was shown.
import t from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startApplication, type Seen } from './application.ts'
import { ask, RECORDINGS, SIP, V1, V3 } from './ask.ts'
import { kickId, open, PASS, refuse, startDaemon } from './daemon.ts'
import { eventSource } from './listen.ts'

void t.test('a site that caches whatever it proxies', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    recordings: t.testdir({ 'a.mp3': 'sound' }),
    pbx: app,
    app,
    http: `proxy_cache_path ${t.testdirName}/cache keys_zone=site:1m;
proxy_cache site;
proxy_cache_valid any 10m;
proxy_cache_use_stale error timeout http_500 http_503;
proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;`,
  })
  const get = (path: string, user: string) =>
    ask(nginx.port, path, { headers: { Authorization: user } })
  t.beforeEach(() => {
    daemon.answer = ({ resource, headers }) =>
      resource !== undefined
        ? {
            status: 204,
            headers: { ...PASS.headers, 'X-Auth-User': String(headers.authorization) },
          }
        : { status: 200, body: String(headers.authorization) }
    daemon.asked.length = 0
  })

  void t.test('this cache works', async (t) => {
    await get('/app/public/x', '1')
    const { headers } = await get('/app/public/x', '2')
    const seen = JSON.parse((await get('/app/public/x', '2')).body) as Seen
    t.equal(seen.headers.authorization, '1', JSON.stringify(headers))
  })

  void t.test('each request is a check', async (t) => {
    for (const path of [`${RECORDINGS}/a.mp3`, `${V3}/extensions`, SIP, '/app/x']) {
      daemon.asked.length = 0
      for (let i = 0; i < 3; i++) await get(path, '1')
      t.equal(daemon.asked.length, 3, path)
    }
    daemon.answer = () => refuse(401, 'session_ended')
    t.equal((await get(`${RECORDINGS}/a.mp3`, '1')).status, 401)
    await daemon.stop()
    t.equal((await get(`${RECORDINGS}/a.mp3`, '1')).status, 503)
    await daemon.listen()
  })

  void t.test("each answer is the user's own", async (t) => {
    for (const path of [
      `${V1}/profile`,
      `${V1}/auth/sessions`,
      `${V3}/auth:refresh`,
      '/.well-known/jwks.json',
    ])
      for (const user of ['1', '2']) t.equal((await get(path, user)).body, user, path)
    for (const user of ['1', '2'])
      t.match(JSON.parse((await get(`${V3}/extensions`, user)).body), {
        headers: { 'x-auth-user': user },
      })
  })

  void t.test('each end of a stream is told', async (t) => {
    for (let i = 0; i < 3; i++) {
      const kick = kickId()
      daemon.answer = () => open('users-state', kick)
      const stream = await eventSource(t, nginx.port, 'users-state')
      stream.close()
      await until('the daemon is told', () => daemon.ended.includes(kick))
    }
  })
})
