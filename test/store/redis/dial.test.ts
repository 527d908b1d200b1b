// What a connection is made of for each kind of address. Real servers are in link.test.ts; here is what only a
// moment shows that no server can be made to have.

import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'

import { parseRedisUrl } from '../../../src/store/redis/address.ts'
import { createDial, discard, loadPackage, type Package } from '../../../src/store/redis/dial.ts'
import { NEEDS_REDIS, startRedis } from '../../fixtures/redis.ts'

const nobody = (): void => undefined

/** A sentinel and what it watches. */
const openSentinel = async (t: Parameters<typeof startRedis>[0]) => {
  const primary = await startRedis(t)
  const file = join(t.testdir(), 'sentinel.conf')
  writeFileSync(file, `sentinel monitor main 127.0.0.1 ${primary.port} 1\n`)
  return { primary, sentinel: await startRedis(t, {}, [file, '--sentinel']) }
}

void t.test('a sentinel that hangs is left alone with it', NEEDS_REDIS, async (t) => {
  const { primary, sentinel } = await openSentinel(t)
  const sockets = new Set<Socket>()
  const silent = createServer((socket) => void sockets.add(socket.resume())).listen(0, '127.0.0.1')
  t.teardown(() => silent.close())
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const url = `redis+sentinel://127.0.0.1:${port},127.0.0.1:${sentinel.port}/main/3`
  const wire = createDial(await loadPackage(), parseRedisUrl(url), undefined)(nobody)
  t.teardown(() => discard(wire))
  await wire.connect()
  await wire.send(['SET', 'x', '1'])
  t.equal(primary.cli('-n', '3', 'GET', 'x'), '1')
  t.equal(sockets.size, 1)
  for (const socket of sockets) if (!socket.closed) await once(socket, 'close')
  const clients = sentinel.cli('CLIENT', 'LIST').split('\n')
  t.equal(clients.length, 1, 'nor is the other held any longer than it takes')
})

void t.test('a name that the sentinels do not know', NEEDS_REDIS, async (t) => {
  const { sentinel } = await openSentinel(t)
  const url = `redis+sentinel://127.0.0.1:${sentinel.port}/another`
  const wire = createDial(await loadPackage(), parseRedisUrl(url), undefined)(nobody)
  await t.rejects(wire.connect(), { code: 'NOPRIMARY' })
  await discard(wire)
})

void t.test('what else a sentinel says stays as it is', async (t) => {
  const refused = new Error('NOAUTH Authentication required.')
  const fake = {
    createClient: () => ({
      on: nobody,
      connect: () => Promise.resolve(),
      sendCommand: () => Promise.reject(refused),
      destroy: nobody,
    }),
  }
  const address = parseRedisUrl('redis+sentinel://s/main')
  await t.rejects(
    createDial(fake as unknown as Package, address, undefined)(nobody).connect(),
    refused,
  )
})

void t.test('given up while the sentinels are asked, it opens nothing more', async (t) => {
  const opened: string[] = []
  const fake = {
    createClient: ({ socket }: { socket: { host: string } }) => {
      opened.push(socket.host)
      return {
        on: nobody,
        connect: () => Promise.resolve(),
        sendCommand: () => {
          void wire.destroy()
          return Promise.resolve({ ip: 'primary', port: '1', 'config-epoch': '0' })
        },
        destroy: nobody,
      }
    },
  }
  const dial = createDial(
    fake as unknown as Package,
    parseRedisUrl('redis+sentinel://s/main'),
    undefined,
  )
  const wire = dial(nobody)
  await t.rejects(wire.connect(), { message: /closed while connecting/ })
  t.same(opened, ['s'])
})

void t.test('given up while it connects, a connection is closed when it is there', async (t) => {
  const connected = Promise.withResolvers<void>()
  let destroyed = 0
  const fake = {
    createClient: () => ({
      on: nobody,
      connect: () => connected.promise,
      destroy: () => void destroyed++,
    }),
  }
  const dial = createDial(fake as unknown as Package, parseRedisUrl('redis://a'), undefined)
  const wire = dial(nobody)
  const connecting = wire.connect()
  await discard(wire)
  t.equal(destroyed, 1)
  connected.resolve()
  await connecting
  t.equal(destroyed, 2)
})
