// The test bed itself: what is said to be cut is cut, and nothing of it stays behind.

import { once } from 'node:events'
import { spawn } from 'node:child_process'
import t from 'tap'

import { openBed } from './bed.ts'
import { HAS_NETEM, type Machine, NEEDS_HOSTS, openNetwork } from './network.ts'

/** What Redis says there, or why it says nothing within a second. */
const connects = async (from: Machine, address: string, port: number): Promise<string> => {
  const [command, ...rest] = from.inside
  const probe = `
    const socket = require('net').connect({ host: '${address}', port: ${port} })
    setTimeout(() => { console.log('silence'); process.exit() }, 1000)
    socket.on('connect', () => socket.write('PING\\r\\n'))
    socket.on('data', (data) => { console.log(String(data).trim()); process.exit() })
    socket.on('error', ({ code }) => { console.log(code); process.exit() })`
  const child = spawn(command, [...rest, process.execPath, '-e', probe], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'] },
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  await once(child, 'close')
  return text.trim()
}

void t.test('every fault of the network does what it says', NEEDS_HOSTS, async (t) => {
  t.comment(HAS_NETEM ? 'delays by netem' : 'delays by a wire of our own: this kernel has no netem')
  const { network, store, redis } = await openBed(t)
  const [a, b] = [await network.machine('a'), await network.machine('b')]
  const ping = (from: Machine): Promise<string> => connects(from, 'the-store', redis.port)
  t.equal(await ping(a), 'EAI_AGAIN', 'a name that nobody knows')
  for (const one of [a, b]) one.names([`${store.address} the-store`])
  t.equal(await ping(a), '+PONG')
  a.drop(100)
  t.equal(await ping(a), 'silence')
  t.equal(await ping(b), '+PONG', 'b is another machine')
  a.clear()
  t.equal(await ping(a), '+PONG')
  a.unplug()
  t.equal(await ping(a), 'silence')
  a.plug()
  t.equal(await ping(a), '+PONG')
  store.drop(100)
  t.equal(await ping(b), 'silence')
  store.clear()
  await redis.kill()
  t.equal(await ping(b), 'ECONNREFUSED')
})

void t.test('two networks do not see each other', NEEDS_HOSTS, async (t) => {
  const { network, store, redis } = await openBed(t)
  const [here, elsewhere] = [await network.machine('a'), await openNetwork(t)]
  await elsewhere.machine('redis')
  const there = await elsewhere.machine('a')
  t.equal(here.address, there.address)
  t.equal(await connects(here, store.address, redis.port), '+PONG')
  t.not(await connects(there, store.address, redis.port), '+PONG')
})
