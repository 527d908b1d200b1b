// Who gives orders to the cutter, and connections to cut: what the daemon and nginx are in earnest.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'

export interface Orders {
  /** What it said first: another word for each process. */
  readonly boot: string
  /** `verb`, then what follows the id: its answer, without the id. */
  ask(verb: string, rest: string): Promise<string>
  /** As it stands: for what is no order. */
  write(text: string): void
  /** Whatever came that no `ask` waits for. */
  readonly stray: string[]
  /** Resolves when the cutter has hung up, or the client. */
  readonly closed: Promise<unknown>
  readonly connection: Socket
}

export const giveOrders = async (t: Test, path: string): Promise<Orders> => {
  const connection = connect(path)
  // Also where what it has written last was not read: that is an error, which `once` would throw.
  const closed = new Promise((resolve) => connection.once('close', resolve))
  t.teardown(async () => {
    connection.destroy()
    await closed
  })
  const waiting = new Map<string, (answer: string) => void>()
  const stray: string[] = []
  const hello = Promise.withResolvers<string>()
  let rest = ''
  connection.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) {
      const [, id = '', answer = ''] = /^(\S+) (.*)$/.exec(line) ?? []
      const resolve = waiting.get(id)
      waiting.delete(id)
      if (resolve) resolve(answer)
      else if (id === 'postern-cut') hello.resolve(answer)
      else stray.push(line)
    }
  })
  connection.on('error', (error) => {
    hello.reject(error)
  })
  let id = 0
  return {
    boot: await hello.promise,
    ask(verb, rest) {
      const { promise, resolve } = Promise.withResolvers<string>()
      waiting.set(String(++id), resolve)
      connection.write(`${verb} ${id} ${rest}\n`)
      return promise
    },
    write: (text) => void connection.write(text),
    stray,
    closed,
    connection,
  }
}

export interface Pair {
  /** What identifies it in an order: the peer and its port, the server's address and port. */
  readonly ends: string
  /** As nginx has it. */
  readonly served: Socket
  /** As the visitor has it. */
  readonly visitor: Socket
  /** Resolves when the visitor knows that it has ended. */
  readonly ended: Promise<unknown>
}

export interface Service {
  readonly port: number
  readonly server: Server
  /** A new connection; over IPv4 from that port of an address that nobody else here has, where one is given. */
  visit(localPort?: number): Promise<Pair>
}

/** Of visitors whose ports are used again: others of this machine connect from 127.0.0.1. */
const AWAY = '127.0.0.9'

/** Listens as nginx would, on a free port: `host` is an address of this machine or `::`, `through` how visitors come. */
export const listenAt = async (t: Test, host: string, through = host): Promise<Service> => {
  const server = createServer({ allowHalfOpen: true })
  const all = new Set<Socket>()
  const keep = (socket: Socket): void => {
    all.add(socket)
    socket.on('error', () => undefined).on('close', () => all.delete(socket))
  }
  server.on('connection', keep).listen(0, host, 4096)
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of all) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    port,
    server,
    async visit(localPort) {
      const arrives = once(server, 'connection') as Promise<[Socket]>
      const visitor = connect({
        host: through,
        port,
        allowHalfOpen: true,
        ...(localPort === undefined ? {} : { localAddress: AWAY, localPort }),
      })
      keep(visitor)
      const ended = new Promise((resolve) => visitor.once('close', resolve))
      visitor.resume()
      await once(visitor, 'connect')
      const [served] = await arrives
      return {
        ends: `${served.remoteAddress} ${served.remotePort} ${served.localAddress} ${port}`,
        served,
        visitor,
        ended,
      }
    },
  }
}

/** The cookie that an answer to `look` has, or the whole answer where it has none. */
export const cookieOf = (answer: string): string =>
  /^([0-9a-f]{16}) \d+$/.exec(answer)?.[1] ?? answer

/** Whether what is written at one end still arrives at the other. */
export const lives = async ({ served, visitor }: Pair): Promise<boolean> => {
  if (served.destroyed || visitor.destroyed) return false
  const arrives = once(visitor, 'data').then(() => true)
  served.write('.')
  return await Promise.race([arrives, once(visitor, 'close').then(() => false)])
}
