// A site whose streams are cut: it listens in every way, with a proxy of its own before it, and the real cutter beside the
// real daemon. What a client still hears is counted by when it heard it. It must never end anything itself.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect as connectTls } from 'node:tls'
import type { Test } from 'tap'

import { createCertificate } from '../fixtures/canned-server.ts'
import { type Cutter, startCutter } from '../fixtures/cutter.ts'
import { RECORDINGS, V1 } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'
import { openSite, type Site } from './live.ts'

const SHIPPED = join(import.meta.dirname, '..', '..', 'nginx')
const BIG = 200 * 2 ** 20 // bytes
const TICK = 20 // milliseconds

/** An application that never stops: an event stream, or WebSocket frames, every few milliseconds. */
export const startTicking = async (t: Test): Promise<{ address: string; open(): number }> => {
  const open = new Set<Socket>()
  const tick = (socket: Socket, write: () => void): void => {
    open.add(socket)
    const timer = setInterval(write, TICK)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      clearInterval(timer)
      open.delete(socket)
    })
  }
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    // What ends by itself: a page, and what is sent to it.
    if (request.url?.startsWith('/app/public/')) {
      request.resume().on('end', () => response.setHeader('Content-Type', 'text/html').end('<p>'))
      return
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders()
    tick(request.socket, () => response.write('data: tick\n\n'))
  })
  server.on('upgrade', (_request: IncomingMessage, socket: Socket) => {
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    )
    tick(socket, () => socket.write('\x81\x04tick'))
    socket.resume()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
    server.closeAllConnections()
  })
  const address = server.address()
  return {
    address: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
    open: () => open.size,
  }
}

export type Via = 'direct' | 'realip' | 'proxy_protocol'

/** How a client comes. */
export interface Door {
  tls: boolean
  ip: 4 | 6
  via: Via
}

/** Where nginx listens for whom, from one free port on. */
export const addressOf = ({ tls, ip, via }: Door, port: number): [host: string, port: number] => {
  const at = ['direct', 'proxy_protocol', 'realip'].indexOf(via) * 2 + Number(tls)
  return ip === 4 ? [`127.0.0.${at + 1}`, port] : ['::1', port + at]
}

const DOORS = [4, 6].flatMap((ip) =>
  [false, true].flatMap((tls) =>
    (['direct', 'proxy_protocol', 'realip'] as const).map((via) => ({ tls, ip, via }) as Door),
  ),
)

const listenOf = (door: Door, port: number): string => {
  const [host, at] = addressOf(door, port)
  const speaks = `${door.tls ? 'ssl http2' : ''} ${door.via === 'proxy_protocol' ? 'proxy_protocol' : ''}`
  return `listen ${host === '::1' ? '[::1]' : host}:${at} ${speaks};`
}

/** One that keeps its connections to the site, and lets everybody use them. */
const keptFrontOf = (port: number): string => `
    upstream kept {
        server 127.0.0.1:${port};
        keepalive 16;
    }
    server {
        listen 127.0.0.7:${port};
        access_log off;
        location / {
            proxy_pass http://kept;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $http_x_who;
            proxy_buffering off;
        }
    }`

/** A proxy before the site, as people have it: one server for each door. */
const frontsOf = (certificate: string, port: number): string =>
  DOORS.filter(({ via }) => via === 'realip')
    .map((door) => {
      const [host, at] = addressOf({ ...door, via: 'direct' }, port)
      return `
    server {
        ${listenOf(door, port)}
        ${certificate}
        access_log off;
        location / {
            proxy_pass ${door.tls ? 'https' : 'http'}://${host === '::1' ? '[::1]' : host}:${at};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For 198.51.100.7;
            proxy_set_header Upgrade $postern_upgrade;
            proxy_set_header Connection $postern_connection;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }
    }`
    })
    .join('')

/** The files with recordings followed, as the comment there says. */
const followRecordings = (shipped: string): string => {
  cpSync(SHIPPED, shipped, { recursive: true })
  const file = join(shipped, 'postern-recordings.conf')
  const line = uncomment('postern-recordings.conf', 'set $postern_follow on;')
  writeFileSync(file, readFileSync(file, 'utf8').replace(...line))
  return shipped
}

export interface CutSite extends Site {
  cutter: Cutter
  /** How many streams the application behind nginx holds. */
  proxied(): number
  listen(
    way: Way,
    door: Door,
    token: string,
    more?: { http2?: boolean; channel?: string },
  ): Promise<Heard>
  /** How many sockets nginx has with clients right now. */
  sockets(): Set<string>
}

/** What a client heard, and when. */
export interface Heard {
  /** Bytes, each with the moment (performance.now) at which it came. */
  readonly parts: readonly (readonly [at: number, bytes: number])[]
  readonly live: boolean
  readonly ended: Promise<void>
  close(): void
}

export const WAYS = [
  'EventSource',
  'WebSocket',
  'long-poll',
  'proxied WebSocket',
  'proxied event stream',
  'download',
] as const
export type Way = (typeof WAYS)[number]

const pathOf = (way: Way, channel: string): string => {
  if (way === 'download') return `${RECORDINGS}/big.wav`
  return way.startsWith('proxied') ? '/app/live/x' : `${V1}/sub/${channel}`
}

const track = (
  source: NodeJS.ReadableStream,
  closed: Promise<unknown>,
  close: () => void,
): Heard => {
  const parts: [number, number][] = []
  let live = true
  source.on('data', (part: Buffer) => parts.push([performance.now(), part.length]))
  const ended = closed.then(() => {
    live = false
  })
  return {
    parts,
    get live() {
      return live
    },
    ended,
    close,
  }
}

