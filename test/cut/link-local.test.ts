// Clients of the link itself (fe80::): the kernel finds their sockets with the interface alone, and nginx does not say it. In
// a network of its own, with two links on which everybody has the same address.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t, { type Test } from 'tap'

import { NEEDS_CUTTER, startCutter } from '../fixtures/cutter.ts'
import { cookieOf, giveOrders, lives, listenAt, type Service } from './orders.ts'

const INSIDE = 'POSTERN_TEST_LINKS'
const NETWORK = `ip link set lo up
for link in one two; do
  ip link add $link type veth peer name $link-end
  ip link set $link-end up
  ip link set $link up
  ip addr add fe80::1/64 dev $link nodad
done
exec "$@"`

const open = async (t: Test) => {
  const service = await listenAt(t, '::')
  const cutter = await startCutter(t, { ports: [service.port] })
  return { service, cutter, ...(await giveOrders(t, cutter.socket)) }
}

/** As nginx says it, without the link. */
const visit = async ({ server, port }: Service, link: string, localPort: number) => {
  const arrives = once(server, 'connection') as Promise<[Socket]>
  const host = `fe80::1%${link}`
  const visitor = connect({ host, port, localAddress: host, localPort, allowHalfOpen: true })
  const ended = new Promise((resolve) => visitor.once('close', resolve))
  visitor.on('error', () => undefined).resume()
  const [served] = await arrives
  return { ends: `fe80::1 ${localPort} fe80::1 ${port}`, served, visitor, ended }
}

if (process.env[INSIDE] === undefined) {
  const inside = ['--net', 'sh', '-ec', NETWORK, 'sh', process.execPath, import.meta.filename]
  const env = { ...process.env, [INSIDE]: 'yes' }
  void t.spawn('unshare', inside, { ...NEEDS_CUTTER, env }, 'in a network of two links')
} else {
  void t.test('it is found on whichever link it came by, and cut', async (t) => {
    const { service, ask } = await open(t)
    for (const [link, port] of [
      ['one', 40_000],
      ['two', 40_001],
    ] as const) {
      const [pair, other] = [
        await visit(service, link, port),
        await visit(service, link, port + 100),
      ]
      const found = await ask('look', pair.ends)
      t.match(found, /^[0-9a-f]{16} 0$/)
      t.equal(await ask('look', pair.ends.replaceAll('fe80::1', 'FE80:0::0:1')), found)
      t.equal(await ask('cut', `${pair.ends} ${cookieOf(found)}`), 'cut')
      await pair.ended
      t.equal(await ask('look', pair.ends), 'gone')
      t.equal(await ask('cut', `${pair.ends} ${cookieOf(found)}`), 'gone')
      t.ok(await lives(other))
    }
    t.ok(await lives(await visit(service, 'two', 40_300)), 'and it listens')
  })

  void t.test('of two by the same name none is taken for the other', async (t) => {
    const { service, cutter, ask } = await open(t)
    const first = await visit(service, 'one', 41_000)
    const cookie = cookieOf(await ask('look', first.ends))
    const second = await visit(service, 'two', 41_000)
    t.equal(second.ends, first.ends)
    t.equal(await ask('look', first.ends), 'refused ambiguous')

    // A new process, as the daemon asks it: what it has looked at it can cut.
    await cutter.kill()
    const again = await startCutter(t, { ports: [service.port], socket: cutter.socket })
    const orders = await giveOrders(t, again.socket)
    t.equal(await orders.ask('cut', `${first.ends} ${cookie}`), 'refused unlooked')
    t.equal(await orders.ask('look', first.ends), 'refused ambiguous')
    t.equal(await orders.ask('cut', `${first.ends} ${'0'.repeat(16)}`), 'gone')
    t.equal(await orders.ask('cut', `${first.ends} ${cookie}`), 'cut')
    await first.ended
    t.ok(await lives(second))
    t.match(await orders.ask('look', second.ends), /^[0-9a-f]{16} 0$/)
  })
}
