// The pieces of the demo: Postern, nginx and what stands behind nginx, started as ordinary processes in a
// folder of their own and stopped in the reverse order. Nothing may be left behind.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, request, type Server } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

import { uncomment } from './commented.ts'
import { cutterCommand } from './cutter.ts'
import { DIES_WITH_US, layOutNginx, nginxCommand } from './nginx.ts'
import { layOutPage } from './page.ts'
import { createProducer } from './producer.ts'
import { writeRecording } from './recording.ts'

export const PASSWORD = 'b749601f329a635a19c4a87bc359be3d' // the one that the documents' curl lines use
export const BASE = '/pbxcore/api/module-softphone-backend/v1'
export const PBX = '/pbxcore/api/v3'
/** As FreePBX names them. 201 took part in the first and the last; the second is 202's own. */
export const RECORDINGS = [
  '2026/11/22/internal-202-201-20261122-101500-1795342500.12.wav',
  '2026/11/22/external-202-15551230100-20261122-113000-1795347000.14.wav',
  '2026/11/21/internal-201-900-20261121-090000-1795251600.3.wav',
] as const

const USERS = [
  ['201', 'user', 'Anna Arbor'],
  ['202', 'user', 'Ben Berg'],
  ['900', 'admin', 'Operator'],
] as const

const ROOT = join(import.meta.dirname, '..')
const NODE = process.execPath
const MAIN = join(ROOT, 'src', 'main.ts')
const START_LIMIT = 15 // seconds
const PATIENCE = 1000 // milliseconds: a stranger on our port may accept and say nothing
const LONGEST = 240 // seconds of the first recording: more than a browser fetches ahead, so that seeking is asked for
const STATES = ['Idle', 'Ringing', 'Up', 'OnHold'] as const

export interface Site {
  url: string
  folder: string
  /** Whatever nginx and the daemon have logged so far. */
  logs(): string
  publish(channel: string, message: string): Promise<number>
  /** A `postern` command; what it prints. */
  run(...argv: readonly string[]): string
  /** Whether the kernel ends what nginx proxies (only root may have it do so). */
  cuts: boolean
  /** Resolves with the name of a part that ended by itself: the demo is over then. */
  failed: Promise<string>
  stop(): Promise<void>
}

const run = (argv: readonly string[], input: string): string => {
  const { status, stdout, stderr } = spawnSync(NODE, [MAIN, ...argv], { input, encoding: 'utf8' })
  if (status !== 0) throw new Error(`postern ${argv.join(' ')}: ${stderr}`)
  return stdout.trim()
}

/** The status of a request over TCP or a unix socket, or 0 where nobody answers. */
const statusOf = async (url: string, socketPath?: string): Promise<number> => {
  const signal = AbortSignal.timeout(PATIENCE)
  const asked = request(url, { signal, ...(socketPath !== undefined && { socketPath }) })
  asked.end()
  try {
    const [response] = (await once(asked, 'response')) as [{ statusCode?: number; resume(): void }]
    response.resume()
    return response.statusCode ?? 0
  } catch {
    return 0
  }
}

