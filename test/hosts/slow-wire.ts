// A wire that takes its time, as a program of its own: slow-wire.ts HOST PORT SOCKET MILLISECONDS. What comes in
// there goes on to the socket later, and back. For kernels without netem; it must never lose or reorder a byte.

import { connect, createServer, type Socket } from 'node:net'

const [host = '', port = '', socket = '', milliseconds = ''] = process.argv.slice(2)

const later = (from: Socket, to: Socket): void => {
  from.on('data', (data) => setTimeout(() => to.write(data), Number(milliseconds)))
  from.on('close', () => setTimeout(() => to.destroy(), Number(milliseconds)))
  from.on('error', () => undefined)
}

createServer({ noDelay: true }, (client) => {
  const server = connect(socket)
  later(client, server)
  later(server, client)
}).listen(Number(port), host, () => console.log('ready'))
