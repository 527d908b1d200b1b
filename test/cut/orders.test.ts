// The two orders of the cutter, on real connections of the kernel's.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { cookieOf, giveOrders, listenAt, lives } from './orders.ts'

const PROGRAM = join(import.meta.dirname, '..', '..', 'systemd', 'cut.pl')

t.setTimeout(300_000) // milliseconds: 5 s on an idle machine, but it may be shared

void t.test('it is short, and needs nothing that a Debian may lack', (t) => {
  t.ok(readFileSync(PROGRAM, 'utf8').split('\n').length - 1 <= 200)
  const { stdout } = spawnSync(
    'perl',
    ['-e', 'do shift; require IO::File; print join "\\n", keys %INC', PROGRAM],
    { encoding: 'utf8' },
  )
  const modules = stdout.split('\n').filter((name) => name.endsWith('.pm'))
  t.ok(modules.includes('Socket.pm'))
  const { stdout: essential } = spawnSync('dpkg', ['-L', 'perl-base'], { encoding: 'utf8' })
  for (const name of modules) t.ok(essential.includes(`/${name}\n`), name)
  t.end()
})

void t.test('by hand it says who starts it', (t) => {
  const { status, stderr } = spawnSync('perl', [PROGRAM], { encoding: 'utf8' })
  t.not(status, 0)
  t.equal(stderr, '<3>systemd starts this: postern-cut.socket\n')
  t.end()
})

for (const [title, host, through] of [
  ['IPv4', '127.0.0.1', '127.0.0.1'],
  ['IPv6', '::1', '::1'],
  ['IPv4 at a socket of both', '::', '127.0.0.1'],
] as const) {
  void t.test(`${title}: what is looked up can be cut, at once`, NEEDS_CUTTER, async (t) => {
    const service = await listenAt(t, host, through)
    const cutter = await startCutter(t, { ports: [service.port] })
    const { ask } = await giveOrders(t, cutter.socket)
    const [cut, other] = [await service.visit(), await service.visit()]

    const found = await ask('look', cut.ends)
    t.match(found, /^[0-9a-f]{16} 0$/)
    t.equal(await ask('look', cut.ends), found, 'the same name each time')
    t.not(cookieOf(await ask('look', other.ends)), cookieOf(found))
    if (title.startsWith('IPv4')) {
      const plain = cut.ends.replaceAll('::ffff:', '')
      t.equal(await ask('look', plain), found)
      t.equal(await ask('look', plain.replaceAll('127.0.0.1', '::ffff:127.0.0.1')), found, 'mapped')
      t.equal(await ask('look', plain.replaceAll('127.0.0.1', '::FFFF:7f00:1')), found)
    }

    t.equal(await ask('cut', `${cut.ends} ${cookieOf(found)}`), 'cut')
    await cut.ended
    t.equal(await ask('look', cut.ends), 'gone')
    t.equal(await ask('cut', `${cut.ends} ${cookieOf(found)}`), 'gone')
    t.ok(await lives(other))
    await cutter.stop()
    t.equal(cutter.log(), `<6>1 cut, 2 gone, ${title.startsWith('IPv4') ? 6 : 3} looked up\n`)
  })
}

void t.test('what its peer lacks is counted, and cut too', NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const cutter = await startCutter(t, { ports: [service.port] })
  const { ask } = await giveOrders(t, cutter.socket)
  const { ends, served, visitor } = await service.visit()
  visitor.pause()
  served.end(Buffer.alloc(64 * 1024 * 1024))
  await delay(50)
  const [, cookie = '', unsent = 0] = /^([0-9a-f]+) (\d+)$/.exec(await ask('look', ends)) ?? []
  t.ok(Number(unsent) > 1000, `${unsent} bytes`)
  t.equal(await ask('cut', `${ends} ${cookie}`), 'cut')
  t.equal(await ask('look', ends), 'gone')
})