/** Whether whoever listens there says something by itself, as the cutter does. */
const greets = async (socketPath: string): Promise<boolean> => {
  const socket = connect(socketPath)
  try {
    await once(socket, 'data', { signal: AbortSignal.timeout(PATIENCE) })
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

interface Part {
  name: string
  child: ChildProcess
  said(): string
}

const until = async ({ name, child, said }: Part, ask: () => Promise<boolean>): Promise<void> => {
  const deadline = performance.now() / 1000 + START_LIMIT
  while (!(await ask())) {
    if (child.exitCode !== null || performance.now() / 1000 > deadline) {
      throw new Error(`${name} did not start:\n${said()}`)
    }
    await delay(50)
  }
}

const end = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const stubborn = setTimeout(() => child.kill('SIGKILL'), 8000)
  await exited
  clearTimeout(stubborn)
}

/** What stands behind nginx: an application that says who nginx tells it is there, and Asterisk's WebSocket. */
const startApplication = async (socket: string): Promise<Server> => {
  const server = createServer((asked, response) => {
    response.setHeader('Content-Type', 'application/json')
    response.end(
      JSON.stringify({
        path: asked.url,
        user: asked.headers['x-auth-user'] ?? '',
        role: asked.headers['x-auth-role'] ?? '',
      }),
    )
  })
  server.on('upgrade', (asked, connection) => {
    const key = String(asked.headers['sec-websocket-key'])
    const accept = createHash('sha1')
      .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64')
    connection.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: sip\r\n\r\n`,
    )
    connection.on('error', () => connection.destroy())
  })
  server.listen(socket)
  await once(server, 'listening')
  chmodSync(socket, 0o666)
  return server
}

/** `settings`: lines that go below the demo's own in postern.toml. */
export const startSite = async (port: number, settings = ''): Promise<Site> => {
  // Where root starts it nginx's workers are another user, who reads recordings and the page: under root's 077 they
  // would be 403. What nobody else may read has a mode of its own.
  process.umask(0o022)
  const closers: (() => Promise<void> | void)[] = []
  const life = { stopping: false }
  const stop = async (): Promise<void> => {
    life.stopping = true
    for (const close of closers.splice(0).toReversed()) await close()
  }
  try {
    return await build(port, settings, life, closers, stop)
  } catch (error) {
    await stop()
    throw error
  }
}

const build = async (
  port: number,
  settings: string,
  life: { stopping: boolean },
  closers: (() => Promise<void> | void)[],
  stop: () => Promise<void>,
): Promise<Site> => {
  const folder = mkdtempSync(join(tmpdir(), 'postern-demo-'))
  closers.push(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  chmodSync(folder, 0o755) // nginx's workers may run as another user
  const at = (...names: string[]): string => join(folder, ...names)
  const gone = Promise.withResolvers<string>()

  mkdirSync(at('private'), { mode: 0o700 }) // whoever can open the kick socket can end streams

  // ---- Postern
  const asRoot = process.getuid?.() === 0
  writeFileSync(
    at('postern.toml'),
    `[listen]
http = "unix:${at('http.sock')}"
socket_group = "${asRoot ? 'www-data' : ''}"
operator = "unix:${at('operator.sock')}"
control = "${at('control.sock')}"

[state]
directory = "${at('state')}"

[users]
file = "${at('users')}"

[streams]
kick_socket = "${at('private', 'kick.sock')}"
cut_socket = "${at('private', 'cut.sock')}"

[calls]
sources = ["names"]

[log]
security = "${at('security.log')}"

${settings}`,
  )
  for (const [name, role, display] of USERS) {
    const argv = ['user', 'add', name, '--role', role, '--display-name', display]
    run([...argv, '--config', at('postern.toml'), '--password-stdin'], `${PASSWORD}\n`)
  }
  const start = (name: string, [file = '', ...argv]: readonly string[], env = {}): Part => {
    // A process group of its own: Ctrl-C reaches the demo alone, which then stops its parts in order.
    const child = spawn(file, argv, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    const log: string[] = []
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => log.push(text))
    }
    const said = (): string => log.join('')
    logs.push(said)
    child.on('exit', () => {
      if (!life.stopping) gone.resolve(`${name} ended:\n${said()}`)
    })
    closers.push(() => end(child))
    return { name, child, said }
  }
  const logs: (() => string)[] = []

  // ---- the cutter: the kernel ends connections for root alone, and not for every root
  let cuts = false
  if (asRoot) {
    const cutter = start(
      'the cutter',
      [...DIES_WITH_US, ...cutterCommand(at('private', 'cut.sock'))],
      {
        POSTERN_CUT_PORTS: String(port),
        POSTERN_CUT_CGROUP: 'none', // the workers are told by their user
        POSTERN_CUT_IDLE: '86400', // nobody would start it again
      },
    )
    await until(cutter, () => greets(at('private', 'cut.sock')))
    cuts = !cutter.said().includes('lets nothing be cut')
  }

  const daemon = start('Postern', [
    ...DIES_WITH_US,
    NODE,
    MAIN,
    'serve',
    '--config',
    at('postern.toml'),
  ])
  await until(daemon, async () => (await statusOf('http://x/readyz', at('operator.sock'))) === 200)

  // ---- recordings, the application, nginx
  for (const [index, name] of RECORDINGS.entries()) {
    mkdirSync(join(at('recordings'), name, '..'), { recursive: true })
    writeRecording(join(at('recordings'), name), index === 0 ? LONGEST : 2 + index)
  }
  const application = await startApplication(at('app.sock'))
  closers.push(() => {
    application.close()
    application.closeAllConnections()
  })
  mkdirSync(at('nginx'))
  layOutNginx(at('nginx'), {
    listen: `127.0.0.1:${port}`,
    postern: at('http.sock'),
    recordings: at('recordings'),
    kick: at('private', 'kick.sock'),
    asterisk: `unix:${at('app.sock')}`,
    pbx: `unix:${at('app.sock')}`,
    app: `unix:${at('app.sock')}`,
    site: [...layOutPage(at('page')), uncomment('site.example.conf', 'location ^~ /app/live/')],
    ...(asRoot && { user: 'www-data' }),
  })
  const nginx = start('nginx', nginxCommand(at('nginx')))
  const url = `http://127.0.0.1:${port}`
  // It writes its pid when the port is its own: another demo there would answer as well.
  const isOurs = (): boolean => existsSync(at('nginx', 'nginx.pid'))
  await until(nginx, async () => isOurs() && (await statusOf(`${url}${BASE}/health`)) === 200)

  // ---- the producer
  const publish = async (channel: string, message: string): Promise<number> => {
    const headers = { 'Content-Type': 'application/json' }
    const response = await fetch(`${url}${BASE}/pub/${channel}`, {
      method: 'POST',
      headers,
      body: message,
    })
    await response.text()
    return response.status
  }
  const producer = createProducer(`${url}${BASE}/pub/`, () => {})
  let round = 0
  const tell = (): void => {
    round++
    const states = Object.fromEntries(
      USERS.map(([name, , display], index) => [
        name,
        { state: STATES[(round + index) % STATES.length], name: display },
      ]),
    )
    // The same for each one's own channel: ids are given in the order of first logins.
    const own = USERS.map((_, index) => `users-state-user-${index + 1}`)
    for (const channel of ['users-state', ...own]) {
      producer.tell(channel, { states }).catch(() => {})
    }
  }
  tell()
  const talk = setInterval(tell, 3000)
  closers.push(() => {
    clearInterval(talk)
    producer.close()
  })

  const files = [
    'nginx/postern.access.log',
    'nginx/postern.error.log',
    'nginx/error.log',
    'security.log',
  ]
  return {
    url,
    folder,
    run: (...argv) => run([...argv, '--config', at('postern.toml')], ''),
    cuts,
    publish,
    failed: gone.promise,
    stop,
    logs: () =>
      [
        ...logs.map((read) => read()),
        ...files.map((name) => (existsSync(at(name)) ? readFileSync(at(name), 'utf8') : '')),
      ].join('\n'),
  }
}
