// script/demo as somebody runs it: it tells its story, ends at every way of ending it, and leaves nothing.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'

import { findClosedPort } from './fixtures/canned-server.ts'
import { nginxMissing } from './fixtures/nginx.ts'
import { until } from './fixtures/postern.ts'
import { ask, V1 } from './nginx/ask.ts'

const ROOT = join(import.meta.dirname, '..')
const LOCK = join(ROOT, 'package-lock.json')

/** The demo sets up what is missing: a test must not be what installs packages. */
const notSetUp = (): string | false => {
  const obstacle = nginxMissing()
  if (obstacle !== false) return obstacle
  const installed = join(ROOT, 'node_modules', '.postern-lock')
  if (existsSync(installed) && readFileSync(installed).equals(readFileSync(LOCK))) return false
  if (process.env['CI'] === 'true') throw new Error('not set up: run script/setup first')
  return 'not set up: run script/setup first'
}

/** The processes that have to do with a folder, by their command lines. */
const processesOf = (folder: string): string[] =>
  readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      } catch {
        return '' // gone meanwhile
      }
    })
    .filter((line) => line.includes(folder))

interface Demo {
  child: ChildProcess
  port: number
  url: string
  text(): string
  ended: Promise<[code: number | null, signal: string | null]>
  /** Resolves when it says that it stands. */
  stands(): Promise<void>
  /** What is there of it: processes, files, an answer on its port. */
  left(): Promise<string[]>
}

const answers = (port: number): Promise<boolean> =>
  ask(port, `${V1}/health`).then(
    () => true,
    () => false,
  )

// Coverage is about src/: the runner's options stay out of the demo and all that it starts.
const PLAIN = ['/usr/bin/env', '-u', 'NODE_OPTIONS']

