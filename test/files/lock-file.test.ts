// The lock: one holder at a time, and a killed one holds nobody up.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { lockFile } from '../../src/files/lock-file.ts'

const deadPid = (): number => spawnSync(process.execPath, ['--version']).pid

void t.test('is held by one at a time, and names its process', async (t) => {
  const folder = t.testdir({})
  const lock = `${folder}/users.lock`
  const release = await lockFile(lock)
  t.equal(readFileSync(lock, 'utf8'), `${process.pid}\n`)

  let entered = false
  const second = lockFile(lock).then((release) => {
    entered = true
    return release
  })
  await t.rejects(lockFile(lock, 0), {
    name: 'LockError',
    message: /remove that file if none does/,
  })
  t.equal(entered, false)
  release()
  ;(await second)()
  t.same(readdirSync(folder), [], 'nothing is left behind')
})

void t.test('many at once take turns, also over the lock of a dead process', async (t) => {
  const folder = t.testdir({ 'users.lock': `${deadPid()}\n` })
  let inside = 0
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const release = await lockFile(`${folder}/users.lock`)
      t.equal(++inside, 1)
      await Promise.resolve()
      inside--
      release()
    }),
  )
  t.same(readdirSync(folder), [])
})

void t.test('is not taken from a living process, nor when it is unclear whose it is', async (t) => {
  for (const content of [`${process.ppid}\n`, '1\n', '', 'nonsense', '0', '-1']) {
    const lock = `${t.testdir({ 'users.lock': content })}/users.lock`
    await t.rejects(lockFile(lock, 0), { name: 'LockError' }, JSON.stringify(content))
    t.equal(readFileSync(lock, 'utf8'), content)
  }
})

void t.test('is not taken over while another process is about to', async (t) => {
  const lock = `${t.testdir({ 'users.lock': `${deadPid()}\n`, 'users.lock.takeover': '1\n' })}/users.lock`
  await t.rejects(lockFile(lock, 0), { name: 'LockError' })
  t.ok(existsSync(lock))
})

void t.test('a folder that is not there is a fault', async (t) => {
  await t.rejects(lockFile(`${t.testdir({})}/gone/users.lock`), { code: 'ENOENT' })
  const file = `${t.testdir({ file: '' })}/file`
  writeFileSync(file, 'x')
  await t.rejects(lockFile(`${file}/users.lock`), { code: 'ENOTDIR' })
})
