// The file that jails read: appended to, reopened, and never a reason to stop.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openSecurityLog } from '../src/security-log.ts'
import { until } from './fixtures/postern.ts'

const TIME = new Date('2026-11-22T04:05:06.789Z')

const line = (user: string) => ({
  event: 'AUTH_FAILED',
  message: 'wrong password',
  address: '192.0.2.1',
  user,
})

const usersIn = (file: string): string[] =>
  Array.from(
    readFileSync(file, 'utf8').matchAll(/^\[AUTH_FAILED\] .* User: (\S+) .*Z$/gm),
    (m) => m[1] ?? '',
  )

const never = (error: unknown): void => {
  throw error
}

void t.test('each event is a line, after those that are there already', async (t) => {
  const file = join(t.testdir(), 'security.log')
  const first = openSecurityLog(file, never)
  first.write(line('one'), TIME)
  first.write(line('two'), TIME)
  await first.close()
  const second = openSecurityLog(file, never)
  second.write(line('three'), TIME)
  await second.close()
  t.same(usersIn(file), ['one', 'two', 'three'])
  t.equal(readFileSync(file, 'utf8').split('\n').length, 4)
})

void t.test('others learn no user names', async (t) => {
  const file = join(t.testdir(), 'security.log')
  const before = process.umask(0)
  t.teardown(() => process.umask(before))
  await openSecurityLog(file, never).close()
  t.equal((statSync(file).mode & 0o777).toString(8), '640')
})

void t.test(
  'F34: after logrotate has moved the file, the next lines go to a new one',
  async (t) => {
    const file = join(t.testdir(), 'security.log')
    const log = openSecurityLog(file, never)
    t.teardown(() => log.close())
    log.write(line('one'), TIME)
    renameSync(file, `${file}.1`)
    log.write(line('two'), TIME)
    log.reopen(file)
    log.write(line('three'), TIME)
    await until('all is written', () => usersIn(file).length + usersIn(`${file}.1`).length === 3)
    t.same(usersIn(file), ['three'])
    t.same(usersIn(`${file}.1`), ['one', 'two'], 'until it is told')
  },
)

void t.test(
  'F34: where it cannot be reopened the old file goes on, and it is counted',
  async (t) => {
    const folder = join(t.testdir(), 'logs')
    mkdirSync(folder)
    const lost: unknown[] = []
    const file = join(folder, 'security.log')
    const log = openSecurityLog(file, (error) => lost.push(error))
    t.teardown(() => log.close())
    renameSync(folder, `${folder}.away`)
    log.reopen(file)
    t.match(lost, [{ code: 'ENOENT' }])
    log.write(line('one'), TIME)
    const old = join(`${folder}.away`, 'security.log')
    await until('it is written', () => usersIn(old).length > 0)
    t.same(usersIn(old), ['one'])
    t.equal(lost.length, 1)
    rmSync(`${folder}.away`, { recursive: true })
  },
)

void t.test('F34: a line that a full disk takes not is counted, and nothing stops', async (t) => {
  const lost: unknown[] = []
  const log = openSecurityLog('/dev/full', (error) => lost.push(error))
  log.write(line('one'), TIME)
  await until('it is counted', () => lost.length > 0)
  t.match(lost, [{ code: 'ENOSPC' }])
  await log.close()
})

void t.test('a disk that hangs holds up nothing, and what waits for it is bounded', async (t) => {
  const pipe = join(t.testdir(), 'security.log')
  execFileSync('mkfifo', [pipe])
  // Somebody has it open and never reads: a write beyond 64 KiB does not come back.
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `const { openSync } = await import('node:fs')
      const { openSecurityLog } = await import(${JSON.stringify(new URL('../src/security-log.ts', import.meta.url).href)})
      openSync(${JSON.stringify(pipe)}, 'r+')
      let lost = 0
      const log = openSecurityLog(${JSON.stringify(pipe)}, () => lost++)
      const line = { event: 'AUTH_FAILED', message: 'x'.repeat(200), address: '192.0.2.1', user: '201' }
      for (let n = 0; n < 20_000; n++) log.write(line, new Date())
      process.send({ lost })`,
    ],
    {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: {},
      timeout: 20_000,
      killSignal: 'SIGKILL',
    },
  )
  const [said] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [unknown]
  t.ok((said as { lost?: number } | null)?.lost ?? 0, 'it goes on, and counts what it dropped')
  child.kill('SIGKILL')
})

void t.test('a path that cannot be opened is a fault at start', async (t) => {
  const folder = t.testdir()
  writeFileSync(join(folder, 'file'), '')
  t.throws(() => openSecurityLog(join(folder, 'file', 'security.log'), never), { code: 'ENOTDIR' })
  t.throws(() => openSecurityLog(folder, never), { code: 'EISDIR' })
})

void t.test('no path, no file; a reload may name one, another, or none again', async (t) => {
  const folder = t.testdir()
  const log = openSecurityLog('', never)
  log.write(line('zero'), TIME)
  log.reopen('')
  log.reopen(join(folder, 'a.log'))
  log.write(line('one'), TIME)
  log.reopen(join(folder, 'b.log'))
  log.write(line('two'), TIME)
  log.reopen('')
  log.write(line('three'), TIME)
  await log.close()
  await until('a.log is written', () => usersIn(join(folder, 'a.log')).length > 0)
  await until('b.log is written', () => usersIn(join(folder, 'b.log')).length > 0)
  t.same(usersIn(join(folder, 'a.log')), ['one'])
  t.same(usersIn(join(folder, 'b.log')), ['two'])
})
