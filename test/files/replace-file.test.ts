// Drafts and renames: whole or not at all, private from the first byte, and synced before the name is.
import { chownSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { createFile, renameDurably, replaceFile } from '../../src/files/replace-file.ts'
import { isRoot, needs } from '../fixtures/needs.ts'
import { traceFs } from '../fixtures/trace-fs.ts'

const OURS = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0 }

void t.test('bytes are synced, then named, then the name is', (t) => {
  const folder = join(t.testdir({ folder: { file: 'old', written: 'copy' } }), 'folder')
  const file = join(folder, 'file')
  const steps = traceFs(t)
  replaceFile(file, 'new', { owner: OURS, mode: 0o640 })
  t.same(steps.splice(0), ['sync file.draft', 'rename file.draft file', 'sync folder'])
  t.equal(readFileSync(file, 'utf8'), 'new')
  t.equal(statSync(file).mode & 0o7777, 0o640)

  createFile(join(folder, 'made'), 'text')
  t.same(steps.splice(0), ['sync made.draft', 'link made.draft made', 'sync folder'])
  t.equal(statSync(join(folder, 'made')).mode & 0o7777, 0o600)

  renameDurably(join(folder, 'written'), file)
  t.same(steps, ['sync written', 'rename written file', 'sync folder'])
  t.equal(readFileSync(file, 'utf8'), 'copy')
  t.same(readdirSync(folder), ['file', 'made'], 'no draft is left')
  t.end()
})

void t.test('of two that make a file the first wins', (t) => {
  const folder = t.testdir({ file: 'first' })
  createFile(join(folder, 'file'), 'second')
  t.equal(readFileSync(join(folder, 'file'), 'utf8'), 'first')
  t.same(readdirSync(folder), ['file'])
  t.end()
})

void t.test('a link is replaced, and what it points to stays', (t) => {
  const folder = t.testdir({ elsewhere: 'theirs' })
  symlinkSync('elsewhere', join(folder, 'file'))
  replaceFile(join(folder, 'file'), 'ours', { owner: OURS, mode: 0o600 })
  t.notOk(lstatSync(join(folder, 'file')).isSymbolicLink())
  t.equal(readFileSync(join(folder, 'elsewhere'), 'utf8'), 'theirs')
  t.end()
})

void t.test('what fails leaves the old file and no draft', (t) => {
  const folder = t.testdir({ file: 'old' })
  const file = join(folder, 'file')
  const faults: { sync?: Error; link?: Error } = { sync: new Error('no space left') }
  traceFs(t, faults)
  t.throws(() => replaceFile(file, 'new', { owner: OURS, mode: 0o600 }), {
    message: 'no space left',
  })
  t.throws(() => createFile(join(folder, 'made'), 'new'), { message: 'no space left' })
  delete faults.sync
  faults.link = new Error('no links here')
  t.throws(() => createFile(join(folder, 'made'), 'new'), { message: 'no links here' })
  t.equal(readFileSync(file, 'utf8'), 'old')
  t.same(readdirSync(folder), ['file'])
  t.end()
})

void t.test('a directory in the way is a fault', (t) => {
  const folder = t.testdir({ file: { 'in the way': '' } })
  const file = join(folder, 'file')
  t.throws(() => replaceFile(file, 'new', { owner: OURS, mode: 0o600 }), { code: 'EISDIR' })
  t.same(readdirSync(folder), ['file'])
  t.end()
})

void t.test('the owner is given', needs(isRoot, 'only root may give a file away'), async (t) => {
  const folder = t.testdir({ file: 'old' })
  const file = join(folder, 'file')
  chownSync(file, 1001, 1002)
  replaceFile(file, 'new', { owner: statSync(file), mode: 0o604 })
  t.match(statSync(file), { uid: 1001, gid: 1002 })
  t.equal(statSync(file).mode & 0o7777, 0o604)
})
