// The sockets and messages of sd_listen_fds(3) and sd_notify(3), against a real datagram socket.
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { createNotifier, listenFds } from '../src/systemd.ts'
import { until } from './fixtures/postern.ts'

const WRAPPER = join(import.meta.dirname, '..', 'systemd', 'notify-exec.pl')
const NONE: ReadonlyMap<string, number> = new Map()
const me = String(process.pid)

// What Node lacks: prints each datagram as a line until one says STOPPING=1.
const RECEIVER = `
use Socket; $| = 1;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, pack_sockaddr_un($ARGV[0])) or die $!; print "up\\n";
while (defined recv($s, my $m, 4096, 0)) {
  last if $m eq 'STOPPING=1';
  $m =~ s/\\n/|/g; print "$m\\n"
}
`

const noPerl = (): string | false => {
  if (spawnSync('which', ['perl']).status === 0) return false
  const cure = 'perl not installed: apt-get install perl-base'
  if (process.env['CI'] === 'true') throw new Error(cure)
  return cure
}
const skip = noPerl()

/** A socket as systemd has it; `received` ends with STOPPING=1, each line break as a `|`. */
const openReceiver = async (t: Test) => {
  // Not t.testdir(): with this tree's path and the test's name it grows past 107 bytes.
  const folder = mkdtempSync(join(tmpdir(), 'postern-notify-'))
  const path = join(folder, 'socket')
  const receiver = spawn('perl', ['-e', RECEIVER, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => {
    receiver.kill()
    rmSync(folder, { recursive: true })
  })
  const lines = receiver.stdout
  await new Promise((resolve) => lines.once('readable', resolve))
  const all = text(lines)
  return { path, received: async () => (await all).trim().split('\n').slice(1) }
}

void t.test('listenFds', async (t) => {
  const cases: readonly (readonly [
    title: string,
    env: Record<string, string>,
    fds: readonly (readonly [string, number])[],
  ])[] = [
    ['started by hand', {}, []],
    [
      'two sockets',
      { LISTEN_PID: me, LISTEN_FDS: '2', LISTEN_FDNAMES: 'http:operator' },
      [
        ['http', 3],
        ['operator', 4],
      ],
    ],
    ['for another process', { LISTEN_PID: '1', LISTEN_FDS: '1', LISTEN_FDNAMES: 'http' }, []],
    ['for nobody', { LISTEN_FDS: '1', LISTEN_FDNAMES: 'http' }, []],
    ['no number', { LISTEN_PID: me, LISTEN_FDS: 'x' }, []],
    ['no names', { LISTEN_PID: me, LISTEN_FDS: '1' }, [['unknown', 3]]],
    [
      'one name three times',
      { LISTEN_PID: me, LISTEN_FDS: '3', LISTEN_FDNAMES: 'a:a:a' },
      [
        ['a', 3],
        ['a.2', 4],
        ['a.3', 5],
      ],
    ],
  ]
  for (const [title, given, fds] of cases) {
    const env = { ...given, HOME: '/' }
    t.same([...listenFds(env)], fds, title)
    t.same(env, { HOME: '/' }, `${title}: nothing is left for children`)
  }
})

void t.test('without NOTIFY_SOCKET nothing is said, and nobody waits', async (t) => {
  const failures: unknown[] = []
  const env = { WATCHDOG_USEC: '1000000', NOTIFY_FD: '999' }
  const notifier = createNotifier(env, NONE, (error) => failures.push(error))
  notifier.ready()
  notifier.ping()
  t.same(failures, [])
  t.equal(notifier.watchdog, undefined)
  t.same(env, {}, 'nothing is left for children')
})

void t.test('the watchdog is pinged twice within its time', async (t) => {
  const cases: readonly (readonly [
    title: string,
    env: Record<string, string>,
    seconds?: number,
  ])[] = [
    ['ours', { WATCHDOG_USEC: '10000000', WATCHDOG_PID: me }, 5],
    ['anybody’s', { WATCHDOG_USEC: '3000000' }, 1.5],
    ['not ours', { WATCHDOG_USEC: '10000000', WATCHDOG_PID: '1' }],
    ['none', {}],
    ['no number', { WATCHDOG_USEC: 'soon' }],
    ['no time', { WATCHDOG_USEC: '0' }],
  ]
  for (const [title, env, seconds] of cases) {
    const { watchdog } = createNotifier({ ...env, NOTIFY_SOCKET: '/none' }, NONE)
    t.same(watchdog, seconds === undefined ? undefined : { intervalSeconds: seconds }, title)
  }
})

void t.test('messages go through the fd that systemd opened, before any other way', async (t) => {
  const file = join(t.testdir({ file: '' }), 'file')
  const fd = openSync(file, 'a')
  const notifier = createNotifier(
    { NOTIFY_SOCKET: '/none', NOTIFY_FD: '999' },
    new Map([['notify', fd]]),
  )
  notifier.ready()
  notifier.status(' one\n  line\tREADY=1')
  notifier.reloading()
  notifier.ready('back')
  notifier.ping()
  notifier.stopping()
  await until('all is written', () => readFileSync(file, 'utf8').endsWith('STOPPING=1'))
  closeSync(fd)
  t.match(
    readFileSync(file, 'utf8'),
    /^READY=1STATUS= one line READY=1RELOADING=1\nMONOTONIC_USEC=\d+READY=1\nSTATUS=backWATCHDOG=1STOPPING=1$/,
  )
})

void t.test('a message that cannot be delivered is reported and never thrown', async (t) => {
  const cases: readonly (readonly [title: string, env: Record<string, string>, message: RegExp])[] =
    [
      ['a closed fd', { NOTIFY_FD: '999' }, /EBADF/],
      ['no number', { NOTIFY_FD: 'none' }, /fd/],
      ['none at all', {}, /fd/],
    ]
  for (const [title, env, message] of cases) {
    const failures: unknown[] = []
    createNotifier({ ...env, NOTIFY_SOCKET: '/nowhere' }, NONE, (error) =>
      failures.push(error),
    ).ready()
    await until(title, () => failures.length > 0)
    t.equal(failures.length, 1, title)
    t.match(String(failures[0]), message, title)
    t.doesNotThrow(() => createNotifier({ ...env, NOTIFY_SOCKET: '/nowhere' }, NONE).ping(), title)
  }
})

/** What a program says, which has a notifier on a pipe that is full. */
const besideFullPipe = async (t: Test, program: string): Promise<unknown> => {
  const pipe = join(t.testdir(), 'pipe')
  execFileSync('mkfifo', [pipe])
  const source = `
    import { openSync, writeSync } from 'node:fs'
    import { Socket } from 'node:net'
    import { createNotifier } from ${JSON.stringify(join(import.meta.dirname, '..', 'src', 'systemd.ts'))}
    const fd = openSync(${JSON.stringify(pipe)}, 'r+')
    writeSync(fd, Buffer.alloc(64 * 1024)) // it is full: the next write does not come back
    const notifier = createNotifier({ NOTIFY_SOCKET: '/none' }, new Map([['notify', fd]]))
    const pings = () => { for (let n = 0; n < 100_000; n++) notifier.ping() }
    ${program}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: {},
    timeout: 20_000,
    killSignal: 'SIGKILL',
  })
  const [said] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [unknown]
  child.kill('SIGKILL')
  return said
}

void t.test('where PID 1 does not read, nothing waits for it', async (t) => {
  t.equal(await besideFullPipe(t, "pings(); process.send('goes on')"), 'goes on')
})

void t.test('of what waits in one moment the oldest pings go, and no state', async (t) => {
  const path = join(t.testdir(), 'notify')
  const fd = openSync(path, 'a')
  t.teardown(() => closeSync(fd))
  const notifier = createNotifier({ NOTIFY_SOCKET: '/none' }, new Map([['notify', fd]]))
  for (let n = 0; n < 10; n++) notifier.ready(`n ${n}`)
  for (let n = 0; n < 100; n++) notifier.ping()
  for (let n = 0; n < 20; n++) notifier.ready()
  notifier.stopping()
  await until('the last one', () => readFileSync(path, 'utf8').endsWith('STOPPING=1'))
  t.match(readFileSync(path, 'utf8'), /^READY=1/)
})

void t.test('among pings that nobody reads no state is lost', async (t) => {
  const program = `
    pings()
    notifier.ready()
    pings()
    for (let n = 0; n < 20; n++) notifier.status('n ' + n)
    notifier.stopping()
    let text = ''
    new Socket({ fd: openSync(${JSON.stringify(join(t.testdirName, 'pipe'))}, 'r') })
      .setEncoding('latin1')
      .on('data', (read) => {
        text += read
        if (text.includes('STOPPING=1')) process.send(text.match(/READY=1|STATUS=n 19|STOPPING=1/g))
      })`
  t.same(await besideFullPipe(t, program), ['READY=1', 'STATUS=n 19', 'STOPPING=1'])
})

void t.test('notify-exec.pl', { skip }, async (t) => {
  const source = `
    import { createNotifier } from ${JSON.stringify(join(import.meta.dirname, '..', 'src', 'systemd.ts'))}
    const fd = process.env.NOTIFY_FD
    const notifier = createNotifier(process.env, new Map())
    notifier.ready(String(process.pid))
    notifier.stopping()
    console.log(JSON.stringify({ fd: fd !== undefined, arguments: process.argv.slice(1) }))`
  const wrap = (env: Record<string, string>, ...argv: string[]) => {
    const child = spawnSync('/usr/bin/perl', [WRAPPER, ...argv], {
      env: { PATH: '/nowhere', ...env },
      encoding: 'utf8',
    })
    return { pid: String(child.pid), status: child.status, out: child.stdout, err: child.stderr }
  }
  const node = [process.execPath, '--input-type=module', '-e', source, 'two words', '$HOME']

  await t.test('the program speaks to systemd as the very process that was started', async (t) => {
    const { path, received } = await openReceiver(t)
    const { pid, status, out, err } = wrap({ NOTIFY_SOCKET: path }, ...node)
    t.same({ status, err }, { status: 0, err: '' })
    t.same(JSON.parse(out), { fd: true, arguments: ['two words', '$HOME'] })
    t.same(await received(), [`READY=1|STATUS=${pid}`])
  })
  await t.test('outside systemd the program just runs', async (t) => {
    const { status, out, err } = wrap({ NOTIFY_FD: '7' }, ...node)
    t.same({ status, err }, { status: 0, err: '' })
    t.match(JSON.parse(out), { fd: false })
  })
  await t.test('where systemd does not listen the program runs, and a line says so', async (t) => {
    const { status, err } = wrap({ NOTIFY_SOCKET: '/nowhere' }, process.execPath, '--version')
    t.equal(status, 0)
    t.equal(err, 'notify-exec.pl: /nowhere: No such file or directory\n')
  })
  await t.test('a program that is not there is named', async (t) => {
    const { status, err } = wrap({}, '/nowhere/postern', 'serve')
    t.not(status, 0)
    t.equal(err, 'notify-exec.pl: cannot run /nowhere/postern: No such file or directory\n')
  })
})
