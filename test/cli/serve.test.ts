// `postern serve` as a process: exit codes, signals, and what it does where nobody reads what it says.
import {
  existsSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { serve as command } from '../../src/cli/serve.ts'
import { CONFIG_FILE } from '../../src/config/load.ts'
import { check, HASH, login, makePlace, run, serve, until } from '../fixtures/postern.ts'
import { V1 } from '../nginx/ask.ts'
import { runCommand } from './run.ts'
import { needs } from '../fixtures/needs.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'

/** Runs inside this process: for what never starts. */
const runHere = async (...argv: string[]) => {
  const umask = process.umask()
  try {
    return await runCommand(command, argv)
  } finally {
    process.umask(umask)
  }
}

void t.test('wrong usage is told, and nothing starts', async (t) => {
  for (const argv of [['--port', '1'], ['file.toml'], ['--config']])
    t.match(
      await runHere(...argv),
      { status: 64, out: '', err: /^postern serve: .*\nusage: postern serve \[--config FILE\]$/ },
      argv.join(' '),
    )
})

void t.test('a bad configuration and a bad surrounding are both 78', async (t) => {
  const before = process.listenerCount('SIGTERM')
  const place = makePlace(t, { log: 'level = "loud"', throttle: 'pair_failures = -1' })
  const bad = await runHere('--config', place.config)
  t.equal(bad.status, 78)
  t.match(
    bad.err,
    /postern\.toml:\d+: .*log\.level.*\n.*postern\.toml:\d+: .*throttle\.pair_failures/,
  )
  place.configure({ log: `security = "${place.at('none', 'x.log')}"` })
  t.match(await runHere('--config', place.config), {
    status: 78,
    err: /none\/x\.log cannot be written: give its directory to the user of the service/,
  })
  t.equal(process.listenerCount('SIGTERM'), before, 'no signal is taken before it stands')
})

const noFile = needs(!existsSync(CONFIG_FILE), `needs a machine without ${CONFIG_FILE}`)
void t.test('without --config it reads the one of /etc', noFile, async (t) => {
  t.match(await runHere(), {
    status: 78,
    err: `${CONFIG_FILE}: no such file: copy postern.example`,
  })
})

void t.test('as a process it ends with the same codes, and says why on stderr alone', async (t) => {
  const place = makePlace(t, { log: 'level = "loud"' })
  const daemon = run(t, ['serve', '--config', place.config], { covered: true })
  t.same(await daemon.ended, { code: 78, signal: null })
  t.equal(daemon.out(), '')
  t.match(daemon.err(), /^\/.*postern\.toml:\d+: .*log\.level.*\n$/)
})

void t.test('it reloads at SIGHUP and stops at SIGINT and SIGTERM', async (t) => {
  const place = makePlace(t)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    place.configure()
    const daemon = await serve(t, place, { covered: true })
    const said = (text: string) => () => daemon.out().includes(text)
    daemon.child.kill('SIGHUP')
    await until('it reloads', said('"msg":"reloaded"'))
    place.configure({ log: 'level = "loud"' })
    daemon.child.kill('SIGHUP')
    await until(
      'it refuses',
      said('"msg":"not reloaded: the running configuration stays in force"'),
    )
    t.match(daemon.log().at(-1), { problems: [/log\.level/] })
    t.same(await daemon.end(signal), { code: 0, signal: null })
    t.match(daemon.log().slice(-2), [{ msg: 'stopping', signal }, { msg: 'stopped' }])
    t.equal(daemon.err(), '')
  }
})

void t.test('SIGHUP, which logrotate sends, means no change that removes most users', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  writeFileSync(place.at('users'), '')
  daemon.child.kill('SIGHUP')
  await until('it reloads', () => daemon.out().includes('"msg":"reloaded"'))
  t.match(daemon.out(), /would remove most users/)
  t.notMatch(daemon.out(), /users were read again/)
  t.same(await daemon.end(), { code: 0, signal: null })
})

void t.test('a setting of an earlier version ends nothing, and the log names it', async (t) => {
  const place = makePlace(t, { tokens: 'leeway = 1' })
  const daemon = await serve(t, place, { covered: true })
  daemon.child.kill('SIGHUP')
  await until('it reloads', () => daemon.out().includes('"msg":"reloaded"'))
  const warned = daemon
    .log()
    .filter(({ msg }) => msg === 'settings that have no effect, or not the one that is meant')
  t.equal(warned.length, 2, 'at the start and at the reload')
  t.match(warned[0], { level: 40, warnings: [/toml:\d+: tokens\.leeway: no longer/] })
  t.same(await daemon.end(), { code: 0, signal: null })
})