void t.test(
  'what one side or both have closed, and the kernel still sends, is cut',
  NEEDS_CUTTER,
  async (t) => {
    const service = await listenAt(t, '127.0.0.1')
    const cutter = await startCutter(t, { ports: [service.port] })
    const { ask } = await giveOrders(t, cutter.socket)

    const deaf = await service.visit()
    deaf.visitor.end()
    await once(deaf.served, 'end').catch(() => undefined)
    const half = cookieOf(await ask('look', deaf.ends))
    t.equal(await ask('cut', `${deaf.ends} ${half}`), 'cut', 'CLOSE_WAIT')
    await deaf.ended

    // nginx has finished and closed it: no process has it any more.
    const left = await service.visit()
    left.visitor.pause()
    const cookie = cookieOf(await ask('look', left.ends))
    left.served.write(Buffer.alloc(300_000))
    await delay(50)
    left.served.destroy()
    await once(left.served, 'close')
    t.equal(cookieOf(await ask('look', left.ends)), cookie)
    t.equal(await ask('cut', `${left.ends} ${cookie}`), 'cut', 'an orphan')
    t.equal(await ask('look', left.ends), 'gone')
  },
)

void t.test('what waits in TIME_WAIT is gone', NEEDS_CUTTER, async (t) => {
  const service = await listenAt(t, '127.0.0.1')
  const cutter = await startCutter(t, { ports: [service.port] })
  const { ask } = await giveOrders(t, cutter.socket)
  const { ends, served, visitor, ended } = await service.visit()
  const cookie = cookieOf(await ask('look', ends))
  served.end()
  served.resume()
  await once(served, 'finish')
  await delay(20)
  visitor.end()
  await ended
  t.equal(await ask('look', ends), 'gone')
  t.equal(await ask('cut', `${ends} ${cookie}`), 'gone')
})

void t.test(
  'a restart of it is seen, and what it looks up anew can be cut',
  NEEDS_CUTTER,
  async (t) => {
    const service = await listenAt(t, '127.0.0.1')
    const { ends, ended } = await service.visit()
    const first = await startCutter(t, { ports: [service.port] })
    const before = await giveOrders(t, first.socket)
    const cookie = cookieOf(await before.ask('look', ends))
    await first.kill()
    await before.closed

    const second = await startCutter(t, { ports: [service.port], socket: first.socket })
    const { ask, boot } = await giveOrders(t, second.socket)
    t.match(boot, /^1 [0-9a-f]{16}$/)
    t.not(boot, before.boot)
    t.equal(await ask('cut', `${ends} ${cookie}`), 'refused unlooked')
    t.equal(cookieOf(await ask('look', ends)), cookie, 'the kernel calls it as before')
    t.equal(await ask('cut', `${ends} ${cookie}`), 'cut')
    await ended
  },
)

void t.test(
  'it stays while somebody is there, and goes when nobody is',
  NEEDS_CUTTER,
  async (t) => {
    const cutter = await startCutter(t, { ports: [80], idle: 1 })
    const { ask, connection, closed } = await giveOrders(t, cutter.socket)
    await delay(2500)
    t.equal(await ask('look', '127.0.0.1 1 127.0.0.1 80'), 'gone')
    connection.end()
    await closed
    t.equal(await cutter.ended, 0)
    t.equal(cutter.log(), '<6>1 gone\n')
  },
)

void t.test(
  'by its control group: of the one that listens, whoever accepts',
  NEEDS_CUTTER,
  async (t) => {
    // Of this process: where cgroup2 is mounted, and where in it we are.
    const root = / (\S+) cgroup2 /.exec(readFileSync('/proc/self/mounts', 'utf8'))?.[1] ?? ''
    const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? ''
    const service = await listenAt(t, '127.0.0.1')
    const { ends, ended } = await service.visit()
    const of = async (cgroup: string) => {
      const cutter = await startCutter(t, { ports: [service.port], user: 'nobody', cgroup })
      return { cutter, ...(await giveOrders(t, cutter.socket)) }
    }
    const folder = join(root, own)
    if (root === '' || !statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
      t.pass('no cgroup2 here that we are in')
      return
    }
    const another = await of('/etc')
    t.equal(await another.ask('look', ends), 'refused owner')
    t.match(another.cutter.log(), '<4>POSTERN_CUT_CGROUP=/etc: systemctl edit postern-cut')
    const { ask } = await of(folder)
    t.equal(await ask('cut', `${ends} ${cookieOf(await ask('look', ends))}`), 'cut')
    await ended
  },
)
