// The sources in their order, each broken at start, and a SIP account from its file to the end of its session.

import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { askDaemon } from '../../src/cli/control-client.ts'
import { systemClock } from '../../src/clock.ts'
import { loadConfig } from '../../src/config/load.ts'
import { followUsers } from '../../src/daemon/follow-users.ts'
import { type FollowedUsers, openUsers } from '../../src/daemon/open-users.ts'
import { createPasswordPool } from '../../src/passwords/pool.ts'
import type { UsersDiff } from '../../src/users/diff-users.ts'
import { answer, openCannedServer } from '../fixtures/canned-server.ts'
import { startTestDaemon } from '../fixtures/daemon.ts'
import {
  bearer,
  CHEAP,
  HASH,
  login,
  makePlace,
  PASSWORD,
  serve,
  until,
} from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { V1 } from '../nginx/ask.ts'

const SAMPLES = join(import.meta.dirname, '../fixtures', 'asterisk', 'mikopbx')
const SECRET = 'b749601f329a635a19c4a87bc359be3d' // of 201 in the samples

const setUp = (t: Test, sections: Readonly<Record<string, string>>) => {
  const place = makePlace(t, sections)
  const pool = createPasswordPool({ workers: 1, queue: 8, ...CHEAP })
  t.teardown(() => pool.close())
  const changes: [string, UsersDiff][] = []
  const problems: [string, readonly string[]][] = []
  const warnings: string[] = []
  const heldBack: [string, number][] = []
  return {
    place,
    heldBack,
    changes,
    problems,
    warnings,
    /** `late`: what happens before anybody follows. */
    async open(late?: (users: FollowedUsers) => Promise<void>) {
      const users = await openUsers(
        loadConfig(place.config),
        pool,
        (line) => void warnings.push(line),
        systemClock.every,
      )
      t.teardown(() => {
        users.close()
      })
      await late?.(users)
      users.follow({
        async onChange(source, diff) {
          changes.push([source, diff])
        },
        onProblem: (source, found) => void problems.push([source, found]),
        onHeldBack: (source, removed) => void heldBack.push([source, removed]),
      })
      return users
    },
  }
}

const samples = (t: Test): string => {
  const folder = t.testdir({ asterisk: {} })
  cpSync(SAMPLES, join(folder, 'asterisk'), { recursive: true })
  return join(folder, 'asterisk', 'pjsip.conf')
}

void t.test('the first source that knows a name decides', async (t) => {
  const pbx = samples(t)
  const server = await openCannedServer(t, [answer(200, { name: 'alice', role: 'user' })])
  const url = `http://127.0.0.1:${server.port}`
  const { open, place, problems } = setUp(t, {
    users: 'sources = ["file", "asterisk", "http"]',
    asterisk: `file = "${pbx}"\nrole = "user"`,
    http_users: `login_url = "${url}/login"\nlookup_url = "${url}/lookup"`,
  })
  place.users(`201:${HASH}:admin:From the file`)
  const users = await open()
  t.match(await users.authenticate('201', PASSWORD), { user: { role: 'admin' } })
  t.match(await users.authenticate('201', SECRET), { refused: 'wrong_password' }, 'no second try')
  t.match(await users.authenticate('alice', 'any'), { user: { name: 'alice' } })
  t.equal(users.peek('alice'), undefined, 'only asking would tell')
  t.same([...users.names()].includes('201'), true)

  place.configure({
    users: 'sources = ["asterisk", "file"]',
    asterisk: `file = "${pbx}"\nrole = "user"`,
  })
  const turned = await open()
  t.match(await turned.authenticate('201', SECRET), { user: { role: 'user' } })
  t.match(await turned.authenticate('201', PASSWORD), { refused: 'wrong_password' })
  t.match(await turned.authenticate('nobody', PASSWORD), { refused: 'unknown_user' })
  t.same(problems, [])
})

