// What nginx writes down: enough to see why somebody was refused, and never a token.
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { readdirSync, readFileSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'

import { parseNginxDump, walk } from '../../src/doctor/nginx-config.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startApplication } from './application.ts'
import { type Ask, ask, RECORDINGS, SIP, V1, V3 } from './ask.ts'
import { type Daemon, PASS, pass, refuse, startDaemon } from './daemon.ts'
import { readmeSite } from './readme-site.ts'

const SHIPPED = join(import.meta.dirname, '..', '..', 'nginx')

// No signature of anything: shaped like a token, and easily found.
const TOKEN = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIyMDEifQ.LEAKED-signature'
const ENCODED = TOKEN.replaceAll('.', '%2E')

/** Seconds that the workers of this nginx have been running on a processor. */
const workerSeconds = (master: number): number =>
  readFileSync(`/proc/${master}/task/${master}/children`, 'utf8')
    .trim()
    .split(' ')
    .map((pid) => readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [])
    .reduce((sum, fields) => sum + (Number(fields[11]) + Number(fields[12])) / 100, 0)

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
    const paths = [
      `/${TOKEN}`,
      `/x/${TOKEN}?x=1`,
      `/${TOKEN}?token=a`,
      `/${TOKEN}#x`,
      `/x#${TOKEN}`,
    ]
    paths.push(`/x#token=LEAKED`, `/x#?ticket=LEAKED`, `/x?y#LEAKED&secret=1`)
    for (const path of paths) await get(path)
    t.notMatch(nginx.accessLog(), /LEAKED|eyJ/)
    t.equal(lines().length, queries.length * 15 + 1 + paths.length)
    t.match(nginx.accessLog(), `"GET ${V1}/sub/users-state?[masked] HTTP/1.1" 401 `)
    t.match(nginx.accessLog(), `"${nginx.url}/phone?[masked]" `)
  })

  void t.test('a query without a credential stays readable', async (t) => {
    daemon.answer = () => refuse(401, 'no_credential')
    await get(`${V1}/sub/users-state?last_event_id=17:0&x=%20`)
    t.match(lines().at(-1), `${V1}/sub/users-state?last_event_id=17:0&x=%20 HTTP/1.1"`)
    await get(`${RECORDINGS}/keyJohn.mp3`)
    t.match(lines().at(-1), `${RECORDINGS}/keyJohn.mp3 HTTP/1.1"`)
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

  void t.test('a file that is not there, and a refusal, are no errors', async (t) => {
    const before = nginx.errorLog()
    for (const answer of [pass, () => refuse(401, 'expired'), () => refuse(403, 'no_grant')]) {
      daemon.answer = answer
      await get(`${RECORDINGS}/none.mp3`)
    }
    t.equal(nginx.errorLog(), before)
  })
})

void t.test('no line that a client can send costs much', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  // Whoever passes has the cookies read too, for an application that is away.
  const nginx = await startNginx(t, { postern: daemon.socket, app: 'unix:/none.sock' })
  await ask(nginx.port, '/') // the port accepts before there are workers
  const SIZE = 7_800 // nginx takes a line of 8 KiB
  const filled = (part: string): string => part.repeat(Math.ceil(SIZE / part.length)).slice(0, SIZE)
  /** Seconds of the workers' own time for fifty requests. */
  const cost = async (path: string, headers: Record<string, string> = {}): Promise<number> => {
    const before = workerSeconds(nginx.pid)
    for (let time = 0; time < 50; time++) await ask(nginx.port, path, { headers })
    return workerSeconds(nginx.pid) - before
  }
  const rows: [what: string, path: string, headers?: Record<string, string>][] = [
    ['tokens that do not end in the path', `/${filled('eyJ')}`],
    ['such tokens before a query', `/${filled('eyJ')}?x=1`],
    ['tokens that are too short', `/${filled('eyJ.')}`],
    ['beginnings in a query', `/?${filled('toke')}`],
    ['parts of a query', `/?${filled('a&')}`],
    ['names of a query', `/?${filled('&a=')}`],
    ['marks', `/${filled('?#')}`],
    ['a long name', `${RECORDINGS}/${filled('a')}!`],
    ['a deep path', `${RECORDINGS}/${filled('a/')}!`],
    ['a deep path of the API', `${V3}/${filled('a:')}!`],
    ['a Referer', '/', { Referer: filled('eyJ') }],
    ['a Referer with a query', '/', { Referer: `/?${filled('toke')}` }],
    ['cookies', '/app/x', { Cookie: filled(';') }],
    ['cookies of ours without a value', '/app/x', { Cookie: filled('; postern ') }],
    ['cookies of ours', '/app/x', { Cookie: filled('postern=;') }],
    ['cookies of blanks', '/app/x', { Cookie: `;${filled(' ')}postern` }],
    ['a blank after a name of ours', '/app/x', { Cookie: `postern${filled(' ')}x` }],
    ['an Origin', '/', { Origin: filled('a'), 'Access-Control-Request-Method': filled('A') }],
  ]
  for (const [what, path, headers] of rows) {
    const took = await cost(path, headers)
    // A quadratic pattern took half a second and more, and all of these take less than a tenth.
    t.ok(took < 0.25, `${what}: ${took} s`)
  }
})

