// Two versions on one Redis while clients go on: this tree, and a next one that writes more into its records than
// this one knows. Neither may refuse what the other allowed, nor miss what the other ended.
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import {
  bearer,
  check,
  login,
  MAIN,
  makePlace,
  type Place,
  post,
  type Tokens,
  until,
} from '../fixtures/postern.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { type Ask, type Reply, V1, V3 } from '../nginx/ask.ts'
import { type Served, serveProgram } from '../packaging/serve-program.ts'

const ROOT = join(import.meta.dirname, '../..')
const NEXT = '99.0.0'
const BOUND = 1.5 // seconds in which an end reaches every host
const LIMIT = 600_000 // milliseconds: 15 s on an idle machine, but it may be shared
const SOFTLY = 20 // milliseconds between the checks of one client

/** What the next version writes, where this one writes less. */
const CHANGES: readonly (readonly [file: string, now: string, next: string])[] = [
  [
    'store/redis/sessions.ts',
    'JSON.stringify(unchanging)',
    "JSON.stringify({ ...unchanging, device: { name: 'of the next version' } })",
  ],
]

/** This tree's sources, changed; its main.ts. */
const makeNext = (t: Test): string => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-next-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  cpSync(join(ROOT, 'src'), join(folder, 'src'), { recursive: true })
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as object
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...manifest, version: NEXT }))
  for (const [file, now, next] of CHANGES) {
    const path = join(folder, 'src', file)
    const text = readFileSync(path, 'utf8')
    if (!text.includes(now)) throw new Error(`${file} has no ${now} any more: mend CHANGES`)
    writeFileSync(path, text.replace(now, next))
  }
  return join(folder, 'src', 'main.ts')
}

interface Host {
  readonly place: Place
  /** Stops what runs there and starts that version. */
  become(main: string): Promise<void>
  version(): Promise<string>
}

const cookieOf = ({ headers }: Reply): string =>
  /refreshToken=([^;]*)/.exec(String(headers['set-cookie']))?.[1] ?? ''

