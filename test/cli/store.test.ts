// `postern store`: a backup taken while the daemon runs, its way back, and what a restore ends.

import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { machineKey } from '../../src/cli/machine-key.ts'
import { session } from '../../src/cli/session.ts'
import { createStoreCommand, store } from '../../src/cli/store.ts'
import { bearer, startTestDaemon, V1, V3 } from '../fixtures/daemon.ts'
import { isRoot, needs } from '../fixtures/needs.ts'
import { makePlace } from '../fixtures/postern.ts'
import { traceFs } from '../fixtures/trace-fs.ts'
import { runCommand } from './run.ts'

/** A backup with one session, which is logged out after it; and a login later than the backup. */
const logOutAfterBackup = async (t: Test) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const command = createStoreCommand(daemon.clock)
  const run = (...argv: string[]) => runCommand(command, [...argv, '--config', place.config])
  const early = await daemon.softphone('201')
  const backup = place.at('backup.db')
  t.match(await run('backup', backup), {
    status: 0,
    out: /live sessions: 1\. The keys are not in it/,
  })
  daemon.clock.advance(2)
  const late = await daemon.softphone('202')
  await daemon.ask(`${V1}/auth/logout`, { method: 'POST', headers: bearer(early.access) })
  t.equal((await daemon.check(early.access)).status, 401)
  return { daemon, place, run, early, late, backup }
}

void t.test('a restore ends what lives in the backup and what it does not know', async (t) => {
  const { daemon, place, run, early, late, backup } = await logOutAfterBackup(t)
  t.equal(statSync(backup).mode & 0o777, 0o600)
  t.match(await run('backup', backup), { status: 1, err: /is there already/ })
  const stop = /stop it with its sockets.*\(systemctl stop postern\.socket/
  t.match(await run('restore', backup), { status: 1, err: stop }, 'it runs')

  await daemon.stop()
  const restored = await run('restore', backup)
  t.match(restored, { status: 0, out: /restored; sessions ended: 1\. The old one is/ })
  t.match(restored.err, /Everybody logs in again/)
  t.ok(existsSync(place.at('state', 'store.db.before-restore')))
  await daemon.start()
  for (const { access } of [early, late]) {
    t.match((await daemon.check(access)).header('x-auth-reason'), 'session_ended')
  }
  await daemon.restart()
  t.equal((await daemon.check(late.access)).status, 401, 'the epoch survives a restart')
  daemon.clock.advance(2)
  t.equal((await daemon.check((await daemon.softphone('201')).access)).status, 204)
})

void t.test('--keep-sessions says which sessions live again', async (t) => {
  const { daemon, place, run, early, late, backup } = await logOutAfterBackup(t)
  await daemon.stop()
  const restored = await run('restore', '--keep-sessions', backup)
  t.match(restored, { status: 0, out: /restored; live sessions: 1\. The old one is/ })
  t.match(restored.err, /live again by this restore: 1\n {2}201 {2}\S+ {2}since 2027-01-15T/)
  t.match(restored.err, /postern session end --all/)
  await daemon.start()
  t.equal((await daemon.check(early.access)).status, 204, 'its logout is undone')
  t.equal((await daemon.check(late.access)).status, 204, 'no session of the store stands behind it')
  t.match(await runCommand(session, ['end', '--all', '--config', place.config]), {
    status: 0,
    out: '1 session ended',
  })
  t.equal((await daemon.check(late.access)).status, 401)

  await daemon.stop()
  writeFileSync(place.at('state', 'store.db'), 'no database any more')
  const again = await run('restore', '--keep-sessions', backup)
  t.match(
    again.err,
    /live again by this restore: 1\n/,
    'what stood there cannot be read: all of them',
  )
})

void t.test('a restore ends machine keys too, and names those that live again', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const at = ['--config', place.config]
  const run = (...argv: string[]) => runCommand(store, [...argv, ...at])
  const keys = (...argv: string[]) => runCommand(machineKey, [...argv, ...at])
  const add = async (name: string) => (await keys('add', name, '--grants', 'read:**')).out
  const [stays, goes] = [await add('stays'), await add('goes')]
  const backup = place.at('backup.db')
  t.equal((await run('backup', backup)).status, 0)
  t.equal((await keys('remove', 'goes')).status, 0)
  await daemon.stop()
  const kept = await run('restore', '--keep-sessions', backup)
  t.match(kept.err, /\n {2}machine key goes {2}key_[0-9a-f]{16}: remove it if it was removed\n/)
  t.notMatch(kept.err, 'machine key stays')
  await daemon.start()
  t.equal((await daemon.check(goes)).status, 204, 'its removal is undone, and said')
  await daemon.stop()
  const ended = await run('restore', backup)
  t.match(
    ended.err,
    /Its machine keys count no more: add them anew \((?:goes, stays|stays, goes)\)\./,
  )
  await daemon.start()
  for (const key of [stays, goes]) {
    t.equal((await daemon.check(key)).header('x-auth-reason'), 'session_ended')
  }
})

