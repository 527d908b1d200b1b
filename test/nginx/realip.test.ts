// Behind a proxy whose word for the client's address counts: a stream that ends there is told to the daemon as any other,
// and kills no worker.
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'

import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { V1 } from './ask.ts'
import { pass, startDaemon } from './daemon.ts'

const CLIENT = '198.51.100.7'
const WAYS = {
  EventSource: 'Accept: text/event-stream\r\n',
  WebSocket:
    'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n',
}

void t.test('the end of a stream behind a proxy', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  daemon.answer = pass
  const rows: [header: string, speaks: string, before: string, line: string][] = [
    ['X-Forwarded-For', '', '', `X-Forwarded-For: ${CLIENT}\r\n`],
    ['X-Real-IP', '', '', `X-Real-IP: ${CLIENT}\r\n`],
    ['X-Client-Address', '', '', `X-Client-Address: ${CLIENT}\r\n`],
    ['proxy_protocol', 'proxy_protocol', `PROXY TCP4 ${CLIENT} 192.0.2.1 5555 80\r\n`, ''],
  ]
  for (const [header, speaks, before, line] of rows)
    await t.test(header, async (t) => {
      const nginx = await startNginx(t, {
        postern: daemon.socket,
        speaks,
        site: [
          ['    # set_real_ip_from 192.0.2.10;', '    set_real_ip_from 127.0.0.1;'],
          ['    # real_ip_header X-Forwarded-For;', `    real_ip_header ${header};`],
        ],
      })
      for (const [way, headers] of Object.entries(WAYS)) {
        const told = daemon.ended.length
        const socket = connect(nginx.port, '127.0.0.1')
        socket.write(`${before}GET ${V1}/sub/x HTTP/1.1\r\nHost: x\r\n${line}${headers}\r\n`)
        await once(socket, 'data')
        t.equal(daemon.last().headers['x-real-ip'], CLIENT)
        socket.destroy()
        await until(`${way}: nginx tells`, () => daemon.ended.length > told)
      }
      t.notMatch(nginx.errorLog(), /exited on signal/)
    })
})
