// What nginx writes down: enough to see why somebody was refused, and never a token.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startApplication } from './application.ts'
import { ask, RECORDINGS, SIP, V1, V3 } from './ask.ts'
import { PASS, pass, refuse, startDaemon } from './daemon.ts'
import { readmeSite } from './readme-site.ts'

// No signature of anything: shaped like a token, and easily found.
const TOKEN = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyMDEifQ.LEAKED-signature'
const ENCODED = TOKEN.replaceAll('.', '%2E')

/** nginx writes a line after its answer is gone; two workers, in any order. */
const written = async (holds: () => boolean): Promise<void> => {
  for (let time = 0; time < 250 && !holds(); time++) await delay(20)
}

void t.test('the logs', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.mp3': 'sound' })
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket, recordings })
  const lines = () => nginx.accessLog().split('\n').slice(0, -1)
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const before = lines().length
    const reply = await ask(nginx.port, path, { headers })
    await written(() => lines().length > before)
    return reply
  }

  void t.test('no spelling of a token in a query reaches the access log', async (t) => {
    daemon.answer = () => refuse(401, 'expired')
    const queries = [
      `authorization=${TOKEN}`,
      `authorization=Bearer%20${TOKEN}`,
      `authorization=Bearer+${TOKEN}`,
      `token=${TOKEN}`,
      `ticket=${TOKEN}`,
      `TOKEN=${TOKEN}`,
      `x=1&token=${TOKEN}&y=2`,
      `token=a&token=${TOKEN}&ticket=${TOKEN}`,
      `to%6ben=${ENCODED}`,
      `x=1&%74oken=${ENCODED}`,
      `token[]=${TOKEN}`,
      `x=1;token=${TOKEN}`,
      `token=a?token=${TOKEN}`,
      `access_token=${TOKEN}`,
      `unheard=${TOKEN}`,
      TOKEN,
      `?token=LEAKED`,
      `ticket=LEAKED`,
      `tic%6bet=LEAKED`,
    ]
    for (const query of queries)
      for (const path of [
        `${V1}/sub/users-state`,
        SIP,
        `${RECORDINGS}/a.mp3`,
        `${V1}/profile`,
        '/none',
      ]) {
        await get(`${path}?${query}`)
        await get(path, { Referer: `${nginx.url}/phone?${query}` })
        await get(path, { Referer: `${nginx.url}/phone#${query}` })
      }
    await get(`${V1}/sub/users-state%3Ftoken=${TOKEN}`)
    await get(`/${TOKEN}`)
    t.notMatch(nginx.accessLog(), /LEAKED|eyJ/)
    t.equal(lines().length, queries.length * 15 + 2)
    t.match(nginx.accessLog(), `"GET ${V1}/sub/users-state?[masked] HTTP/1.1" 401 `)
    t.match(nginx.accessLog(), `"${nginx.url}/phone?[masked]" `)
  })

  void t.test('a query without a credential stays readable', async (t) => {
    daemon.answer = () => refuse(401, 'no_credential')
    await get(`${V1}/sub/users-state?last_event_id=17:0&x=%20`)
    t.match(lines().at(-1), `${V1}/sub/users-state?last_event_id=17:0&x=%20 HTTP/1.1"`)
  })

  void t.test('a line says who it was, or why not', async (t) => {
    daemon.answer = pass
    await get(`${RECORDINGS}/a.mp3`)
    t.match(lines().at(-1), /^127\.0\.0\.1 - 201 \[.*\] ".*" 200 5 "-" "-" check=204 reason= /)
    daemon.answer = () => refuse(403, 'no_grant')
    await get(`${RECORDINGS}/a.mp3`)
    t.match(
      lines().at(-1),
      /^127\.0\.0\.1 - - \[.*\] ".*" 403 \d+ "-" "-" check=403 reason=no_grant /,
    )
  })

  void t.test('a name cannot end its line', async (t) => {
    daemon.answer = () => ({ ...PASS, headers: { ...PASS.headers, 'X-Auth-User': 'a" 200 \tb' } })
    const before = lines().length
    await get(`${RECORDINGS}/a.mp3`, { 'User-Agent': 'x" check=204' })
    t.equal(lines().length, before + 1)
    t.match(lines().at(-1), String.raw`- a\x22 200 \x09b [`)
    t.match(lines().at(-1), String.raw`"x\x22 check=204"`)
  })

  void t.test('where a query may hold a token the error log stays silent', async (t) => {
    await daemon.stop()
    for (const path of [`${V1}/sub/users-state`, SIP])
      for (const name of ['authorization', 'token', 'ticket']) {
        const reply = await get(`${path}?${name}=${TOKEN}`, {
          Referer: `${nginx.url}/?token=${TOKEN}`,
        })
        t.equal(reply.status, 503)
      }
    t.match(lines().at(-1), / check=502 /, 'the access log tells')
    t.notMatch(nginx.errorLog(), /LEAKED/)
    // Elsewhere a query is no credential. nginx shows it there, and no setting could mask it.
    await get(`${RECORDINGS}/a.mp3?x=1`)
    t.match(nginx.errorLog(), /a\.mp3\?x=1/)
    await daemon.listen()
  })

  void t.test('a file that is not there, and a refusal, are no errors', async (t) => {
    const before = nginx.errorLog()
    for (const answer of [pass, () => refuse(401, 'expired'), () => refuse(403, 'no_grant')]) {
      daemon.answer = answer
      await get(`${RECORDINGS}/none.mp3`)
    }
    t.equal(nginx.errorLog(), before)
  })
})

void t.test(
  "README's site of one's own logs no credential",
  { skip: nginxMissing() },
  async (t) => {
    const daemon = await startDaemon(t)
    // Away, nginx's error line would show a query, in words that no setting changes.
    const app = await startApplication(t)
    const nginx = await startNginx(t, {
      postern: daemon.socket,
      recordings: t.testdir({ 'a.mp3': 'sound' }),
      app,
      pbx: app,
      asterisk: app,
      // All of our example.
      site: [[/^[^]*$/, readmeSite()]],
    })
    const paths = [
      `${V1}/sub/users-state`,
      `${V1}/sub/Bad`,
      `${V1}/profile`,
      `${V3}/extensions`,
      `${V3}/auth:refresh`,
      `${RECORDINGS}/a.mp3`,
      `${RECORDINGS}/none.mp3`,
      SIP,
      '/app/x',
      '/.well-known/jwks.json',
    ]
    let count = 0
    for (const answer of [pass, () => refuse(401, 'expired'), () => refuse(403, 'no_grant')]) {
      daemon.answer = answer
      for (const path of paths)
        for (const name of ['authorization', 'token', 'ticket']) {
          // A stream would stay open: of one that passes only the OPTIONS.
          const query = `?${name}=${TOKEN}`
          const stream = path.includes('/sub/') && answer === pass
          await ask(nginx.port, `${path}${query}`, {
            headers: { Referer: `${nginx.url}/phone${query}` },
            ...(stream && { method: 'OPTIONS' }),
          })
          count++
        }
    }
    await until('all is logged', () => nginx.accessLog().split('\n').length > count)
    const logs = readdirSync(nginx.folder).filter((name) => name.endsWith('.log'))
    t.ok(logs.length >= 3, logs.join())
    for (const name of logs)
      t.notMatch(readFileSync(join(nginx.folder, name), 'utf8'), /LEAKED|eyJ/, name)
  },
)
