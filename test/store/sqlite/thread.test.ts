// The writer thread's loop, on this thread: a port is a port.
import { once } from 'node:events'
import { join } from 'node:path'
import { MessageChannel } from 'node:worker_threads'
import t, { type Test } from 'tap'

import { type FromThread, serveEngine, type ToThread } from '../../../src/store/sqlite/thread.ts'

const serve = (t: Test, file = join(t.testdir(), 'store.db')) => {
  const { port1, port2 } = new MessageChannel()
  const heard: FromThread[] = []
  port2.on('message', (message: FromThread) => heard.push(message))
  const closed = once(port2, 'close')
  serveEngine(port1, { file })
  return {
    heard,
    closed,
    /** Everything that arrives before the loop looks again. */
    say: (...messages: ToThread[]) => {
      for (const message of messages) port2.postMessage(message, [])
    },
    /** What the loop says next. */
    async next() {
      await once(port2, 'message')
      return heard.at(-1)
    },
    leave: () => port2.close(),
  }
}

const ping = (id: number): ToThread => ({ id, call: { verb: 'ping', args: [] } })

void t.test('what waits is answered together, up to a bound', async (t) => {
  const { heard, say, closed } = serve(t)
  say(...Array.from({ length: 300 }, (_, index) => ping(index)), { close: true })
  await closed
  const [opened, ...answers] = heard
  t.same(opened, { opened: true })
  const ids = answers.map((message) =>
    'answers' in message ? message.answers.map(({ id }) => id) : [],
  )
  t.same(
    ids.map(({ length }) => length),
    [256, 44],
    'one transaction each',
  )
  t.same(
    ids.flat(),
    Array.from({ length: 300 }, (_, index) => index),
  )
})

void t.test(
  'told to close it answers what came before, lets go of the file, and leaves',
  async (t) => {
    const file = join(t.testdir(), 'store.db')
    for (const round of ['first', 'second']) {
      const { heard, say, closed } = serve(t, file)
      say(ping(1), { close: true })
      await closed
      t.same(
        heard,
        [{ opened: true }, { answers: [{ id: 1, outcome: { value: undefined } }] }],
        round,
      )
    }
  },
)

void t.test('told nothing but to close it closes', async (t) => {
  const { heard, say, closed } = serve(t)
  say({ close: true })
  await closed
  t.same(heard, [{ opened: true }])
})

void t.test('a file that does not open is reported, not thrown', async (t) => {
  const { next, leave } = serve(t, join(t.testdir(), 'nowhere/store.db'))
  t.match(await next(), {
    failed: { code: 'unavailable', message: /its directory must be there/ },
  })
  leave()
})

void t.test('without a port there is nothing to serve', async (t) => {
  t.throws(() => serveEngine(null, { file: join(t.testdir(), 'store.db') }), /worker thread/)
})
