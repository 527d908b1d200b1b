// The operator's endpoints and the control routes, against the real daemon: each on its own listener, and on
// no other.

import { chmodSync, writeFileSync } from 'node:fs'
import t from 'tap'

import { createControlRoutes, createOperatorRoutes } from '../../src/http/operator.ts'
import type { Route } from '../../src/http/routes.ts'
import { HASH, JSON_TYPE, requestOf, startTestDaemon, USERS, V1 } from '../fixtures/daemon.ts'

const daemon = await startTestDaemon(t, { users: [`300:${HASH}:user`] })
const sidOf = (token: string): string => String(daemon.claimsOf(token)['sid'])
const post = (path: string) => daemon.control(path, { method: 'POST' })
const inspect = (body: unknown, headers: Record<string, string> = JSON_TYPE) =>
  daemon.control('/tokens/inspect', { headers, body: JSON.stringify(body) })

const nothing = async () => ({})
const NO_KEYS = { list: nothing, add: nothing, rotate: nothing, remove: nothing }
const OPERATOR = ['/metrics', '/healthz', '/readyz']
const CONTROL = [
  '/ready',
  '/reload',
  '/users/reload',
  '/users/ids',
  '/sessions',
  '/sessions/end',
  '/sessions/kick',
  '/tokens/inspect',
]

void t.test('HEAD is GET without a body, on each listener', async (t) => {
  const rows: [path: string, ask: typeof daemon.ask][] = [
    ...OPERATOR.map((path) => [path, daemon.operator] as [string, typeof daemon.ask]),
    ...['/ready', '/users/ids', '/sessions'].map(
      (path) => [path, daemon.control] as [string, typeof daemon.ask],
    ),
    [`${V1}/health`, daemon.ask],
    [`${V1}/profile`, daemon.ask],
    ['/.well-known/jwks.json', daemon.ask],
    ['/check/recordings/a', daemon.ask],
  ]
  for (const [path, ask] of rows) {
    const whole = await ask(path)
    const head = await ask(path, { method: 'HEAD' })
    t.equal(head.status, whole.status, path)
    t.equal(head.body, '', path)
    t.equal(head.header('content-type'), whole.header('content-type'), path)
    // What is counted has grown in between.
    if (path !== '/metrics') t.equal(head.header('content-length'), whole.header('content-length'))
  }
})

void t.test('metrics, alive and ready', async (t) => {
  const metrics = await daemon.operator('/metrics')
  t.equal(metrics.status, 200)
  t.match(metrics.header('content-type'), /^text\/plain; version=0\.0\.4/)
  t.match(metrics.body, /^postern_ready 1$/m)
  for (const [path, body] of [
    ['/healthz', 'ok\n'],
    ['/readyz', 'ready\n'],
  ] as const) {
    const answer = await daemon.operator(path)
    t.equal(answer.status, 200)
    t.equal(answer.body, body)
    t.equal(answer.header('content-type'), 'text/plain; charset=utf-8')
    t.equal(answer.header('cache-control'), 'no-store')
  }
  t.equal((await daemon.operator('/metrics', { method: 'POST' })).status, 405)
})

void t.test('what keeps it from deciding is said, with a 503', async (t) => {
  const routes = createOperatorRoutes({
    metrics: { expose: async () => '', contentType: 'text/plain' },
    findObstacle: async () => 'the store cannot write',
  })
  const { handler } = routes.find(({ path }) => path === '/readyz') as Route
  t.match(await handler(requestOf([])), {
    status: 503,
    headers: ['Content-Type', 'text/plain; charset=utf-8', 'Retry-After', '1'],
    body: 'not ready: the store cannot write\n',
  })
})

void t.test('the control socket tells the same as readyz', async (t) => {
  const answer = await daemon.control('/ready')
  t.equal(answer.status, 200)
  const nginx = {
    reloadDue: false,
    listLost: false,
    guessed: true,
    unsure: 0,
    namesInHeader: false,
    cutter: null,
    uncuttable: {},
    fronts: [],
  }
  t.same(answer.json(), { obstacle: null, nginx })
  const routes = createControlRoutes({
    reload: async () => ({ problems: [] }),
    reloadUsers: async () => ({ ended: 0 }),
    userIds: async () => ({}),
    listSessions: async () => [],
    endSessions: async () => 0,
    kickSessions: async () => 0,
    inspect: async () => ({ status: 401, answer: '' }),
    machineKeys: NO_KEYS,
    findObstacle: async () => 'the store cannot write',
    nginx: () => nginx,
    cdr: () => ({ recordings: 1 }),
  })
  const { handler } = routes.find(({ path }) => path === '/ready') as Route
  t.match(await handler(requestOf([])), {
    status: 200,
    body: JSON.stringify({ obstacle: 'the store cannot write', nginx, cdr: { recordings: 1 } }),
  })
})

void t.test('each listener knows its own paths alone', async (t) => {
  for (const path of [...OPERATOR, ...CONTROL]) {
    t.equal((await daemon.ask(path)).status, 404, `${path} is not where nginx asks`)
  }
  for (const path of CONTROL) t.equal((await daemon.operator(path)).status, 404, path)
  for (const path of [...OPERATOR, '/check', '/check/x'])
    t.equal((await daemon.control(path)).status, 404, path)
  t.equal((await daemon.operator('/check/x')).status, 404)
  const answer = await daemon.operator('/check')
  t.equal(answer.status, 404)
  t.same(answer.json(), { error: 'Not found: look at the address' })
})

