// The example producer: what it says arrives as it is by every way a client listens, and stands again after a reload of
// nginx without anything new having happened.

import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'

import { createProducer } from '../../demo/producer.ts'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { ask, V1 } from './ask.ts'
import { startDaemon } from './daemon.ts'
import { eventSource, webSocket } from './listen.ts'
import { reloadWhole } from './several.ts'

void t.test('the example producer', { skip: nginxMissing() }, async (t) => {
  const daemon = await startDaemon(t)
  const nginx = await startNginx(t, { postern: daemon.socket })
  const faults: unknown[] = []
  const producer = createProducer(`${nginx.url}${V1}/pub/`, (error) => void faults.push(error))
  t.teardown(() => {
    producer.close()
  })
  const find = async (channel: string) => (await ask(nginx.port, `${V1}/sub/${channel}`)).body

  await t.test('any text arrives whole, by EventSource and by WebSocket', async (t) => {
    const states = ['Zoë', 'a\rb', 'a\r\nb\n', 'a\u2028b', '\ud800', '\0', 'x'.repeat(100_000)]
    for (const state of states) {
      t.ok([201, 202].includes(await producer.tell('users-state', { state })))
      const streams = [
        await eventSource(t, nginx.port, 'users-state'),
        await webSocket(t, nginx.port, 'users-state'),
      ]
      const due = JSON.stringify({ state })
      await until('both have heard', () => streams.every(({ text }) => text.includes(due)))
      t.ok(
        streams.every(({ live }) => live),
        'and live on',
      )
      for (const { close } of streams) close()
    }
    await t.rejects(producer.tell('users-state', 'x'.repeat(1024 * 1024)), /too long/)
  })

  await t.test('what it said last stands again after a reload', async (t) => {
    await producer.tell('users-state', 'first')
    await producer.tell('users-state', 'newest')
    await producer.tell('active-calls', 'none')
    for (let reload = 0; reload < 3; reload++) {
      await reloadWhole(nginx)
      t.equal(await find('users-state'), '"newest"')
      t.equal(await find('active-calls'), '"none"')
    }
    await delay(50)
    t.same(faults, [])
  })
})
