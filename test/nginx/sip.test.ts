// SIP over WebSocket as shipped: checked at the handshake, and Asterisk never sees the token.
import { once } from 'node:events'
import { createServer, type IncomingMessage, request } from 'node:http'
import type { Socket } from 'node:net'
import t, { type Test } from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { ask, SIP } from './ask.ts'
import { pass, refuse, startDaemon } from './daemon.ts'

const HANDSHAKE = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Protocol': 'sip',
}

/** Takes every upgrade and gives back what it is sent. */
async function startAsterisk(t: Test): Promise<{ address: string; asked: IncomingMessage[] }> {
  const asked: IncomingMessage[] = []
  const server = createServer((incoming, response) => {
    asked.push(incoming)
    response.end('no upgrade')
  })
  server.on('upgrade', (incoming: IncomingMessage, socket: Socket) => {
    asked.push(incoming)
    socket.write(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    )
    socket.on('error', () => socket.destroy()).pipe(socket)
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

void t.test('SIP over WebSocket', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const asterisk = await startAsterisk(t)
  const nginx = await startNginx(t, { postern: daemon.socket, asterisk: asterisk.address })
  t.beforeEach(() => {
    daemon.answer = pass
    asterisk.asked.length = 0
  })

  void t.test('bytes pass both ways, and the token stays here', async (t) => {
    const outgoing = request({
      host: '127.0.0.1',
      port: nginx.port,
      path: `${SIP}?authorization=A&ticket=T&x=1`,
      headers: {
        ...HANDSHAKE,
        Authorization: 'Bearer A',
        Cookie: 'a=A',
        Referer: `${nginx.url}/phone?token=A`,
        'X-Auth-User': 'admin',
      },
    }).end()
    const [response, socket] = (await once(outgoing, 'upgrade')) as [IncomingMessage, Socket]
    t.equal(response.statusCode, 101)
    const heard = once(socket, 'data')
    socket.write('REGISTER')
    t.equal(String((await heard)[0]), 'REGISTER')
    socket.destroy()

    t.match(daemon.last().headers, {
      'x-auth-action': 'connect',
      'x-auth-accept': 'header query ticket cookie',
      'x-original-uri': `${SIP}?authorization=A&ticket=T&x=1`,
      'x-original-upgrade': 'websocket',
    })
    t.equal(daemon.last().url, '/check/sip')
    const seen = asterisk.asked[0]
    t.equal(seen?.url, '/asterisk/ws')
    t.match(seen?.headers, { 'sec-websocket-protocol': 'sip', 'x-auth-user': '201' })
    for (const name of ['authorization', 'cookie', 'referer']) t.notOk(seen?.headers[name], name)
  })

  void t.test('a refused handshake never reaches Asterisk', async (t) => {
    for (const status of [401, 403] as const) {
      daemon.answer = () => refuse(status, 'expired')
      t.equal((await ask(nginx.port, `${SIP}?token=A`, { headers: HANDSHAKE })).status, status)
    }
    t.equal(asterisk.asked.length, 0)
  })

  void t.test('only the exact path is SIP', async (t) => {
    for (const path of [`${SIP}/`, `${SIP}/x`, '/asterisk/ws'])
      t.equal((await ask(nginx.port, path, { headers: HANDSHAKE })).status, 404, path)
    t.equal(asterisk.asked.length, 0)
  })
})