void t.test('a reload is taken whole, or not at all with every problem', async (t) => {
  const taken = await post('/reload')
  t.equal(taken.status, 200)
  t.match(taken.json(), { reloaded: true, ignored: Array })
  const keys = daemon.place.at('state', 'keys.json')
  chmodSync(keys, 0o644)
  const refused = await post('/reload')
  chmodSync(keys, 0o600)
  t.equal(refused.status, 409)
  t.match(refused.json(), { error: /keys\.json: has mode 644: .*chmod 0600/ })
  t.equal((await post('/reload')).status, 200)
})

void t.test('users are read again, and their ids told', async (t) => {
  const { access } = await daemon.softphone('300')
  const before = (await daemon.control('/users/ids')).json() as { ids: Record<string, number> }
  t.ok(Number.isInteger(before.ids['300']))
  daemon.place.users(...USERS)
  const answer = await post('/users/reload')
  t.equal(answer.status, 200)
  t.same(answer.json(), { ended: 1 })
  t.equal((await daemon.check(access)).status, 401)
  const after = (await daemon.control('/users/ids')).json() as { ids: Record<string, number> }
  t.notOk('300' in after.ids)

  daemon.place.users(...USERS, 'broken')
  const refused = await post('/users/reload')
  t.equal(refused.status, 409)
  t.match(refused.json(), { error: /users:5: / })
  daemon.place.users(...USERS)
  t.equal((await post('/users/reload')).status, 200)
})

void t.test('sessions are listed, ended and kicked by id, by user, or all', async (t) => {
  const [one, two, other] = [
    await daemon.softphone('201'),
    await daemon.mikopbx('201'),
    await daemon.softphone('202'),
  ]
  const list = async (query = ''): Promise<string[]> => {
    const { sessions } = (await daemon.control(`/sessions${query}`)).json() as {
      sessions: { id: string }[]
    }
    return sessions.map(({ id }) => id).sort()
  }
  const ids = [one, two, other].map(({ access }) => sidOf(access))
  t.same(await list(), [...ids].sort())
  t.same(await list('?user=202'), [ids[2]])
  t.same(await list('?user=nobody'), [])

  for (const path of ['/sessions/end', '/sessions/kick']) {
    for (const query of ['', '?all=1', '?all=false', '?x=y']) {
      const answer = await post(path + query)
      t.equal(answer.status, 400, 'a slip ends nothing')
      t.same(answer.json(), { error: 'say id, user or all=true' })
    }
  }
  t.same((await post(`/sessions/kick?id=${ids[0]}`)).json(), { kicked: 0 }, 'no stream is open')
  t.equal((await daemon.check(one.access)).status, 204, 'a kick leaves the session')
  t.same((await post(`/sessions/end?id=${ids[0]}`)).json(), { ended: 1 })
  t.same((await post('/sessions/end?id=never')).json(), { ended: 0 })
  t.equal((await daemon.check(one.access)).header('x-auth-reason'), 'session_ended')
  t.same((await post('/sessions/end?user=201')).json(), { ended: 1 })
  t.same((await post('/sessions/kick?user=201')).json(), { kicked: 0 })
  t.equal((await daemon.check(other.access)).status, 204)
  t.same((await post('/sessions/end?all=true')).json(), { ended: 1 })
  t.same((await post('/sessions/kick?all=true')).json(), { kicked: 0 })
  t.same(await list(), [])
  daemon.clock.advance(2) // whatever was issued before the end of everything is over, to the second
})

void t.test('a token can be asked about', async (t) => {
  const { access } = await daemon.softphone('201')
  const rows: [body: object, status: number][] = [
    [{ token: access }, 204],
    [{ token: access, action: 'read', resource: 'recordings/a' }, 204],
    [{ token: access, action: 'read', resource: 'other/a' }, 403],
    [{ token: access, action: 'read' }, 403],
    [{ token: access, action: 5 }, 204],
    [{ token: 'junk' }, 401],
  ]
  for (const [body, status] of rows) {
    const answer = await inspect(body)
    t.equal(answer.status, 200)
    t.match(answer.json(), { status, answer: String })
    t.notMatch(answer.body, access)
  }
  for (const body of [{}, { token: 5 }, [], 'x']) t.equal((await inspect(body)).status, 400)
  t.equal((await inspect({ token: access }, { 'Content-Type': 'text/plain' })).status, 400)
  t.equal((await inspect({ token: 'x'.repeat(9000) })).status, 413)
})

void t.test('what removes a machine key names it', async (t) => {
  const remove = (body: string) =>
    daemon.control('/machine-keys/remove', { headers: JSON_TYPE, body })
  t.same((await remove('{"which":"nobody"}')).json(), { removed: 0 })
  t.same((await remove('x')).json(), { removed: 0 }, 'nothing names nothing')
  t.equal((await remove('x'.repeat(9000))).status, 413)
})

void t.test('no password and no token stands in a log', async (t) => {
  t.same(await daemon.leaks(), [])
})

void t.test('a reload for another file leaves held-back users as they are', async (t) => {
  const own = await startTestDaemon(t)
  const { access } = await own.softphone('201')
  writeFileSync(own.place.at('users'), '')
  const reload = async (path: string) => (await own.control(path, { method: 'POST' })).status
  t.equal(await reload('/reload?users=held'), 200)
  t.equal((await own.check(access)).status, 204)
  t.equal(await reload('/reload'), 200)
  t.equal((await own.check(access)).status, 401)
})
