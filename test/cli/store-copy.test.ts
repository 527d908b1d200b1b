// `postern store copy` as an operator runs it: what it says and refuses, and what is left of it after kill -9.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { runCopy } from '../../src/cli/store-copy.ts'
import { store } from '../../src/cli/store.ts'
import { copyStore } from '../../src/store/transfer.ts'
import { openSqliteSource, openSqliteTarget } from '../../src/store/sqlite-transfer.ts'
import { NEEDS_REDIS, type RedisServer, startRedis, until } from '../fixtures/redis.ts'
import {
  closeShared,
  makeFolder,
  NGINX,
  opened,
  openFile,
  openShared,
  refusalOf,
} from '../store/copying.ts'
import { hashOf, sessionOf, subscriptionOf } from '../store/sessions.ts'
import { runCommand } from './run.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')

/** The command goes by the real clock. */
const NOW = Math.floor(Date.now() / 1000)
const LIFE = { createdAt: NOW, seenAt: NOW, accessUntil: NOW + 900, expiresAt: NOW + 86_400 }

const fill = async (folder: string): Promise<string> => {
  const file = join(folder, 'store.db')
  const filled = openFile(file)
  for (const sid of ['a', 'b', 'c']) {
    const userId = await filled.identify(sid)
    await filled.openSession(sessionOf(sid, { username: sid, userId, ...LIFE }), hashOf(sid))
  }
  await filled.endSession('c', 'logout', NOW)
  await filled.close()
  return file
}

const run = (...argv: string[]) => runCommand(store, ['copy', ...argv, '--nginx', NGINX])

void t.test('there and back again', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const file = await fill(folder)
  const there = await run('--from', file, '--to', server.url)
  t.match(there, {
    status: 0,
    out: /: whole; 2 live sessions, 1 ended, 0 expired, 3 users, 0 used tickets, 0 live streams copied\. The keys are not in it: copy keys\.json too$/,
    err: /appendonly yes/,
  })
  const shared = await openShared(server, { now: () => NOW })
  t.equal(await shared.countSessions(NOW), 2)
  t.equal(shared.feed.trustedSince(), 0, 'tokens of before stay valid')
  t.match(await run('--from', server.url, '--to', join(folder, 'back.db')), {
    status: 1,
    err: /is in use: stop the daemon/,
  })
  await closeShared(server, shared)
  t.match(await run('--from', server.url, '--to', join(folder, 'back.db')), {
    status: 0,
    out: /2 live sessions, 1 ended/,
    err: '',
  })
  const back = openFile(join(folder, 'back.db'))
  t.match(await back.listEnded(NOW), [{ sid: 'c', cause: 'logout' }])
  t.match(await run('--from', join(folder, 'back.db'), '--to', server.url), {
    status: 1,
    err: /back\.db is in use: stop the daemon/,
  })
  await back.close()
  const again = await run('--from', file, '--to', server.url)
  t.match(again, { status: 1, out: '', err: /holds a store already/ })
  t.match(await run('--from', file, '--to', server.url, '--prefix', 'other:'), { status: 0 })
})

void t.test('a password comes from a file, and is never printed', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const file = await fill(folder)
  server.cli('CONFIG', 'SET', 'requirepass', 'the-secret')
  const said: string[] = []
  const ask = async (...argv: string[]) => {
    const ran = await run('--from', file, ...argv)
    said.push(ran.out, ran.err)
    return ran
  }
  const withWrong = server.url.replace('//', '//:the-wrong-one@')
  t.match(await ask('--to', server.url), { status: 74, err: /asks for a password/ })
  t.match(await ask('--to', withWrong), { status: 74, err: /refuses the user or the password/ })
  writeFileSync(join(folder, 'password'), 'the-secret\n')
  t.match(await ask('--to', withWrong, '--password-file', join(folder, 'password')), { status: 0 })
  t.match(await ask('--to', server.url, '--password-file', join(folder, 'none')), {
    status: 78,
    err: /none: cannot be read \(ENOENT\): see --password-file/,
  })
  writeFileSync(join(folder, 'empty'), '\n')
  t.match(await ask('--to', server.url, '--password-file', join(folder, 'empty')), {
    status: 78,
    err: /empty: is empty: write the secret of --password-file into it/,
  })
  t.match(await ask('--to', server.url, '--password-file', ''), {
    status: 64,
    err: /--password-file names no file/,
  })
  t.match(await ask('--to', server.url, '--ca-file', join(folder, 'none')), { status: 74 })
  t.notMatch(said.join('\n'), /the-(?:secret|wrong)/)
})

void t.test('what fails leaves the other side free', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const file = await fill(folder)
  const gone = 'unix:///nonexistent/socket'
  t.match(await run('--from', file, '--to', gone), { status: 74, err: /no such socket/ })
  t.match(await run('--from', join(folder, 'none.db'), '--to', server.url), {
    status: 74,
    err: /no store at .*none\.db/,
  })
  t.equal(server.cli('DBSIZE'), '0')
  await openFile(file).close()
  t.match(await run('--from', server.url, '--to', join(folder, 'new.db')), {
    status: 1,
    err: /no store under postern:/,
  })
  t.notOk(existsSync(join(folder, 'new.db')))
})

