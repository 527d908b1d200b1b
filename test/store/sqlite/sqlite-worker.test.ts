// The thread's entry: loaded anywhere else it refuses, as a thread it serves.
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import t from 'tap'

const ENTRY = new URL('../../../src/store/sqlite/sqlite-worker.ts', import.meta.url)

void t.test('on a main thread it refuses', async (t) => {
  await t.rejects(import(ENTRY.href), { message: /runs in a worker thread/ })
})

void t.test('as a thread it opens the file that it was given', async (t) => {
  const file = join(t.testdir(), 'store.db')
  const worker = new Worker(ENTRY, { workerData: { file }, execArgv: [] })
  t.same(await once(worker, 'message'), [{ opened: true }])
  t.ok(existsSync(file))
  worker.postMessage({ close: true }, [])
  t.same(await once(worker, 'exit'), [0])
})
