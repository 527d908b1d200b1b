// The connection itself: every kind of address that there is, over real servers, and what a crowd or a bad
// network does to it.
import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { openLink, type LinkEvents } from '../../../src/store/redis/link.ts'
import { COUNT } from '../../../src/store/redis/scripts.ts'
import { openRedisStore, type RedisSettings } from '../../../src/store/redis/redis.ts'
import { StoreError } from '../../../src/store/store.ts'
import { type Certificate, createAuthority } from '../../fixtures/canned-server.ts'
import { NOW } from '../../fixtures/clock.ts'
import { freePort, NEEDS_REDIS, startRedis, until } from '../../fixtures/redis.ts'
import { startStopwatch } from '../../fixtures/stopwatch.ts'
import { hashOf, renewalAt, sessionOf, successor } from '../sessions.ts'

const linkTo = async (t: Test, url: string, timeout = 0.5, events: Partial<LinkEvents> = {}) => {
  const link = await openLink({ url, timeout, channels: ['x{0}'] }, events)
  t.teardown(() => link.close())
  return link
}

const storeAt = async (t: Test, url: string, given: Partial<RedisSettings> = {}) => {
  const store = await openRedisStore({ url, timeout: 1, pollSeconds: 0.2, ...given })
  t.teardown(() => store.close())
  return store
}

/** A login, a rotation, an end that is heard, and the lists: every kind of call there is. */
const exercise = async (t: Test, url: string, given: Partial<RedisSettings> = {}) => {
  const [store, other] = [await storeAt(t, url, given), await storeAt(t, url, given)]
  // The first attempt may have been too slow.
  await until(() => [store, other].every(({ feed }) => feed.state() === 'ok'), 20)
  const heard: string[] = []
  other.feed.onEnded(({ sid }) => heard.push(sid))
  for (const user of ['201', '202', '203']) {
    t.ok((await store.identify(user)) > 0)
    await store.openSession(sessionOf(user, { username: user }), hashOf(user))
    const rotation = await other.rotate(hashOf(user), successor(`${user}/1`), renewalAt(0), 30)
    t.equal(rotation.outcome, 'rotated')
    t.match(await store.endSession(user, 'logout', NOW), { sid: user })
  }
  await until(() => heard.length === 3)
  t.equal((await other.listEnded()).length, 3)
  t.equal(await store.prune(NOW, 0), 0)
  t.equal(store.feed.state(), 'ok')
  return store
}

void t.test('over a socket, with a database of its own', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  await exercise(t, `${server.socketUrl}?database=3`)
  t.equal(server.cli('DBSIZE'), '0')
  t.not(server.cli('-n', '3', 'DBSIZE'), '0')
})

void t.test('as an ACL user with no more rights than the message names', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const rights = [
    '~postern:*',
    '&postern:*',
    '-@all',
    '+@read',
    '+@write',
    '+@scripting',
    '+@pubsub',
  ]
  server.cli('ACL', 'SETUSER', 'p', 'on', '>se:cret', ...rights, '+@connection', '+info')
  await exercise(t, `redis://p:se%3Acret@127.0.0.1:${server.port}`)
  const wrong = await storeAt(t, `redis://p:wrong@127.0.0.1:${server.port}`)
  await t.rejects(wrong.ping(), { code: 'unavailable', message: /refuses the user/ })
  t.notMatch(await wrong.ping().catch(String), /wrong/)
})

void t.test('over TLS, trusting whom it is told to, else the system', NEEDS_REDIS, async (t) => {
  const folder = t.testdir({ own: {}, strange: {} })
  const listen = async (pair: Certificate): Promise<string> => {
    writeFileSync(`${pair.file}.key`, pair.key)
    const port = await freePort()
    await startRedis(t, {
      'tls-port': String(port),
      'tls-cert-file': pair.file,
      'tls-key-file': `${pair.file}.key`,
      'tls-auth-clients': 'no',
    })
    return `rediss://127.0.0.1:${port}`
  }
  const own = createAuthority(join(folder, 'own'), 'IP:127.0.0.1')
  const strange = createAuthority(join(folder, 'strange'), 'IP:127.0.0.1')
  const url = await listen(own)
  // Read when it is first needed, once a process: nothing of this process has asked before.
  process.env['SSL_CERT_FILE'] = own.authority
  await exercise(t, url)
  const refused = {
    message: /not trusted here.* in store\.ca_file; without that, .*update-ca-cert/,
  }
  const unknown = await listen(strange)
  await t.rejects((await storeAt(t, unknown)).ping(), refused)
  await exercise(t, unknown, { ca: strange.authority })
  await t.rejects((await storeAt(t, url, { ca: strange.authority })).ping(), refused)
  for (const ca of [join(folder, 'none'), '/etc/hostname']) {
    await t.rejects(openRedisStore({ url, ca }), { code: 'missing', message: /^store\.ca_file: / })
  }
})