void t.test('changes and problems are told with the name of their source', async (t) => {
  const pbx = samples(t)
  const { open, place, changes, problems } = setUp(t, {
    users: 'sources = ["file", "asterisk"]',
    asterisk: `file = "${pbx}"`,
  })
  const users = await open()
  const text = readFileSync(pbx, 'utf8')
  place.users(`201:${HASH}:user:Anna`)
  writeFileSync(pbx, text.replace(SECRET, 'another-secret-0123456789'))
  await users.reread(true)
  t.match(changes.find(([source]) => source === 'file')?.[1], [{ name: '900', change: 'removed' }])
  t.match(changes.find(([source]) => source === 'asterisk')?.[1], [
    { name: '201', change: 'password' },
  ])
  place.users('broken')
  await users.reread(true)
  t.match(problems, [['file', [/users:1: /]]])
})

void t.test(
  'what happens before anybody follows is neither lost nor carried out unseen',
  async (t) => {
    const { open, place, changes, problems } = setUp(t, {})
    place.users(`201:${HASH}:user:Anna`)
    const users = await open(async (opened) => {
      place.users(`202:${HASH}:user:Bea`)
      await t.rejects(opened.reread(true), /nobody follows the users yet/)
      place.users('203:plain:user:Carl')
      await opened.reread(true)
    })
    t.match(problems, [['file', [/users:1: /]]], 'a problem is told to whoever follows')
    t.same(changes, [])
    place.users(`202:${HASH}:user:Bea`)
    await users.reread(true)
    t.match(changes, [
      [
        'file',
        [
          { name: '202', change: 'added' },
          { name: '201', change: 'removed' },
        ],
      ],
    ])
  },
)

void t.test('a service that is away is a problem of its own source', async (t) => {
  const { open, problems, place } = setUp(t, {
    users: 'sources = ["http"]',
    http_users: 'login_url = "http://127.0.0.1:1/l"\nlookup_url = "http://127.0.0.1:1/u"',
  })
  const users = await open()
  t.match(await users.authenticate('alice', 'x'), { unavailable: 'source_away' })
  t.match(problems, [['http', [/login_url/]]])

  writeFileSync(place.at('token'), ' let-me-in\n')
  const server = await openCannedServer(t, [answer(200, { name: 'alice', role: 'user' })])
  place.configure({
    users: 'sources = ["http"]',
    http_users: [
      `login_url = "http://127.0.0.1:${server.port}/l"`,
      `lookup_url = "http://127.0.0.1:${server.port}/u"`,
      `token_file = "${place.at('token')}"`,
    ].join('\n'),
  })
  await (await open()).authenticate('alice', 'x')
  t.match(server.requests[0], /authorization: Bearer let-me-in\r\n/i)
})

void t.test('each source broken at start is said, and what was opened is closed', async (t) => {
  const { open, place } = setUp(t, {})
  place.users('broken')
  await t.rejects(open(), { name: 'ConfigError', problems: [/users:1: /] })
  place.users(`201:${HASH}:user`)
  const rows: [sections: Record<string, string>, problem: RegExp][] = [
    [{ users: 'sources = ["file", "asterisk"]', asterisk: 'file = "/nowhere.conf"' }, /nowhere/],
    [
      {
        users: 'sources = ["file", "http"]',
        http_users:
          'login_url = "https://x/l"\nlookup_url = "https://x/u"\ntoken_file = "/nowhere"',
      },
      /^http_users\.token_file: .*\/nowhere cannot be read \(ENOENT\)/,
    ],
    [
      {
        users: 'sources = ["file", "http"]',
        http_users: 'login_url = "https://x/l"\nlookup_url = "https://x/u"\nca_file = "/nowhere"',
      },
      /^http_users\.ca_file: cannot be read \(ENOENT\)/,
    ],
  ]
  for (const [sections, problem] of rows) {
    place.configure(sections)
    await t.rejects(open(), { name: 'ConfigError', problems: [problem] })
  }
})