void t.test('the second signal ends it at once', async (t) => {
  const place = makePlace(t)
  for (const second of ['SIGTERM', 'SIGINT'] as const) {
    const daemon = await serve(t, place, { covered: true })
    const socket = connect(place.at('http.sock'))
    socket.on('error', () => undefined)
    // A request that never ends would hold up the stop for five seconds.
    socket.write(`POST ${V1}/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{`)
    await place.ask(`${V1}/health`)
    daemon.child.kill('SIGTERM')
    await until('it stops', () => daemon.out().includes('"msg":"stopping"'))
    const elapsed = startStopwatch()
    t.same(await daemon.end(second), { code: 130, signal: null })
    t.ok(elapsed().ours < 4000, 'it does not wait')
    socket.destroy()
  }
})

/** The TCP ports on which a process listens. */
const portsOf = (pid: number): number[] => {
  const linkOf = (fd: string): string => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      return '' // closed since
    }
  }
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).map((fd) => /^socket:\[(\d+)\]$/.exec(linkOf(fd))?.[1]),
  )
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
      .filter(([, , , state, , , , , , inode]) => state === '0A' && inodes.has(inode))
      .map(([, local = '']) => Number.parseInt(local.split(':')[1] ?? '', 16)),
  )
}

void t.test('SIGUSR1 opens no debugger', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place)
  t.same(portsOf(daemon.pid), [])
  daemon.child.kill('SIGUSR1')
  const { access } = await login(place.ask)
  t.equal(await check(place, access), '204')
  t.same(portsOf(daemon.pid), [], 'no port, neither 9229 nor any other')
  t.equal(daemon.err(), '')
})

void t.test('it goes on where nobody reads its log any more', async (t) => {
  const place = makePlace(t)
  const daemon = await serve(t, place, { covered: true })
  daemon.child.stdout?.destroy()
  for (let round = 0; round < 3; round++) {
    const { access } = await login(place.ask)
    t.equal(await check(place, access), '204')
  }
  await until('the security log has it', () =>
    readFileSync(place.at('security.log'), 'utf8').includes('AUTH_SUCCESS'),
  )
  t.same(await daemon.end(), { code: 0, signal: null })
})

const startOnFullDisk = async (t: Test) => {
  const place = makePlace(t)
  const full = openSync('/dev/full', 'w')
  const daemon = run(t, ['serve', '--config', place.config], { stdout: full, covered: true })
  closeSync(full)
  t.teardown(() => daemon.child.kill('SIGKILL'))
  // The file is there a moment before anybody listens.
  const listens = (): Promise<boolean> =>
    place.ask(`${V1}/health`).then(
      () => true,
      () => false,
    )
  await until('it listens', async () => daemon.child.exitCode !== null || (await listens()))
  return { place, daemon }
}

void t.test('it goes on where the disk of its log is full', async (t) => {
  const { place, daemon } = await startOnFullDisk(t)
  t.equal(daemon.child.exitCode, null, `it runs: ${daemon.err()}`)
  const { access } = await login(place.ask)
  t.equal(await check(place, access), '204')
  await until('the security log has it', () =>
    readFileSync(place.at('security.log'), 'utf8').includes('AUTH_SUCCESS'),
  )
})

void t.test('and it stops there as well', async (t) => {
  const { daemon } = await startOnFullDisk(t)
  const ended = await Promise.race([
    daemon.end('SIGTERM'),
    delay(30_000, undefined, { ref: false }),
  ])
  t.same(ended, { code: 0, signal: null })
})

void t.test('where the thread of its store dies it ends, to be started again', async (t) => {
  const place = makePlace(t)
  const killer = place.at('killer.mjs')
  writeFileSync(
    killer,
    "process.on('worker', (worker) => process.once('SIGUSR2', () => worker.terminate()))",
  )
  const daemon = await serve(t, place, {
    covered: true,
    env: { NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} --import=file://${killer}` },
  })
  t.same(await daemon.end('SIGUSR2'), { code: 70, signal: null })
  t.match(daemon.log().at(-1), { level: 60, err: { message: /the store's thread .* died/ } })
})

void t.test('where systemd cannot be told it says so, and serves', async (t) => {
  const place = makePlace(t)
  place.configure()
  place.users(`201:${HASH}:user`)
  const daemon = await serve(t, place, {
    covered: true,
    env: { NOTIFY_SOCKET: '/nowhere/notify', WATCHDOG_USEC: '200000' },
  })
  await until('it says so', () => daemon.out().includes('systemd could not be told'))
  t.equal((await place.operator('/readyz')).status, 200)
  t.match(await daemon.end('SIGTERM'), { code: 0 })
})

void t.test('systemd is told how it stands with the shared store', NEEDS_REDIS, async (t) => {
  const redis = await startRedis(t)
  const place = makePlace(t, {
    store: `url = "${redis.socketUrl}"`,
    streams: 'nginx = "one"',
  })
  const daemon = await serve(t, place, {
    covered: true,
    env: { NOTIFY_SOCKET: '/nowhere/notify', NOTIFY_FD: '2' }, // its stderr, which we read
  })
  await until('it is told', () => daemon.err().includes('READY=1\nSTATUS=deciding'))
  t.match(daemon.err(), /^STATUS=decidingREADY=1/, 'and before it is ready')
  t.match(await daemon.end('SIGTERM'), { code: 0 })
})