void t.test('a rolling upgrade, there and back', { ...NEEDS_REDIS, timeout: LIMIT }, async (t) => {
  const redis = await startRedis(t)
  const next = makeNext(t)
  let keys = ''
  const openHost = async (): Promise<Host> => {
    const place = makePlace(t, {
      store: `url = "${redis.socketUrl}"\ntimeout = 2`, // a busy machine is no outage
      subscriptions: 'nginx = "one"',
      // A login that is cut off by a slow Redis counts as a failure for a while.
      throttle: 'pair_failures = 1000000\naddress_failures = 1000000\naccount_failures = 1000000',
      sessions: 'per_user = 0', // the clients below log in as one user, again and again
    })
    if (keys !== '') {
      mkdirSync(place.at('state'), { mode: 0o700 })
      writeFileSync(place.at('state', 'keys.json'), keys, { mode: 0o600 })
    }
    let served: Served | undefined
    const host: Host = {
      place,
      async become(main) {
        await served?.stop()
        served = await serveProgram(t, place, [process.execPath, main])
      },
      async version() {
        const { body } = await place.operator('/metrics')
        return /^postern_build_info\{.*version="([^"]+)"/m.exec(body)?.[1] ?? ''
      },
    }
    await host.become(MAIN)
    keys ||= readFileSync(place.at('state', 'keys.json'), 'utf8')
    return host
  }
  const [a, b] = [await openHost(), await openHost()]
  const now = await a.version()

  // As nginx does it: a host that does not listen is left out.
  let turn = 0
  const anywhere = async (path: string, options: Ask = {}): Promise<Reply> => {
    const hosts = turn++ % 2 === 0 ? [a, b] : [b, a]
    for (let tries = 0; ; tries++) {
      try {
        return await (hosts[tries % 2] ?? a).place.ask(path, options)
      } catch (error) {
        if (tries > 200) throw error
        await pause(SOFTLY)
      }
    }
  }
  const enter = async (ask: Place['ask']): Promise<Tokens> => {
    const reply = await ask(`${V3}/auth:login`, {
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: 'login=201&password=correct+horse',
    })
    const { accessToken } = JSON.parse(reply.body) as { accessToken: string }
    return { access: accessToken, refresh: cookieOf(reply) }
  }
  const rotate = (ask: Place['ask'], token: string): Promise<Reply> =>
    ask(`${V3}/auth:refresh`, { method: 'POST', headers: { Cookie: `refreshToken=${token}` } })
  const refresh = (ask: Place['ask'], token: string): Promise<Reply> =>
    ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(token) })

  // ---- clients that go on all the while
  const answered: Record<string, number> = {}
  const note = (what: string, answer: string | number): void => {
    answered[`${what} ${answer}`] = (answered[`${what} ${answer}`] ?? 0) + 1
  }
  const over = new AbortController()
  const listener = async (): Promise<void> => {
    const { access } = await login(anywhere)
    while (!over.signal.aborted) {
      note('check', await check({ ask: anywhere }, access))
      await pause(SOFTLY)
    }
  }
  const phone = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const { refresh: token } = await login(anywhere)
      for (let time = 0; time < 3; time++) {
        const reply = await refresh(anywhere, token)
        note('refresh', reply.status)
        const body = JSON.parse(reply.body) as Record<string, string>
        note('check', await check({ ask: anywhere }, String(body['access_token'])))
        await pause(SOFTLY)
      }
    }
  }
  const page = async (): Promise<void> => {
    let { refresh: token } = await enter(anywhere)
    while (!over.signal.aborted) {
      const reply = await rotate(anywhere, token)
      note('rotate', reply.status)
      token = cookieOf(reply)
      await pause(SOFTLY)
    }
  }
  const visitor = async (): Promise<void> => {
    while (!over.signal.aborted) {
      const { access } = await login(anywhere)
      note('logout', await post({ ask: anywhere }, '/auth/logout', access))
      await pause(BOUND * 1000)
      note('check after logout', await check({ ask: anywhere }, access))
    }
  }
  const clients = Promise.all([listener(), listener(), phone(), page(), visitor()])

  /** Each reads what the other wrote. */
  const understand = async (t: Test, one: Host, two: Host): Promise<void> => {
    for (const [from, to] of [
      [one.place, two.place],
      [two.place, one.place],
    ] as const) {
      const softphone = await login(from.ask)
      t.equal(await check(to, softphone.access), '204')
      t.equal((await refresh(to.ask, softphone.refresh)).status, 200)
      const first = await enter(from.ask)
      const second = await rotate(to.ask, first.refresh)
      t.equal(second.status, 200)
      t.equal((await rotate(from.ask, cookieOf(second))).status, 200, 'and back')
      t.equal(cookieOf(await rotate(from.ask, first.refresh)), '', 'two back is a reuse')
      await until('the reuse is known', async () => (await check(to, first.access)) !== '204')
      t.equal(await post(to, '/auth/logout', softphone.access), 200)
      await until(
        'the logout is known',
        async () => (await check(from, softphone.access)) !== '204',
      )
      t.equal(await check(from, softphone.access), '401 session_ended')
    }
  }

  await t.test('one of two is upgraded', async (t) => {
    await b.become(next)
    t.equal(await b.version(), NEXT)
    t.equal(await a.version(), now)
    await understand(t, a, b)
    const [key = ''] = redis.cli('--scan', '--pattern', 'postern:*:s:*').split('\n')
    t.ok(key)
    const records = redis
      .cli('--scan', '--pattern', 'postern:*:s:*')
      .split('\n')
      .map((key) => redis.cli('hget', key, 'd'))
    t.ok(
      records.some((record) => record.includes('of the next version')),
      'with its own fields',
    )
    t.ok(records.some((record) => !record.includes('of the next version')))
  })
  await t.test('both are upgraded', async (t) => {
    await a.become(next)
    t.equal(await a.version(), NEXT)
    await understand(t, a, b)
  })
  await t.test('and the first one goes back', async (t) => {
    await a.become(MAIN)
    t.equal(await a.version(), now)
    await understand(t, a, b)
  })

  over.abort()
  await clients
  t.same(
    Object.keys(answered).sort(),
    [
      'check 204',
      'check after logout 401 session_ended',
      'logout 200',
      'refresh 200',
      'rotate 200',
    ],
    JSON.stringify(answered),
  )
  t.comment(JSON.stringify(answered))
})