const byCurl = (t: Test, door: Door, url: string, args: readonly string[]): Heard => {
  const proxy = door.via === 'proxy_protocol' ? ['--haproxy-protocol'] : []
  const child: ChildProcess = spawn('curl', ['-sSkN', '-m', '60', ...proxy, ...args, url], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const close = (): void => void child.kill('SIGKILL')
  t.teardown(close)
  return track(child.stdout as NodeJS.ReadableStream, once(child, 'close'), close)
}

/** Browsers open a WebSocket by HTTP/1.1, on a connection of its own. */
const byWebSocket = async (
  t: Test,
  door: Door,
  [host, port]: [string, number],
  path: string,
  token: string,
): Promise<Heard> => {
  const socket = connect(port, host)
  await once(socket, 'connect')
  if (door.via === 'proxy_protocol') {
    const family = door.ip === 4 ? 'TCP4 198.51.100.7 192.0.2.1' : 'TCP6 2001:db8::7 2001:db8::1'
    socket.write(`PROXY ${family} 5555 443\r\n`)
  }
  const stream = door.tls ? connectTls({ socket, rejectUnauthorized: false }) : socket
  const close = (): void => void socket.destroy()
  t.teardown(close)
  const closed = Promise.withResolvers<void>()
  for (const one of new Set([socket, stream])) one.on('error', close).on('close', closed.resolve)
  const heard = track(stream, closed.promise, close)
  stream.write(
    [
      `GET ${path} HTTP/1.1`,
      'Host: pbx',
      `Authorization: Bearer ${token}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
      '\r\n',
    ].join('\r\n'),
  )
  return heard
}

/** As the kernel lists it. */
const endOf = ([host, port]: [string, number]): string => {
  const hex = (number: number, digits: number): string =>
    number.toString(16).toUpperCase().padStart(digits, '0')
  const address =
    host === '::1'
      ? '00000000000000000000000001000000'
      : host
          .split('.')
          .toReversed()
          .map((part) => hex(Number(part), 2))
          .join('')
  return `${address}:${hex(port, 4)}`
}

/** Sockets with these local ends that can still send: `local remote`. */
const socketsAt = (ends: ReadonlySet<string>): Set<string> => {
  const found = new Set<string>()
  for (const file of ['/proc/net/tcp', '/proc/net/tcp6'])
    for (const line of readFileSync(file, 'utf8').split('\n').slice(1)) {
      const [, local = '', remote = '', state = ''] = line.trim().split(/ +/)
      // Established, or half-closed: not listening, not at rest.
      if (ends.has(local) && /^0[14589B]$/.test(state)) found.add(`${local} ${remote}`)
    }
  return found
}

export const openCutSite = async (
  t: Test,
  options: { sections?: Readonly<Record<string, string>>; users?: readonly string[] } = {},
): Promise<CutSite> => {
  const folder = t.testdir({ cert: {}, recordings: {} })
  createCertificate(join(folder, 'cert'), 'DNS:localhost')
  const certificate = `ssl_certificate ${folder}/cert/cert.pem; ssl_certificate_key ${folder}/cert/key.pem;`
  writeFileSync(join(folder, 'recordings', 'big.wav'), 'RIFF')
  truncateSync(join(folder, 'recordings', 'big.wav'), BIG)
  const app = await startTicking(t)
  const own = DOORS.filter(({ via }) => via !== 'realip')
  const site = await openSite(t, {
    ...options,
    nginx: {
      app: app.address,
      asterisk: app.address,
      recordings: join(folder, 'recordings'),
      shipped: followRecordings(join(folder, 'shipped')),
      listen: (port) =>
        own
          .map((door) => listenOf(door, port))
          .join(' ')
          .replace(/^listen |;$/g, ''),
      http: (port) => frontsOf(certificate, port) + keptFrontOf(port),
      site: [
        uncomment('site.example.conf', 'location ^~ /app/live/'),
        ['    # if ($https = "") {', `    ${certificate}\n    # if ($https = "") {`],
        [
          '    # set_real_ip_from 192.0.2.10;',
          '    set_real_ip_from 127.0.0.0/8; set_real_ip_from ::1;',
        ],
        ['    # real_ip_header X-Forwarded-For;', '    real_ip_header X-Forwarded-For;'],
      ],
    },
  })
  const { port } = site.nginx
  const addresses = own.map((door) => addressOf(door, port))
  const ports = new Set(addresses.map(([, at]) => at))
  const ends = new Set(addresses.map(endOf))
  const cutter = await startCutter(t, { ports: [...ports], socket: site.place.at('cut.sock') })
  return {
    ...site,
    cutter,
    proxied: app.open,
    sockets: () => socketsAt(ends),
    async listen(way, door, token, { http2 = false, channel = 'room-x' } = {}) {
      const address = addressOf(door, port)
      const path = pathOf(way, channel)
      if (way.endsWith('WebSocket')) return byWebSocket(t, door, address, path, token)
      const [host, at] = address
      const url = `${door.tls ? 'https' : 'http'}://${door.ip === 6 ? '[::1]' : host}:${at}${path}`
      return byCurl(t, door, url, [
        http2 ? '--http2' : '--http1.1',
        '-H',
        `Authorization: Bearer ${token}`,
        ...(way === 'EventSource' ? ['-H', 'Accept: text/event-stream'] : []),
        ...(way === 'download' ? ['--limit-rate', '1M'] : []),
      ])
    },
  }
}
