// What is on the disk when the worst happens: killed at any instant, a full disk, a disk that fails, a second
// daemon. Real processes, real disks. A write that was acknowledged must be there, whatever came after it.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { type Engine, openEngine } from '../../../src/store/sqlite/engine.ts'
import type { Found, Store, StoreVerb } from '../../../src/store/store.ts'
import { NOW } from '../../fixtures/clock.ts'
import { NAMESPACE, needs, startPuppet } from '../puppeteer.ts'
import { hashOf, renewalAt } from '../sessions.ts'

const fileIn = (t: Test): string => join(t.testdir(), 'store.db')

const ask = <Name extends StoreVerb>(
  engine: Engine,
  verb: Name,
  ...args: Parameters<Store[Name]>
): Awaited<ReturnType<Store[Name]>> => {
  const [outcome] = engine.apply([{ verb, args }])
  if (!outcome || 'error' in outcome) throw new Error(outcome?.error.message)
  return outcome.value as Awaited<ReturnType<Store[Name]>>
}

void t.test('killed at any instant, it has everything that it acknowledged', async (t) => {
  const ROUNDS = 25
  const file = fileIn(t)
  const rotated = new Map<string, number>()
  const loggedOut = new Set<string>()
  for (let round = 0; round < ROUNDS; round++) {
    const puppet = await startPuppet(t, file, { prefix: `r${round}` })
    t.equal(puppet.opening, 'open', 'what a kill left opens without anybody’s help')
    const first = await puppet.ask('storm')
    await setTimeout(Math.random() * 150) // the instant of the kill is what varies
    for (const line of [first, ...(await puppet.kill())]) {
      const [act, sid = '', step] = line.split(' ')
      if (act === 'login') rotated.set(sid, 0)
      else if (act === 'rotated') rotated.set(sid, Number(step))
      else if (act === 'logout') loggedOut.add(sid)
      else t.fail(line)
    }
  }
  const engine = openEngine(file)
  t.teardown(() => engine.close())
  const lost: string[] = []
  const state = (found: Found) => found.state
  const ended = new Set(ask(engine, 'listEnded').map(({ sid }) => sid))
  for (const sid of loggedOut) if (!ended.has(sid)) lost.push(`logout ${sid}`)
  for (const [sid, step] of rotated) {
    const now = state(ask(engine, 'findByRefresh', hashOf(`${sid}/${step}`), NOW))
    if (now !== (ended.has(sid) ? 'ended' : 'live')) lost.push(`rotation ${step} of ${sid}: ${now}`)
    if (ended.has(sid)) continue
    // The next rotation may have been done without a word: then its token is the live one, never both or none.
    const live = [step, step + 1].filter(
      (one) => state(ask(engine, 'renew', hashOf(`${sid}/${one}`), renewalAt(0))) === 'live',
    )
    if (live.length !== 1) lost.push(`${sid} has ${live.length} live tokens`)
  }
  t.same(lost, [])
  t.ok(
    rotated.size > ROUNDS && loggedOut.size > 0,
    `${rotated.size} logins, ${loggedOut.size} logouts`,
  )
  const look = new DatabaseSync(file, { readOnly: true })
  t.same(look.prepare('PRAGMA integrity_check').all(), [{ integrity_check: 'ok' }])
  look.close()
})

void t.test('a second daemon is refused, until the first is gone', async (t) => {
  const file = fileIn(t)
  const first = await startPuppet(t, file)
  t.equal(first.opening, 'open')
  t.throws(() => openEngine(file), { code: 'locked', message: /state directory of its own/ })
  const second = await startPuppet(t, file)
  t.match(second.opening, /^locked /)
  t.equal(await first.ask('login'), 'ok p-1', 'the first is not disturbed')
  await first.kill()
  const third = await startPuppet(t, file)
  t.equal(third.opening, 'open', 'kill -9 leaves no lock behind')
  t.equal(await third.ask('count'), 'ok 1')
})

void t.test('its files are for nobody else', async (t) => {
  const file = fileIn(t)
  const puppet = await startPuppet(t, file)
  await puppet.ask('login')
  const modes = readdirSync(dirname(file)).map(
    (name) => `${name} ${(statSync(join(dirname(file), name)).mode & 0o777).toString(8)}`,
  )
  t.same(modes.sort(), [
    'store.db 600',
    'store.db-shm 600',
    'store.db-wal 600',
    'store.db.lock 600',
  ])
})