void t.test('a SIP account logs in, and is out when its file says so', async (t) => {
  const pbx = samples(t)
  const place = makePlace(t, {
    users: 'sources = ["asterisk"]',
    asterisk: `file = "${pbx}"`,
  })
  await serve(t, place)
  const { access } = await login(place.ask, '201', SECRET)
  const profile = () => place.ask(`${V1}/profile`, { headers: bearer(access) })
  t.match(JSON.parse((await profile()).body), { user: { username: '201', role: 'user' } })
  await t.rejects(login(place.ask, '201', 'wrong'), /401/)

  const text = readFileSync(pbx, 'utf8')
  writeFileSync(pbx, text.replace(`password = ${SECRET}`, 'password ='))
  const elapsed = startStopwatch()
  await until('the session has ended', async () => (await profile()).status === 401)
  const took = elapsed().ours
  t.ok(took < 3000, `${Math.round(took)} ms`)
  await t.rejects(login(place.ask, '201', SECRET), /401/)
})

void t.test('a session belongs to the device whose secret it logged in with', async (t) => {
  const folder = t.testdir({ 'pjsip.conf': '' })
  const pbx = join(folder, 'pjsip.conf')
  const device = (name: string): string =>
    `[100-${name}]\ntype=auth\nusername=100\npassword=${name}\n`
  const devices = (...names: string[]) => writeFileSync(pbx, names.map(device).join(''))
  devices('desk', 'web')
  const sections = { users: 'sources = ["asterisk"]', asterisk: `file = "${pbx}"` }
  const daemon = await startTestDaemon(t, { sections })
  const statusOf = async ({ access }: { access: string }): Promise<number> =>
    (await daemon.ask(`${V1}/profile`, { headers: bearer(access) })).status
  const desk = await daemon.softphone('100', 'desk')
  const web = await daemon.softphone('100', 'web')

  devices('desk')
  await until('the session of the web device has ended', async () => (await statusOf(web)) === 401)
  t.equal(await statusOf(desk), 200)
  t.match(
    await daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(desk.refresh) }),
    { status: 200 },
  )
  await t.rejects(daemon.softphone('100', 'web'), /401/)

  devices('desk', 'web')
  await askDaemon(daemon.controlSocket, 'POST', '/users/reload')
  const one = await daemon.softphone('100', 'web')
  const two = await daemon.softphone('100', 'desk')
  await daemon.stop()
  devices('desk')
  await daemon.start()
  t.same([await statusOf(one), await statusOf(two)], [401, 200], 'also while it was down')
})

void t.test('who is left out from this start on is logged out, as a removed user is', async (t) => {
  const account = (name: string, context: string): string =>
    `[${name}]\ntype=endpoint\ncontext=${context}\nauth=${name}\n[${name}]\ntype=auth\nusername=${name}\npassword=p\n`
  const folder = t.testdir({
    'pjsip.conf': account('201', 'office') + account('carrier', 'from-pstn'),
  })
  const asterisk = `file = "${join(folder, 'pjsip.conf')}"`
  const users = 'sources = ["asterisk"]'
  const place = makePlace(t, { users, asterisk: `${asterisk}\ntrunk_contexts = []` })
  const daemon = await serve(t, place)
  const statusOf = async ({ access }: { access: string }): Promise<number> =>
    (await place.ask(`${V1}/profile`, { headers: bearer(access) })).status
  const phone = await login(place.ask, '201', 'p')
  const trunk = await login(place.ask, 'carrier', 'p')
  t.same([await statusOf(phone), await statusOf(trunk)], [200, 200])
  await daemon.end('SIGTERM')

  place.configure({ users, asterisk })
  const next = await serve(t, place)
  t.same([await statusOf(phone), await statusOf(trunk)], [200, 401])
  await t.rejects(login(place.ask, 'carrier', 'p'), /401/)
  t.match((await place.operator('/metrics')).body, /^postern_users\{source="asterisk"\} 1$/m)
  await next.end('SIGTERM')

  place.configure({ users, asterisk: `${asterisk}\nrules = ["name * leave out"]` })
  const last = await serve(t, place)
  t.equal(await statusOf(phone), 401)
  t.match((await place.operator('/metrics')).body, /^postern_users\{source="asterisk"\} 0$/m)
  t.match(
    last
      .log()
      .map(({ msg }) => String(msg))
      .join('\n'),
    /every account is left out, 2 in all, the first since the rule "name \* leave out"[^]*most users are missing/,
    'all at once may be a mistake: who is logged in stays out, and nothing has ended',
  )
  await last.end('SIGTERM')
  place.configure({ users, asterisk })
  await serve(t, place)
  t.equal(await statusOf(phone), 200)
})

