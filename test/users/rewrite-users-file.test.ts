// The rewrite: whole or not at all, with the old owner and mode, and nothing lost between two commands.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  chownSync,
  lstatSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import t from 'tap'
import { rewriteUsersFile } from '../../src/users/rewrite-users-file.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

void t.test(
  'writes the new text, keeps the mode, and returns what the edit returned',
  async (t) => {
    const folder = t.testdir({ users: 'old' })
    chmodSync(`${folder}/users`, 0o604)
    const result = await rewriteUsersFile(`${folder}/users`, (content) => ({
      text: `${content?.toString()} and new`,
      more: 1,
    }))
    t.equal(result.more, 1)
    t.equal(readFileSync(`${folder}/users`, 'utf8'), 'old and new')
    t.equal(statSync(`${folder}/users`).mode & 0o7777, 0o604)
    t.same(readdirSync(folder), ['users'], 'no lock and no half file stay')
  },
)

void t.test('a new file is closed to others, whatever the umask', async (t) => {
  const folder = t.testdir({})
  await rewriteUsersFile(`${folder}/users`, (content) => ({ text: String(content) }))
  t.equal(readFileSync(`${folder}/users`, 'utf8'), 'undefined')
  t.equal(statSync(`${folder}/users`).mode & 0o7777, 0o640)
})

void t.test('an edit without a text, or one that throws, leaves the file alone', async (t) => {
  const folder = t.testdir({ users: 'old' })
  const { ino } = statSync(`${folder}/users`)
  t.same(await rewriteUsersFile(`${folder}/users`, () => ({ refused: true })), { refused: true })
  await t.rejects(
    rewriteUsersFile(`${folder}/users`, () => {
      throw new Error('no')
    }),
  )
  t.equal(statSync(`${folder}/users`).ino, ino)
  t.same(readdirSync(folder), ['users'])
})

void t.test('a link stays a link', async (t) => {
  const folder = t.testdir({ real: { users: 'old' } })
  symlinkSync('real/users', `${folder}/users`)
  await rewriteUsersFile(`${folder}/users`, () => ({ text: 'new' }))
  t.ok(lstatSync(`${folder}/users`).isSymbolicLink())
  t.equal(readFileSync(`${folder}/real/users`, 'utf8'), 'new')
})

void t.test(
  'the owner stays, and a new file gets that of its folder',
  needs(isRoot, 'only root may give a file away'),
  async (t) => {
    const folder = t.testdir({ users: 'old' })
    chownSync(`${folder}/users`, 1001, 1002)
    chownSync(folder, 1003, 1004)
    await rewriteUsersFile(`${folder}/users`, () => ({ text: 'new' }))
    t.match(statSync(`${folder}/users`), { uid: 1001, gid: 1002 })
    await rewriteUsersFile(`${folder}/fresh`, () => ({ text: 'new' }))
    t.match(statSync(`${folder}/fresh`), { uid: 1003, gid: 1004 })
  },
)

void t.test('a rewrite that fails leaves the old file and no rest', async (t) => {
  const folder = t.testdir({ users: { 'in the way': '' } })
  await t.rejects(
    rewriteUsersFile(`${folder}/users`, () => ({ text: 'new' })),
    { code: 'EISDIR' },
  )
  t.same(readdirSync(folder), ['users'])

  // A folder appears where the file is about to go: rename refuses.
  const other = t.testdir({})
  await t.rejects(
    rewriteUsersFile(`${other}/users`, () => {
      t.testdir({ users: { 'in the way': '' }, 'users.lock': '' })
      return { text: 'new' }
    }),
    { code: 'EISDIR' },
  )
  t.same(readdirSync(other), ['users'])
})

void t.test('processes at the same time lose nothing', async (t) => {
  const folder = t.testdir({ users: '' })
  const url = new URL('../../src/users/rewrite-users-file.ts', import.meta.url).href
  const code = `
    import { rewriteUsersFile } from ${JSON.stringify(url)}
    for (let i = 0; i < 10; i++)
      await rewriteUsersFile(process.argv[1], (old) => ({ text: old + process.pid + '\\n' }))`
  const children = Array.from({ length: 3 }, () =>
    spawn(process.execPath, ['--input-type=module', '--eval', code, `${folder}/users`], {
      stdio: 'inherit',
    }),
  )
  for (const [status] of await Promise.all(children.map((child) => once(child, 'exit'))))
    t.equal(status, 0)
  const lines = readFileSync(`${folder}/users`, 'utf8').trim().split('\n')
  t.equal(lines.length, 30)
  t.same(readdirSync(folder), ['users'])
})