void t.test('a server that is part of a cluster is refused by name', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t, { 'cluster-enabled': 'yes' })
  const store = await storeAt(t, server.url)
  await t.rejects(store.listEnded(), { message: /which is not supported/ })
})

void t.test('through sentinels to the primary', NEEDS_REDIS, async (t) => {
  const primary = await startRedis(t)
  const file = join(t.testdir(), 'sentinel.conf')
  writeFileSync(file, `sentinel monitor main 127.0.0.1 ${primary.port} 1\n`)
  const sentinel = await startRedis(t, {}, [file, '--sentinel'])
  await exercise(t, `redis+sentinel://127.0.0.1:${sentinel.port}/main`)
})

void t.test(
  'one that cannot be reached says why, and nobody waits for it',
  NEEDS_REDIS,
  async (t) => {
    const port = await freePort()
    const cases = [
      [`redis://127.0.0.1:${port}`, /nothing listens/],
      ['unix:///nonexistent/socket', /no such socket/],
      ['redis://no-such-name.invalid', /name/],
      [`redis+sentinel://127.0.0.1:${port}/main`, /./],
    ] as const
    for (const [url, message] of cases) {
      const store = await storeAt(t, url)
      const elapsed = startStopwatch()
      await t.rejects(store.findByRefresh(hashOf('a'), NOW), { code: 'unavailable', message }, url)
      t.ok(elapsed().ours < 200, 'at once')
      await store.close()
    }
  },
)

void t.test(
  'past its bound it refuses at once, and the rest is answered',
  NEEDS_REDIS,
  async (t) => {
    const { url } = await startRedis(t)
    const link = await linkTo(t, url, 5)
    await link.run(COUNT, 'x{0}', [0])
    const outcomes = await Promise.allSettled(
      Array.from({ length: 4100 }, () => link.run(COUNT, 'x{0}', [0])),
    )
    const refused = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
    t.equal(refused.length, 4)
    t.match(refused[0], { name: 'StoreError', code: 'busy' })
    t.equal(await link.run(COUNT, 'x{0}', [0]), 0, 'there is room again')
  },
)

void t.test(
  'who waits too long in a crowd is sent away, and the others are served',
  NEEDS_REDIS,
  async (t) => {
    const { url } = await startRedis(t)
    const downs: unknown[] = []
    const link = await linkTo(t, url, 1, { down: (fault) => downs.push(fault) })
    const alone = 'x'.repeat(1 << 16) // Redis answers what it reads at once together: one call a reading
    const counting = (count: number) => ({
      text: `local n = 0 for i = 1, ${count} do n = n + 1 end return 'done'`,
      sha: 'f'.repeat(39) + count.toString(16).slice(-1),
    })
    // 20 ms of a processor: all of them take longer than any may wait, and each less than the limit, even with a tenth of one.
    const takes: number[] = []
    for (let tries = 0; tries < 8; tries++) {
      const began = performance.now()
      await link.run(counting(2e5), 'x{0}', ['y'])
      takes.push(performance.now() - began)
    }
    const slow = { ...counting(Math.round((2e5 * 20) / Math.min(...takes))), sha: 'e'.repeat(40) }
    const all = await Promise.all(
      Array.from({ length: 600 }, () =>
        link.run(slow, 'x{0}', [alone]).catch((error: unknown) => error),
      ),
    )
    const refused = all.filter((one) => one !== 'done')
    t.ok(refused.length > 0 && refused.length < 600, `${refused.length} of 600`)
    t.match(refused[0], { code: 'busy', message: /overloaded/ })
    t.same(downs, [], 'the connection stays')
  },
)

void t.test('a pause of our own is not the silence of the server', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const downs: unknown[] = []
  const link = await linkTo(t, url, 0.2, { down: (fault) => downs.push(fault) })
  for (let round = 0; round < 3; round++) {
    const asked = link.run(COUNT, 'x{0}', [0])
    await pause(0)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400)
    t.equal(typeof (await asked), 'number')
  }
  t.same(downs, [])
})

void t.test('what is cut off fails, and is never sent twice', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const link = await linkTo(t, server.url)
  server.signal('SIGSTOP')
  const asked = Array.from({ length: 10 }, () =>
    link.run(COUNT, 'x{0}', [0]).catch((error: unknown) => error),
  )
  for (const outcome of await Promise.all(asked)) t.match(outcome, { code: 'unavailable' })
  await t.rejects(link.info('server'), { code: 'unavailable' })
  server.signal('SIGCONT')
  await until(async () => (await link.run(COUNT, 'x{0}', [0]).catch(() => 'away')) === 0)
})

