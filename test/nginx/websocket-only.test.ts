// A connection becomes a WebSocket or nothing: once an application has agreed to another protocol, nginx hands on
// whatever comes, and asks nobody about the requests in it.
import { once } from 'node:events'
import { createServer, type IncomingMessage, request } from 'node:http'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { SIP, V1, V3 } from './ask.ts'
import { uncomment } from '../../demo/commented.ts'
import { startDaemon } from './daemon.ts'

const H2C = { 'HTTP2-Settings': 'AAMAAABkAARAAAAAAAIAAAAA' }

/** Agrees to every protocol that it is asked for; what reached it, by request. */
const startApplication = async (
  t: Test,
): Promise<{ address: string; asked: IncomingMessage[] }> => {
  const asked: IncomingMessage[] = []
  const server = createServer((incoming, response) => {
    asked.push(incoming)
    response.end('plain')
  })
  server.on('upgrade', (incoming: IncomingMessage, socket: Socket) => {
    asked.push(incoming)
    socket.on('error', () => socket.destroy())
    socket.end(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${incoming.headers.upgrade}\r\n\r\n`,
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  return { address: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`, asked }
}

void t.test('Upgrade', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const app = await startApplication(t)
  const nginx = await startNginx(t, {
    postern: daemon.socket,
    asterisk: app.address,
    pbx: app.address,
    app: app.address,
    site: [
      ...['proxy_http_version 1.1', 'proxy_set_header Upgrade', 'proxy_set_header Connection'].map(
        (line) => uncomment('site.example.conf', line),
      ),
      [
        '    location / {',
        `    location /as-every-manual-has-it/ {
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
        proxy_pass http://${app.address};
    }
    location / {`,
      ],
    ],
  })
  t.beforeEach(() => {
    app.asked.length = 0
    daemon.asked.length = 0
  })
  /** The status with which nginx answers. */
  const upgrade = async (
    path: string,
    protocol: string | string[],
    Connection = 'Upgrade, HTTP2-Settings',
  ) => {
    const outgoing = request({
      host: '127.0.0.1',
      port: nginx.port,
      path,
      headers: {
        Connection,
        Upgrade: protocol,
        ...H2C,
        'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
        'Sec-WebSocket-Version': '13',
      },
      agent: false,
    }).end()
    const answered = once(outgoing, 'response')
    const upgraded = once(outgoing, 'upgrade')
    const [response] = (await Promise.race([answered, upgraded])) as [IncomingMessage]
    response.resume()
    outgoing.destroy()
    return response.statusCode
  }

  await t.test('only a WebSocket reaches what stands behind nginx', async (t) => {
    t.equal(await upgrade('/as-every-manual-has-it/', 'h2c'), 101, 'the application would')
    const others = [
      'h2c',
      'H2C',
      'websocket, h2c',
      'h2c, websocket',
      'websockets',
      'TLS/1.0',
      'websocket/13',
      'x',
    ]
    const paths = [SIP, '/app/x', '/app/public/x', `${V3}/extensions`]
    for (const path of paths)
      for (const other of others) {
        app.asked.length = 0
        t.equal(await upgrade(path, other), 200, `${path}: ${other}`)
        const [seen] = app.asked
        t.notOk(seen?.headers.upgrade, `${path}: ${other}`)
        t.equal(seen?.headers.connection ?? 'close', 'close', `${path}: ${other}`)
      }
    for (const path of [SIP, '/app/x'])
      t.equal(await upgrade(path, 'WebSocket', 'upgrade'), 101, path)
    for (const path of ['/app/public/x', `${V3}/extensions`])
      t.equal(await upgrade(path, 'websocket'), 200, `${path} has none`)
  })

  await t.test('of two lines none but a WebSocket goes on', async (t) => {
    // nginx 1.22 takes the first, later ones both as one.
    for (const path of [SIP, '/app/x'])
      for (const two of [
        ['websocket', 'h2c'],
        ['h2c', 'websocket'],
      ])
        await upgrade(path, two)
    t.equal(app.asked.length, 4)
    for (const { headers } of app.asked) t.match(headers.upgrade ?? 'none', /^(?:none|websocket)$/)
  })

  await t.test('nothing of it reaches the daemon', async (t) => {
    for (const path of [
      `${V1}/profile`,
      `${V1}/auth/refresh`,
      `${V3}/auth:refresh`,
      '/.well-known/jwks.json',
      '/app/x',
    ]) {
      await upgrade(path, 'h2c')
      const { names } = daemon.last()
      t.same(
        names.filter((name) => /upgrade|http2|^connection/i.test(name)),
        [],
        path,
      )
    }
  })
})