void t.test('what was unseen when a backup was made may have been seen since', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const run = (...argv: string[]) => runCommand(store, [...argv, '--config', place.config])
  const refresh = (token: string) =>
    daemon.ask(`${V3}/auth:refresh`, {
      method: 'POST',
      headers: { Cookie: `refreshToken=${token}` },
    })
  const { refresh: first } = await daemon.mikopbx()
  t.equal((await refresh(first)).status, 200)
  t.equal((await run('backup', place.at('backup.db'))).status, 0)
  daemon.clock.advance(60)
  t.equal((await refresh(first)).status, 200, 'the backup takes nothing from the store itself')
  await daemon.stop()
  t.equal((await run('restore', '--keep-sessions', place.at('backup.db'))).status, 0)
  await daemon.start()
  t.equal((await refresh(first)).status, 401, 'it counts as stolen')
})

void t.test('a power cut takes back neither a backup nor a restored store', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const run = (...argv: string[]) => runCommand(store, [...argv, '--config', place.config])
  await daemon.stop()
  const steps = traceFs(t)
  t.equal((await run('backup', place.at('state', 'backup.db'))).status, 0)
  t.same(steps.splice(0), ['sync backup.db.part', 'rename backup.db.part backup.db', 'sync state'])
  t.equal((await run('restore', place.at('state', 'backup.db'))).status, 0)
  t.same(steps.slice(-3), [
    'sync store.db.restored',
    'rename store.db.restored store.db',
    'sync state',
  ])
})

void t.test('a damaged or foreign backup touches nothing', async (t) => {
  const daemon = await startTestDaemon(t)
  const { place } = daemon
  const file = place.at('bad.db')
  const run = (name: string) => runCommand(store, ['restore', name, '--config', place.config])
  await runCommand(store, ['backup', file, '--config', place.config])
  await daemon.stop()
  const before = readFileSync(place.at('state', 'store.db'))
  truncateSync(file, 5000)
  t.match(await run(file), { status: 74, err: /damaged/ })
  writeFileSync(file, 'no database at all, but long enough to look like one')
  t.match(await run(file), { status: 74, err: /damaged/ })
  t.match(await run(place.at('nowhere.db')), { status: 74, err: /nowhere/ })
  t.same(readFileSync(place.at('state', 'store.db')), before)
  await daemon.start()
})

void t.test('wrong usage and a bad configuration say so', async (t) => {
  const place = makePlace(t)
  for (const argv of [[], ['frob', 'x'], ['backup'], ['backup', 'a', 'b'], ['backup', '--frob']]) {
    const { status, err } = await runCommand(store, argv)
    t.equal(status, 64, argv.join(' '))
    t.match(err, /usage: postern store/)
  }
  const standard = await runCommand(store, ['backup', place.at('standard')])
  t.ok(standard.status !== 64, 'without --config it is the one of /etc')
  place.configure({ listen: 'frob = 1' })
  t.equal((await runCommand(store, ['backup', 'x', '--config', place.config])).status, 78)
  place.configure()
  const none = await runCommand(store, ['backup', place.at('x'), '--config', place.config])
  t.match(none, { status: 74, err: /store\.db/ }, 'there is nothing to back up')
})

void t.test('a shared store is no file to back up or restore', async (t) => {
  const place = makePlace(t, { store: 'url = "redis://127.0.0.1:1"' })
  for (const verb of ['backup', 'restore']) {
    const { status, out, err } = await runCommand(store, [verb, '/none', '--config', place.config])
    t.same([status, out], [1, ''])
    t.match(err, `${verb === 'backup' ? 'back up' : verb} its Redis`)
  }
})

void t.test(
  'root follows no link of the service out of its folder',
  needs(isRoot, 'only root can become the owner'),
  async (t) => {
    const daemon = await startTestDaemon(t)
    const { place } = daemon
    const run = (...argv: string[]) => runCommand(store, [...argv, '--config', place.config])
    const backup = place.at('backup.db')
    t.equal((await run('backup', backup)).status, 0)
    await daemon.stop()
    const state = place.at('state')
    const NOBODY = 65_534
    for (const name of ['', ...readdirSync(state)]) chownSync(join(state, name), NOBODY, NOBODY)
    chmodSync(place.folder, 0o755)
    rmSync(join(state, 'store.db.lock'))
    symlinkSync(place.at('precious'), join(state, 'store.db.lock'))
    symlinkSync(place.at('precious'), join(state, 'store.db.restored'))
    t.not((await run('restore', backup).catch(() => ({ status: 1 }))).status, 0)
    t.notOk(existsSync(place.at('precious')), 'nothing was made where the link leads')
    rmSync(join(state, 'store.db.lock'))
    t.equal((await run('restore', backup)).status, 0)
    for (const name of ['store.db', 'store.db.lock']) {
      t.match(lstatSync(join(state, name)), { uid: NOBODY, gid: NOBODY }, name)
    }
    t.notOk(existsSync(place.at('precious')))
    t.same([process.geteuid?.(), process.getegid?.()], [0, 0], 'and is root again')
  },
)