void t.test('dropped, it comes back; closed, it does not', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t)
  const seen: string[] = []
  const link = await linkTo(t, url, 0.5, {
    up: () => seen.push('up'),
    down: ({ message }) => seen.push(message),
  })
  link.drop(new StoreError('unavailable', 'wrong one'))
  await until(() => seen.length === 3)
  t.same(seen, ['up', 'wrong one', 'up'])
  link.close()
  await pause(50)
  await t.rejects(link.run(COUNT, 'x{0}', [0]), { message: /closed/ })
  link.drop(new StoreError('unavailable', 'nobody is there'))
  t.equal(seen.length, 3)
})

const rooted =
  process.getuid?.() === 0 && spawnSync('unshare', ['-n', 'true'], { stdio: 'ignore' }).status === 0
const netns = {
  skip:
    NEEDS_REDIS.skip !== false
      ? NEEDS_REDIS.skip
      : !rooted && process.env['CI'] !== 'true' && 'needs root, and network namespaces',
}

void t.test('a black hole keeps nobody waiting, and is left by itself', netns, async (t) => {
  const id = `p${process.pid % 100_000}`
  const subnet = `10.213.${process.pid % 250}`
  const run = (command: string) => {
    execFileSync('sh', ['-ec', command], { stdio: 'pipe' })
  }
  run(`ip netns add ${id}`)
  t.teardown(() => run(`ip netns del ${id}; ip link del ${id}a 2>/dev/null || true`))
  run(`ip link add ${id}a type veth peer name ${id}b netns ${id}
    ip addr add ${subnet}.1/30 dev ${id}a; ip link set ${id}a up
    ip -n ${id} addr add ${subnet}.2/30 dev ${id}b; ip -n ${id} link set ${id}b up`)
  const server = await startRedis(
    t,
    { bind: `${subnet}.2`, 'protected-mode': 'no' },
    [],
    ['ip', 'netns', 'exec', id],
  )
  const store = await storeAt(t, `redis://${subnet}.2:${server.port}`)
  await store.openSession(sessionOf('a'), hashOf('a'))
  // No packet comes back, and no RST either.
  run(`ip -n ${id} route add blackhole ${subnet}.1/32`)
  const elapsed = startStopwatch()
  await t.rejects(store.ping(), { code: 'unavailable', message: /does not answer/ })
  t.ok(elapsed().ours < 2000)
  const elapsedAgain = startStopwatch()
  await t.rejects(store.ping(), { code: 'unavailable' })
  t.ok(elapsedAgain().ours < 200, 'at once, now that it is known')
  run(`ip -n ${id} route del blackhole ${subnet}.1/32`)
  t.ok((await until(() => store.feed.state() === 'ok')) < 3)
  t.match(await store.findByRefresh(hashOf('a'), NOW), { state: 'live' })
})

void t.test('over a wire of 200 ms each way it is slow, and right', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const wire = createServer((client) => {
    const there = connect(server.socket)
    client.on('data', (data) => setTimeout(() => there.write(data), 200))
    there.on('data', (data) => setTimeout(() => client.destroyed || client.write(data), 200))
    client.on('close', () => there.destroy()).on('error', () => there.destroy())
  }).listen(0, '127.0.0.1')
  t.teardown(() => wire.close())
  await once(wire, 'listening')
  const { port } = wire.address() as AddressInfo
  const store = await storeAt(t, `redis://127.0.0.1:${port}`)
  await until(() => store.feed.state() === 'ok', 20) // a second for the connection is little here
  await store.openSession(sessionOf('a'), hashOf('a'))
  t.match(await store.rotate(hashOf('a'), successor('b'), renewalAt(0), 30), { outcome: 'rotated' })
  t.match(await store.findByRefresh(hashOf('b'), NOW), { state: 'live' })
})

void t.test(
  'one that takes the connection and says nothing is given up',
  NEEDS_REDIS,
  async (t) => {
    const silent = createServer().listen(0, '127.0.0.1')
    const sockets = new Set<Socket>()
    silent.on('connection', (socket) => sockets.add(socket))
    t.teardown(() => {
      for (const socket of sockets) socket.destroy()
      silent.close()
    })
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const store = await storeAt(t, `redis://127.0.0.1:${port}`)
    await t.rejects(store.ping(), { code: 'unavailable', message: /does not answer/ })
  },
)