/** Locations of the shipped files that serve anything to a client, each with its lines and those around it. */
const serving = readdirSync(SHIPPED)
  .filter((name) => !['site.example.conf', 'postern-local.conf'].includes(name))
  .flatMap((name) => {
    const text = readFileSync(join(SHIPPED, name), 'utf8')
    const whole = name === 'postern-subscribe.conf' ? `location @x {${text}}` : text // a location's lines
    return parseNginxDump(`# configuration file ${name}:\n${whole}`)
  })
  .flatMap((directive) => Array.from(walk([directive])))
  .filter(({ directive }) =>
    /^(?:proxy_pass|alias|try_files|nchan_subscriber|nchan_publisher|return)$/.test(directive.name),
  )
  // The preflight of postern-protect.conf is in a location of the site's.
  .filter(({ around }) => around.some(({ name }) => name === 'location'))
  .map(({ directive, around }) => ({ where: `${directive.file}:${directive.line}`, around }))

void t.test('no location that a client reaches writes an error line', (t) => {
  const PRIVATE = /^postern-(?:kick|pass-on|passed-on)\.conf/ // between daemon and nginx, and among nginx hosts
  for (const { where, around } of serving) {
    const lines = around.flatMap(({ block = [] }) => block)
    const internal = lines.some(({ name }) => name === 'internal')
    if (internal || PRIVATE.test(where)) continue
    t.ok(
      lines.some(({ name, args }) => name === 'error_log' && args.join(' ') === '/dev/null emerg'),
      where,
    )
  }
  t.ok(serving.length > 10)
  t.end()
})

void t.test('whatever goes wrong, no log has a credential', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.mp3': 'sound' })
  symlinkSync('loop.mp3', join(recordings, 'loop.mp3')) // which no user may read, root included
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    recordings,
    pbx: 'unix:/none.sock',
    asterisk: 'unix:/none.sock',
  })
  const logs = (): string =>
    readdirSync(nginx.folder)
      .filter((name) => name.endsWith('.log'))
      .map((name) => readFileSync(join(nginx.folder, name), 'utf8'))
      .join('\n')
  const lines = (): number => nginx.accessLog().split('\n').length - 1
  const TOKEN_PATHS = [
    `${V1}/auth/login`,
    `${V1}/auth/sessions`,
    `${V1}/profile`,
    `${V3}/auth:login`,
    `${V3}/auth:refresh`,
    '/.well-known/jwks.json',
  ]
  const CHECKED = [
    `${V1}/sub/users-state`,
    `${V1}/sub/me/users-state`,
    `${V3}/extensions`,
    `${RECORDINGS}/a.mp3`,
    `${RECORDINGS}/loop.mp3`,
    SIP,
  ]
  const PATHS = [...TOKEN_PATHS, ...CHECKED, `${V1}/pub/users-state`, `${V1}/sub/Bad`]
  const big = Buffer.alloc(70_000, 0x20)
  const attempts = async (paths: readonly string[]): Promise<void> => {
    const before = lines()
    const asked = paths.flatMap((path) =>
      ['authorization', 'token', 'ticket'].flatMap((name) => {
        const query = `?${name}=${TOKEN}`
        const headers = { Referer: `${nginx.url}/phone${query}` }
        return [ask(nginx.port, `${path}${query}`, { headers }), ask(nginx.port, path, { headers })]
      }),
    )
    await Promise.all(asked)
    await written(() => lines() >= before + asked.length)
  }
  const days: [what: string, answer: Daemon['answer'], paths: readonly string[]][] = [
    ['refuses', () => refuse(401, 'expired'), PATHS],
    ['forbids', () => refuse(403, 'no_grant'), PATHS],
    ['cuts', () => 'cut', PATHS],
    ['cannot decide', () => ({ status: 503 }), PATHS],
    ['answers what it never does', () => ({ status: 302, headers: { Location: '/' } }), PATHS],
    // A stream that passes would stay open.
    ['passes', pass, PATHS.filter((path) => !path.includes('/sub/'))],
    ['names no channel', () => PASS, CHECKED],
    ['hangs', () => 'hang', CHECKED],
  ]
  for (const [what, answer, paths] of days) {
    daemon.answer = answer
    await attempts(paths)
    t.notMatch(logs(), /LEAKED|eyJ/, `the daemon ${what}`)
  }
  const rude: [what: string, path: string, options: Ask][] = [
    ['too much', `${V1}/profile`, { body: big }],
    ['too much for the other API', `${V3}/auth:refresh`, { body: big }],
    ['too often', `${V1}/auth/login`, { body: '{}' }],
    ['publishing by another verb', `${V1}/pub/users-state`, { method: 'PUT' }],
    ['another verb on a stream', `${V1}/sub/users-state`, { method: 'DELETE' }],
  ]
  daemon.answer = pass
  for (const [what, path, options] of rude) {
    const before = lines()
    const times = what === 'too often' ? 40 : 1
    await Promise.all(
      Array.from({ length: times }, () => ask(nginx.port, `${path}?token=${TOKEN}`, options)),
    )
    await written(() => lines() >= before + times)
    t.notMatch(logs(), /LEAKED|eyJ/, what)
  }
  await daemon.stop()
  await attempts(PATHS)
  t.notMatch(logs(), /LEAKED|eyJ/, 'the daemon is away')
  t.match(nginx.accessLog(), / 503 .* check=502 /, 'the access log tells')
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