void t.test('a users file that is emptied ends nobody until it is meant', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const { access } = await daemon.softphone()
  const series = 'postern_users_held_back{source="file"}'
  t.equal(await daemon.metric(series), 0)
  const whole = readFileSync(place.at('users'))
  writeFileSync(place.at('users'), '')
  await until('it is held back', async () => (await daemon.metric(series)) > 0)
  t.equal((await daemon.check(access)).status, 204)
  const said = daemon.log().filter(({ msg }) => /would remove most users/.test(String(msg)))
  t.match(said, [{ source: 'file', removed: Number, of: Number }])
  writeFileSync(place.at('users'), whole)
  await until('it is whole again', async () => (await daemon.metric(series)) === 0)
  t.equal((await daemon.check(access)).status, 204)

  writeFileSync(place.at('users'), '')
  await askDaemon(daemon.controlSocket, 'POST', '/reload')
  t.equal((await daemon.check(access)).header('x-auth-reason'), 'session_ended')
})

void t.test('what was held back of a file is not held back once it is broken', async (t) => {
  const daemon = await startTestDaemon(t)
  const series = 'postern_users_held_back{source="file"}'
  for (const broken of ['201:not-a-hash:user', '201:not-a-hash:user']) {
    writeFileSync(daemon.place.at('users'), '')
    await until('it is held back', async () => (await daemon.metric(series)) > 0)
    writeFileSync(daemon.place.at('users'), broken)
    await until('it is broken', async () => (await daemon.metric(series)) === 0)
    t.equal(await daemon.metric('postern_users_load_success{source="file"}'), 0)
  }
})

void t.test('a start on an emptied users file ends nobody until it is meant', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const whole = readFileSync(place.at('users'), 'utf8')
  const series = 'postern_users_held_back{source="file"}'
  const said = () => daemon.log().filter(({ msg }) => /most users are missing/.test(String(msg)))
  const reason = async (access: string) =>
    (await daemon.check(access)).header('x-auth-reason') ?? 'none'
  const renew = async (refresh: string) =>
    (await daemon.ask(`${V1}/auth/refresh`, { method: 'POST', headers: bearer(refresh) })).status
  const restartOn = async (...lines: string[]) => {
    await daemon.stop()
    place.users(...lines)
    await daemon.start()
  }

  const one = await daemon.softphone()
  await restartOn('')
  t.equal(await reason(one.access), 'user_removed', 'nobody is let in')
  t.equal(await renew(one.refresh), 503, 'and nothing is over')
  t.match(said(), [{ level: 50, missing: 1, of: 1 }])
  t.equal(await daemon.metric(series), 1)
  place.users('201:not-a-hash:user')
  await until('it is broken', () => said().length > 1)
  t.equal(await daemon.metric(series), 1, 'and still missing')
  place.users(whole.trimEnd())
  await until('it is whole again', async () => (await daemon.metric(series)) === 0)
  t.equal(await reason(one.access), 'none')
  t.equal(await renew(one.refresh), 200)

  await restartOn(...Array.from({ length: 9 }, (_, n) => `70${n}:${HASH}:user`))
  await restartOn(whole.trimEnd())
  t.equal(await reason(one.access), 'session_ended', 'who alone is missing is gone')

  const two = await daemon.softphone()
  await restartOn('')
  t.equal(await renew(two.refresh), 503)
  const told = await askDaemon(daemon.controlSocket, 'POST', '/users/reload')
  t.match(told, { status: 200, body: { ended: 1 } })
  t.equal(await daemon.metric(series), 0)
  await restartOn(whole.trimEnd())
  t.equal(await reason(two.access), 'session_ended', 'it was meant')
})

