// The thread's loop, on this thread: a port is a port.
import { once } from 'node:events'
import { join } from 'node:path'
import { MessageChannel } from 'node:worker_threads'
import t from 'tap'

import { findParties } from '../../src/calls/call-index.ts'
import { type FromCdrThread, serveCdr } from '../../src/calls/cdr-thread.ts'
import { FOLDER, insertCall, startWriter, TABLE } from '../fixtures/cdr.ts'

const TERMS = {
  table: 'cdr_general',
  columns: new Map<string, string>(),
  prefixes: [FOLDER],
  key: 'key',
}

void t.test('it answers each look, and says what it finds', async (t) => {
  const file = join(t.testdir(), 'cdr.db')
  const writer = startWriter(t, file)
  await writer.run('PRAGMA journal_mode=WAL', TABLE, insertCall('a.wav'))
  const { port1, port2 } = new MessageChannel()
  t.teardown(() => port2.close())
  serveCdr(port1, { file, ...TERMS })
  const hear = async () => ((await once(port2, 'message')) as [FromCdrThread])[0]
  port2.postMessage({ look: 1 }, [])
  t.same(await hear(), { looked: true }, 'the look is over before the reading')
  const { newest, older, recordings } = (await hear()) as Extract<
    FromCdrThread,
    { recordings: number }
  >
  t.equal(recordings, 1)
  t.same(older && findParties([older, newest], 'key', 'a.wav'), ['201'])
  await writer.run(insertCall('b.wav'))
  port2.postMessage({ look: 2 }, [])
  t.match(await hear(), { looked: true, recordings: 2 })
})

void t.test('it is for a thread', (t) => {
  t.throws(() => serveCdr(null, { file: '/x', ...TERMS }), { message: /in a worker thread/ })
  t.end()
})
