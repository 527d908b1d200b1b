// The machine around Postern, on real files, sockets and users.

import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'

import { checkClock, checkClosed, checkNode, checkSocket, idsOf } from '../../src/doctor/host.ts'
import { NOW } from '../fixtures/clock.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

const CURES = { absent: 'start it', closed: 'open it' }

void t.test('a socket is reachable by its mode, its group and its folder', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-h-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  const path = join(folder, 's.sock')
  const mine = process.getgid?.() ?? 0
  const stranger = { uid: 54_321, gids: new Set([54_321]) }
  const member = { uid: 54_321, gids: new Set([mine]) }
  const check = (ids: typeof member | undefined) => checkSocket('s', path, 'u', ids, CURES)
  t.match(check(stranger), { state: 'problem', text: 'is not there', cure: 'start it' })
  symlinkSync(path, path) // as root nothing is closed to us: what cannot be looked at is this
  t.match(check(stranger), { state: 'warning', text: /^cannot be looked at/, cure: /as root/ })
  rmSync(path)
  writeFileSync(path, '')
  t.match(check(stranger), { state: 'problem', text: 'is no socket' })
  rmSync(path)
  const server = createServer().listen(path)
  await once(server, 'listening')
  t.teardown(() => server.close())
  t.match(check(undefined), { state: 'warning', text: 'the user u does not exist' })
  const rows: readonly (readonly [number, number, typeof member, string])[] = [
    [0o750, 0o660, member, 'ok'],
    [0o750, 0o660, stranger, 'problem'],
    [0o755, 0o666, stranger, 'ok'],
    [0o700, 0o660, member, 'problem'],
    [0o750, 0o600, member, 'problem'],
    [0o700, 0o600, { uid: process.getuid?.() ?? 0, gids: new Set<number>() }, 'ok'],
    [0o700, 0o600, { uid: 0, gids: new Set<number>() }, 'ok'],
  ]
  for (const [directory, mode, ids, state] of rows) {
    chmodSync(path, mode)
    chmodSync(folder, directory)
    t.equal(check(ids).state, state, `${directory.toString(8)} ${mode.toString(8)} ${ids.uid}`)
  }
})

void t.test(
  'the owner of a socket can open it',
  needs(isRoot, 'only root may give files away'),
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-h-'))
    const path = join(folder, 's.sock')
    const server = createServer().listen(path)
    await once(server, 'listening')
    t.teardown(() => {
      server.close()
      rmSync(folder, { recursive: true, force: true })
    })
    const owner = { uid: 54_321, gids: new Set<number>() }
    chownSync(path, owner.uid, 0)
    chownSync(folder, owner.uid, 0)
    chmodSync(folder, 0o700)
    chmodSync(path, 0o600)
    t.equal(checkSocket('s', path, 'u', owner, CURES).state, 'ok')
    chmodSync(path, 0o400)
    t.equal(checkSocket('s', path, 'u', owner, CURES).state, 'problem')
  },
)

void t.test('users are looked up where the system keeps them', (t) => {
  t.match(idsOf('root'), { uid: 0 })
  t.equal(idsOf('nobody-of-this-name'), undefined)
  t.end()
})

void t.test('a folder with private sockets is closed to others', (t) => {
  const folder = t.testdir({ f: {} })
  const at = join(folder, 'f')
  chmodSync(at, 0o750)
  t.equal(checkClosed('k', at).state, 'ok')
  chmodSync(at, 0o755)
  t.match(checkClosed('k', at), { state: 'problem', cure: `chmod 0750 ${at}` })
  t.match(checkClosed('k', join(folder, 'gone')), { state: 'problem', text: 'is not there' })
  mkdirSync(join(folder, 'gone'))
  t.end()
})

void t.test('an old Node, or one that nobody updated, is named', (t) => {
  const binary = join(t.testdir({ node: '' }), 'node')
  const aged = (days: number): void => utimesSync(binary, NOW - days * 86_400, NOW - days * 86_400)
  aged(3)
  t.match(checkNode('v24.21.0', binary, NOW), { state: 'ok' })
  t.match(checkNode('v26.0.0', binary, NOW), { state: 'ok' })
  t.match(checkNode('v24.14.1', binary, NOW), { state: 'problem' })
  t.match(checkNode('v20.20.2', binary, NOW), {
    state: 'problem',
    cure: 'install Node v24.15 or later',
  })
  t.match(checkNode('odd', binary, NOW), { state: 'problem' })
  aged(200)
  t.match(checkNode('v24.21.0', binary, NOW), { state: 'warning', text: /200 days ago/ })
  t.end()
})

void t.test('a clock that is not known to be synchronised is worth a word', (t) => {
  const { PATH } = process.env
  const folder = t.testdir({ timedatectl: '#!/bin/sh\necho yes\n' })
  chmodSync(join(folder, 'timedatectl'), 0o755)
  t.teardown(() => {
    process.env['PATH'] = PATH
  })
  process.env['PATH'] = `${folder}:/bin:/usr/bin`
  t.match(checkClock(), { state: 'ok' })
  process.env['PATH'] = '/nowhere'
  t.match(checkClock(), { state: 'warning' })
  t.end()
})