void t.test('no text of a token is in any of its files', async (t) => {
  const file = fileIn(t)
  const puppet = await startPuppet(t, file)
  await puppet.ask('storm')
  await setTimeout(50)
  await puppet.kill()
  for (const name of readdirSync(dirname(file))) {
    t.notOk(readFileSync(join(dirname(file), name)).includes('p-1/'), name)
  }
  t.ok(readFileSync(`${file}-wal`).includes('p-1'), 'the sid is there, so this test would see it')
})

void t.test(
  'sqlite3 can look at it while it is open',
  needs('sqlite3', ['-version'], 'the sqlite3 command'),
  async (t) => {
    const file = fileIn(t)
    const puppet = await startPuppet(t, file)
    await puppet.ask('login')
    const look = () =>
      spawnSync('sqlite3', ['-readonly', file, 'SELECT count(*) FROM sessions'], {
        encoding: 'utf8',
      })
    t.match(look(), { status: 0, stdout: '1\n' })
    t.equal(await puppet.ask('login'), 'ok p-2', 'and nobody waits for it')
    t.match(look(), { status: 0, stdout: '2\n' })
  },
)

const namespace = needs(NAMESPACE[0] ?? '', [...NAMESPACE.slice(1), 'true'], 'mount namespaces')

void t.test(
  'a full disk stops the writes, not the reads, until there is room',
  namespace,
  async (t) => {
    const folder = t.testdir({ disk: {} })
    const script = 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'
    const puppet = await startPuppet(t, join(folder, 'disk/store.db'), {
      before: [...NAMESPACE, 'sh', '-c', script, join(folder, 'disk')],
    })
    t.equal(puppet.opening, 'open')
    t.match(await puppet.ask('login'), /^ok /)
    await puppet.ask('fill')
    let acknowledged = 1
    let answer = ''
    // The log goes back to its start now and then: a few more writes may find room in it.
    for (let index = 0; index < 5000; index++) {
      answer = await puppet.ask('login')
      if (!answer.startsWith('ok')) break
      acknowledged += 1
    }
    t.match(answer, /^unavailable .*make room on its disk$/)
    t.match(await puppet.ask('ping'), /^unavailable .*make room on its disk$/)
    t.equal(
      await puppet.ask('count'),
      `ok ${acknowledged}`,
      'reads go on, and saw no refused login',
    )
    await puppet.ask('free')
    t.match(await puppet.ask('login'), /^ok /, 'it heals by itself')
    t.match(await puppet.ask('ping'), /^ok /)
    t.equal(await puppet.ask('count'), `ok ${acknowledged + 1}`)
  },
)

void t.test('a read-only disk is refused at the start, with its cure', namespace, async (t) => {
  const file = fileIn(t)
  openEngine(file).close()
  const empty = join(dirname(file), 'empty')
  mkdirSync(empty)
  const script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
  const before = [...NAMESPACE, 'sh', '-c', script, dirname(file)]
  const puppet = await startPuppet(t, file, { before })
  t.match(puppet.opening, /^unavailable .*\.lock cannot be written.* unless its disk is read-only$/)
  const without = await startPuppet(t, join(empty, 'store.db'), { before })
  t.match(without.opening, /^unavailable .*writable for the user that Postern runs as$/)
  t.same(readdirSync(empty), [])
})

const canTrace = needs('strace', ['-o', '/dev/null', 'true'], 'strace, and leave to use it')

void t.test('after a failed fsync nothing is written any more', canTrace, async (t) => {
  const puppet = await startPuppet(t, fileIn(t))
  t.match(await puppet.ask('login'), /^ok /)
  const inject = ['-e', 'trace=fsync,fdatasync', '-e', 'inject=fsync,fdatasync:error=EIO']
  const strace = spawn('strace', ['-f', '-o', '/dev/null', ...inject, '-p', String(puppet.pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const detached = once(strace, 'close')
  t.teardown(() => strace.kill('SIGKILL'))
  for await (const line of createInterface({ input: strace.stderr })) {
    if (line.includes('attached')) break
  }
  t.match(await puppet.ask('login'), /^unavailable .*check the disk, then restart Postern$/)
  strace.kill('SIGINT')
  await detached
  // The disk is well again, yet the pages that it dropped are not: only a new start may believe it.
  t.match(await puppet.ask('login'), /^unavailable /)
  t.match(await puppet.ask('ping'), /^unavailable /)
  await puppet.kill()
  const after = await startPuppet(t, join(t.testdirName, 'store.db'))
  t.equal(after.opening, 'open')
  t.match(await after.ask('ping'), /^ok /)
})