void t.test('wrong usage says what is right', async (t) => {
  const file = '/nonexistent/store.db'
  const url = 'redis://localhost'
  const cases = [
    [[], /--from and --to are needed/],
    [['--from', file], /--from and --to are needed/],
    [['--from', 'store.db', '--to', url], /neither a file that begins with \/ nor a url/],
    [['--from', file, '--to', 'http://localhost'], /nor a url/],
    [['--from', file, '--to', file], /backup and restore/],
    [['--from', url, '--to', url], /its own replication/],
    [['--from', file, '--to', url, '--prefix', '{x}'], /--prefix may hold/],
    [['--frob'], /unknown/],
    [['a', 'b'], /unknown/],
  ] as const
  for (const [argv, problem] of cases) {
    const ran = await runCommand(store, ['copy', ...argv])
    t.match(ran, { status: 64, out: '', err: problem }, argv.join(' '))
    t.match(ran.err, /usage: postern store copy --from/)
  }
})

void t.test('a host without a name of its own has to say whose streams', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const file = join(folder, 'one.db')
  const one = openFile(file)
  await one.openSession(sessionOf('a', LIFE), hashOf('a'))
  await one.openSubscription(subscriptionOf('k', { sid: 'a' }))
  await one.close()
  const argv = ['--from', file, '--to', server.url]
  const on = (host: string) =>
    runCommand({ ...store, run: (words, io) => runCopy(words, io, host) }, argv)
  t.match(await on('localhost'), { status: 78, err: /subscriptions\.nginx/ })
  t.match(await on('gate-1'), { status: 0, out: /1 live session, .*1 live stream / })
  const shared = await openShared(server, { nginx: 'gate-1' })
  t.match(await shared.listSubscriptions(), [{ kick: 'k' }])
  await shared.close()
})

void t.test(
  'a copy that finds its source changed puts nothing in place',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const folder = makeFolder(t)
    await run('--from', await fill(folder), '--to', server.url)
    const many = 2000
    const shared = await openShared(server, { now: () => NOW })
    for (let at = 0; at < many; at++) {
      await shared.openSession(
        sessionOf(`s${at}`, { username: `u${at}`, ...LIFE }),
        hashOf(`s${at}`),
      )
    }
    await closeShared(server, shared)
    const [ran, came] = await Promise.all([
      run('--from', server.url, '--to', join(folder, 'back.db')),
      until(() => existsSync(join(folder, 'back.db.copy')), 20).then(() => openShared(server)),
    ])
    t.match(ran, { status: 1, err: /stop the daemon/ })
    t.notOk(existsSync(join(folder, 'back.db')))
    await came.close()
  },
)

/** Many sessions, so that there is a middle to be killed in. */
const fillWithMany = async (folder: string, count: number): Promise<string> => {
  const file = join(folder, 'many.db')
  const target = await opened(openSqliteTarget(file))
  for (let at = 0; at < count; at += 1000) {
    const records = Array.from({ length: 1000 }, (_, index) => ({
      session: sessionOf(`s${at + index}`, { username: `u${at + index}`, ...LIFE }),
      tokens: [hashOf(`s${at + index}`)],
      rotatedAt: undefined,
      sealed: undefined,
      ended: undefined,
    }))
    await target.write({ kind: 'sessions', records })
  }
  await target.finish({ epoch: 0, lastUser: count })
  target.close()
  return file
}

const start = (t: Test, from: string, to: string): ChildProcess => {
  const argv = ['store', 'copy', '--from', from, '--to', to, '--nginx', NGINX]
  const child = spawn(process.execPath, [MAIN, ...argv], {
    env: { PATH: process.env['PATH'] }, // a coverage hook is no part of what is killed here
    stdio: 'ignore',
  })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

const killWhen = async (begin: () => ChildProcess, when: () => unknown): Promise<void> => {
  for (let tries = 1; ; tries++) {
    const child = begin()
    const exited = once(child, 'exit')
    await until(() => child.exitCode !== null || when(), 60)
    child.kill('SIGKILL')
    const [code] = (await exited) as [number | null]
    if (code === null) return
    // It gives up where Redis cannot be reached for a second, which happens where the machine stands still.
    if (code === 0 || tries === 5) throw new Error(`it ended by itself, with ${code}`)
  }
}

const sizeOf = (server: RedisServer): number => Number(server.cli('DBSIZE'))

void t.test('kill -9 in the middle', { ...NEEDS_REDIS, timeout: 900_000 }, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const many = 20_000
  const file = await fillWithMany(folder, many)
  await killWhen(
    () => start(t, file, server.url),
    () => sizeOf(server) > 5000,
  )
  const daemon = await openShared(server, { now: () => NOW })
  t.equal(daemon.feed.state(), 'away', 'no daemon takes what is there for a store')
  await t.rejects(daemon.identify('somebody'), { name: 'StoreError' })
  await closeShared(server, daemon)
  t.match(await run('--from', file, '--to', server.url), { status: 0, out: /20000 live sessions/ })
  t.ok(sizeOf(server) < 6 * many + 100, 'what was left of the first is gone')

  const back = join(folder, 'back.db')
  await killWhen(
    () => start(t, server.url, back),
    () => existsSync(`${back}.copy`),
  )
  t.notOk(existsSync(back), 'no daemon finds a store')
  await until(() => server.cli('PUBSUB', 'NUMSUB', 'postern:{copy}').endsWith('\n0'), 20)
  t.match(await run('--from', server.url, '--to', back), { status: 0, out: /20000 live sessions/ })
  t.notOk(readdirSync(folder).some((name) => name.includes('.copy')))
  t.match(await refusalOf(openSqliteTarget(back)), /holds a store already/)
  const source = await opened(openSqliteSource(back))
  const target = await opened(openSqliteTarget(join(folder, 'third.db')))
  t.match(await copyStore(source, target, NOW), { live: many })
  target.close()
  source.close()
})