const start = (
  t: Test,
  port: number,
  wrap: (command: string[]) => string[],
  argv: readonly string[] = [],
): Demo => {
  // A folder for its folder: what is left can be seen.
  const folder = mkdtempSync(join(tmpdir(), 'pd-'))
  chmodSync(folder, 0o755) // nginx's workers pass through it
  const command = wrap([join(ROOT, 'script', 'demo'), '--port', String(port), ...argv])
  const [file = '', ...rest] = [...PLAIN, ...command]
  const child = spawn(file, rest, {
    env: { ...process.env, TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (part: string) => (text += part))
  const ended = once(child, 'exit') as Demo['ended']
  const over = (): boolean => child.exitCode !== null || child.signalCode !== null
  t.teardown(async () => {
    if (!over()) {
      child.kill('SIGTERM')
      await ended
    }
    rmSync(folder, { recursive: true, force: true })
  })
  return {
    child,
    port,
    url: `http://127.0.0.1:${port}`,
    text: () => text,
    ended,
    stands: () =>
      until('the demo stands', () => {
        if (over()) throw new Error(`the demo ended: ${text}`)
        return text.includes('Ctrl-C ends everything')
      }),
    async left() {
      return [
        ...processesOf(folder),
        ...readdirSync(folder),
        ...((await answers(port)) ? ['an answer on its port'] : []),
      ]
    },
  }
}

const plain = (command: string[]): string[] => command
const leavesNothing = (demo: Demo): Promise<void> =>
  until('nothing is left', async () => (await demo.left()).length === 0)

t.setTimeout(900_000) // a dozen demos of some seconds each

void t.test('the demo', { skip: notSetUp() }, async (t) => {
  const port = await findClosedPort()

  await t.test('it tells the whole story beside another demo, and its lines work', async (t) => {
    const other = start(t, await findClosedPort(), plain)
    // As a careful root has it: nginx's workers are another user.
    const careful = (command: string[]) => ['sh', '-c', 'umask 077; exec "$@"', 'sh', ...command]
    const story = start(t, port, careful, ['--check'])
    t.same(await story.ended, [0, null], story.text())
    t.match(story.text(), /The whole story holds\.\n$/)
    t.notMatch(story.text(), /^FAIL/m)
    t.same(await story.left(), [], 'nothing is left when it ends')

    await other.stands()
    // From `# log in` on it is a shell script; the line that listens goes on for ever, so its first message will do.
    const script = other
      .text()
      .split('\n')
      .filter((line) => !line.startsWith('Ctrl-C'))
      .map((line) => (line.includes('text/event-stream') ? `${line} | grep -m1 '^data: '` : line))
    t.notMatch(script.join('\n'), /\?authorization=/, 'no token in an address')
    const begin = script.findIndex((line) => line.startsWith('# log in'))
    const { stdout } = spawnSync('bash', ['-c', script.slice(begin).join('\n')], {
      encoding: 'utf8',
      timeout: 120_000,
    })
    t.match(stdout, /"username":"201"/)
    t.match(stdout, /206 300 bytes/)
    t.match(stdout, /HTTP\/1\.1 401 Unauthorized\r\n[^]*WWW-Authenticate: Bearer/i)
    t.match(stdout, /data: \{"states":/, 'heard')
    t.match(stdout, /"message":"Logged out successfully"/)
    t.match(stdout, /HTTP\/1\.1 401[^]*$/, 'out after the logout')

    const again = start(t, other.port, plain)
    t.same(await again.ended, [1, null], 'a port that is taken')
    t.match(again.text(), `demo: port ${other.port} is taken: choose another with --port N\n`)
    t.same(await again.left().then((left) => left.filter((what) => !what.includes('port'))), [])

    other.child.kill('SIGTERM')
    t.same(await other.ended, [0, null])
    t.same(await other.left(), [])
  })

  await t.test(
    'SIGINT to its pid alone ends it, also where the shell has it ignored',
    async (t) => {
      // A background job of a shell without job control ignores SIGINT from its birth.
      const demo = start(t, port, (command) => [
        'bash',
        '-c',
        '"$@" & echo "pid $!"; wait $!; echo "ended $?"',
        'bash',
        ...command,
      ])
      await demo.stands()
      const pid = Number(/^pid (\d+)$/m.exec(demo.text())?.[1])
      process.kill(pid, 'SIGINT')
      await demo.ended
      t.match(demo.text(), /^ended 0$/m)
      t.same(await demo.left(), [])
    },
  )

  await t.test('a closed terminal ends it', async (t) => {
    const demo = start(t, port, (command) => [
      'script',
      '--quiet',
      '--command',
      command.join(' '),
      '/dev/null',
    ])
    await demo.stands()
    // The terminal's other side is gone: the kernel tells the demo.
    demo.child.kill('SIGKILL')
    await demo.ended
    await leavesNothing(demo)
    t.pass('nothing is left')
  })

  await t.test('it ends where nobody reads what it says', async (t) => {
    const demo = start(t, port, plain)
    demo.child.stdout?.destroy()
    t.same(await demo.ended, [129, null])
    t.same(await demo.left(), [])
  })

  await t.test('killed, it takes its parts along', async (t) => {
    const demo = start(t, port, plain)
    await demo.stands()
    demo.child.kill('SIGKILL')
    await demo.ended
    await until('no process is left', async () =>
      (await demo.left()).every((what) => what.startsWith('postern-demo-')),
    )
    t.pass('no process is left; its folder is, which nobody could remove')
  })

  await t.test('a port that a stranger has', async (t) => {
    const stranger = createServer().listen(0, '127.0.0.1')
    await once(stranger, 'listening')
    const address = stranger.address()
    const taken = typeof address === 'object' && address !== null ? address.port : 0
    const demo = start(t, taken, plain, ['--check'])
    t.same(await demo.ended, [1, null])
    t.match(demo.text(), `demo: port ${taken} is taken: choose another with --port N\n`)
    stranger.close()
    await once(stranger, 'close')
    t.same(await demo.left(), [])
  })
})

void t.test('wrong usage is told before anything is set up', (t) => {
  // Alone: a script/setup that it ran would be missed.
  const script = join(t.testdir({ script: {} }), 'script', 'demo')
  copyFileSync(join(ROOT, 'script', 'demo'), script)
  const run = (...argv: string[]) => {
    const [file = '', ...rest] = [...PLAIN, script, ...argv]
    return spawnSync(file, rest, { encoding: 'utf8' })
  }
  const wrong = ['--port', '--port 0', '--port 65536', '--port=080', '--port x', '--prot', 'x']
  for (const argv of wrong) {
    const ran = run(...argv.split(' '))
    t.match(ran, { status: 64, stdout: '', stderr: /^demo: .*\nusage: script\/demo/ }, argv)
  }
  for (const help of ['-h', '--help']) t.match(run(help), { status: 0, stdout: /^usage: script/ })
  t.match(run('--port=1', '--check'), { status: 127 }, 'good words go on to the set-up')
  t.end()
})