void t.test('that most users are missing is said each minute, until they are found', async (t) => {
  const jobs = new Map<number, () => void>()
  const said: string[] = []
  const known = new Set<string>()
  const parts = {
    users: {
      peek: (name: string) =>
        known.has(name)
          ? { user: { name, role: 'user', displayName: '', credential: 'c' } }
          : { refused: 'unknown_user' },
      names: () => known.values(),
      follow: () => undefined,
      mayMiss: (some: boolean) => void said.push(`may miss ${some}`),
    },
    sources: ['http', 'asterisk'],
    sessions: { endAllOf: () => Promise.reject(new Error('nothing ends')) },
    store: {
      listCredentials: async () =>
        Array.from({ length: 12 }, (_, n) => ({ username: `u${n}`, credential: 'c' })),
    },
    clock: {
      now: () => 0,
      every: (seconds: number, job: () => void) => jobs.set(seconds, job),
    },
    observer: {
      usersMissing: (source: string, count: number, of: number) =>
        said.push(`${source} ${count} of ${of}`),
      usersFound: (source: string) => said.push(`${source} found`),
    },
  }
  const follower = followUsers(parts as unknown as Parameters<typeof followUsers>[0])
  jobs.get(60)?.()
  t.same(said, [])
  for (let n = 0; n < 5; n++) known.add(`u${n}`)
  await follower.endSessionsOfChangedUsers()
  jobs.get(60)?.()
  t.same(said.splice(0), ['may miss true', 'asterisk 7 of 12', 'asterisk 7 of 12'])
  for (let n = 5; n < 12; n++) known.add(`u${n}`)
  await follower.endSessionsOfChangedUsers()
  jobs.get(60)?.()
  t.same(said, ['asterisk found', 'may miss false'])
})

void t.test('one user whose end cannot be written keeps back nobody else’s', async (t) => {
  const asked: string[] = []
  const parts = {
    users: {
      peek: () => ({ refused: 'unknown_user' }),
      names: () => [].values(),
      follow: () => undefined,
      mayMiss: () => undefined,
      reread: async () => new Map(),
    },
    sources: ['http'],
    sessions: {
      async endAllOf(name: string) {
        asked.push(name)
        await Promise.resolve()
        if (asked.length < 4) throw new Error('the store is away')
        return [name]
      },
    },
    store: {
      listCredentials: async () =>
        ['u1', 'u2', 'u3'].map((username) => ({ username, credential: 'c' })),
    },
    clock: { now: () => 0, every: () => () => undefined },
    observer: { usersMissing: () => undefined, usersFound: () => undefined },
  }
  const follower = followUsers(parts as unknown as Parameters<typeof followUsers>[0])
  await follower.endSessionsOfChangedUsers()
  await t.rejects(follower.reload(true))
  t.same(asked.splice(0), ['u1', 'u2', 'u3'], 'each of them is owed')
  asked.push('', '', '')
  await follower.endSessionsOfChangedUsers()
  t.match(await follower.reload(true), { ended: 3 })
})

void t.test('a command about the users file means no change of another source', async (t) => {
  const pbx = samples(t)
  const place = makePlace(t, {
    users: 'sources = ["file", "asterisk"]',
    asterisk: `file = "${pbx}"`,
  })
  place.users(`900:${HASH}:user:Zoe`)
  await serve(t, place, { covered: true })
  const { access } = await login(place.ask, '201', SECRET)
  const status = async () => (await place.ask(`${V1}/profile`, { headers: bearer(access) })).status
  writeFileSync(pbx, '')
  await askDaemon(place.at('control.sock'), 'POST', '/users/reload')
  t.equal(await status(), 200)
  t.match(await askDaemon(place.at('control.sock'), 'POST', '/reload'), { status: 200 })
  t.equal(await status(), 401)
})

