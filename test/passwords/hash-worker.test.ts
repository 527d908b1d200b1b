// The worker's entry: on a main thread it must do nothing, in a thread it lowers that thread only.
import { getPriority } from 'node:os'
import { Worker } from 'node:worker_threads'
import t from 'tap'
import '../../src/passwords/hash-worker.ts'

const START_PRIORITY = getPriority()

void t.test('loaded on a main thread it leaves the priority alone', async (t) => {
  t.equal(getPriority(), START_PRIORITY)
})

void t.test('as a thread it answers', async (t) => {
  const worker = new Worker(new URL('../../src/passwords/hash-worker.ts', import.meta.url), {
    execArgv: [],
  })
  t.teardown(() => worker.terminate())
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage({ hash: '', memory: 7168, passes: 1 })
  t.match(await new Promise((resolve) => worker.once('message', resolve)), { fault: Error })
  t.equal(getPriority(), START_PRIORITY, 'only the worker thread was niced')
})