void t.test('what is held back before anybody follows is not lost', async (t) => {
  const { open, place, heldBack } = setUp(t, {})
  const users = await open(async () => {
    place.users('')
    await pause(3000)
  })
  t.match(users.peek('201'), { user: { name: '201' } })
  t.same(heldBack, [], 'it is said within a minute')
})

void t.test('a stranger costs what the hashes of the file cost', async (t) => {
  const place = makePlace(t)
  const old = '$2y$05$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzabcde'
  place.users(`201:${old}:user`, `202:${old}:user`)
  const hashed: string[] = []
  const pool = {
    hash: async () => {
      hashed.push('as configured')
      return ''
    },
    verify: async (stored: string) => {
      hashed.push(stored)
      return false
    },
  }
  const users = await openUsers(loadConfig(place.config), pool, () => undefined, systemClock.every)
  t.teardown(() => users.close())
  for (const name of ['201', 'nobody', '']) await users.authenticate(name, 'wrong')
  t.same(hashed.splice(0), [old, old, old])
  place.users('')
  await users.reread(true).catch(() => undefined) // nobody follows them
  await users.authenticate('nobody', 'wrong')
  t.same(hashed, ['as configured'], 'of an empty file there is none')
})

void t.test('what is held back before anybody follows is told later', async (t) => {
  const place = makePlace(t)
  place.configure()
  const names = Array.from({ length: 12 }, (_, index) => String(200 + index))
  place.users(...names.map((name) => `${name}:${HASH}:user`))
  const jobs: (() => unknown)[] = []
  const pool = { hash: async () => '', verify: async () => false }
  const users = await openUsers(
    loadConfig(place.config),
    pool,
    () => undefined,
    (_, job) => {
      jobs.push(job)
      return () => undefined
    },
  )
  t.teardown(() => users.close())
  place.users('')
  for (let look = 0; look < 4; look++) await Promise.all(jobs.map(async (job) => job()))
  t.equal([...users.names()].length, 12)
  let told = 0
  users.follow({
    onChange: async () => undefined,
    onProblem: () => undefined,
    onHeldBack: () => void told++,
  })
  for (let look = 0; look < 64; look++) await Promise.all(jobs.map(async (job) => job()))
  t.equal(told, 1, 'a minute later')
  t.equal([...users.names()].length, 12)
})

void t.test('without a users file a stranger costs what is configured', async (t) => {
  const place = makePlace(t)
  place.configure({ users: 'sources = ["asterisk"]', asterisk: `file = "${samples(t)}"` })
  const hashed: string[] = []
  const pool = {
    hash: async (text: string) => {
      hashed.push(text)
      return ''
    },
    verify: async () => false,
  }
  const ignore = (): undefined => undefined
  const users = await openUsers(loadConfig(place.config), pool, ignore, () => ignore)
  t.teardown(() => users.close())
  await users.authenticate('nobody', 'wrong')
  t.equal(hashed.length, 1)
})

void t.test(
  'a name that a machine key could have is nobody’s, whatever source has it',
  async (t) => {
    const file = samples(t)
    writeFileSync(
      file,
      '[key:board]\ntype=auth\nauth_type=userpass\nusername=key:board\npassword=secret\n' +
        '[201]\ntype=endpoint\ncontext=from-internal\nauth=201\n' +
        '[201]\ntype=auth\nauth_type=userpass\nusername=201\npassword=secret\n',
    )
    const rig = setUp(t, { users: 'sources = ["asterisk"]', asterisk: `file = "${file}"` })
    const users = await rig.open()
    users.mayMiss(false)
    t.match(await users.lookup('201'), { user: { name: '201' } })
    t.same(await users.lookup('key:board'), { refused: 'unknown_user' })
    t.same(users.peek('key:board'), { refused: 'unknown_user' })
  },
)
