// The pool: bounded, fair to the event loop, and no login is ever left hanging.
import { spawnSync } from 'node:child_process'
import { pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import { createPasswordPool, type PasswordPoolOptions } from '../../src/passwords/pool.ts'

const CHEAP = { workers: 1, queue: 2, memory: 7168, passes: 1 }

function open(t: Test, options: Partial<PasswordPoolOptions> = {}) {
  const pool = createPasswordPool({ ...CHEAP, ...options })
  t.teardown(() => pool.close())
  return pool
}

function take<T>(job: Promise<T> | undefined): Promise<T> {
  return job ?? Promise.reject(new Error('the queue is full'))
}

/** A worker whose code is the test's own: `port` is its end of the channel. */
function writeWorker(t: Test, code: string): URL {
  const folder = t.testdir({
    'worker.mjs': `import { parentPort as port } from 'node:worker_threads'\n${code}`,
  })
  return pathToFileURL(`${folder}/worker.mjs`)
}

void t.test('hashes and verifies in its workers', async (t) => {
  const pool = open(t, { workers: 2 })
  const stored = await pool.hash('secret')
  t.ok(stored?.startsWith('$argon2id$v=19$m=7168,t=1,p=1$'))
  t.same(
    await Promise.all([
      take(pool.verify(String(stored), 'secret')),
      take(pool.verify(String(stored), 'no')),
    ]),
    [true, false],
  )
})

void t.test('a full queue takes no more, and says so at once', async (t) => {
  const pool = open(t)
  const running = [take(pool.hash('a')), take(pool.hash('b')), take(pool.hash('c'))]
  t.equal(pool.queued(), 2, 'one runs, two wait')
  t.equal(pool.hash('d'), undefined)
  t.equal(pool.verify('anything', 'd'), undefined)
  for (const hashed of await Promise.all(running)) t.ok(hashed)
  t.equal(pool.queued(), 0)
  t.ok(await pool.hash('d'), 'there is room again')
})

void t.test('a queue of zero refuses whatever no worker can take at once', async (t) => {
  const pool = open(t, { queue: 0 })
  const first = pool.hash('a')
  t.equal(pool.hash('b'), undefined)
  t.ok(await first)
})

void t.test('a fault in a job reaches its caller, and the worker goes on', async (t) => {
  const pool = open(t)
  await t.rejects(take(pool.verify('not a hash', 'secret')), {
    message: 'a password could not be hashed',
  })
  t.ok(await pool.hash('secret'))
})

void t.test('a worker that dies fails its job, and another one does the next', async (t) => {
  const entry = writeWorker(
    t,
    `port.on('message', (job) => {
       if (job.hash === 'exit') process.exit(3)
       if (job.hash === 'throw') throw new Error('broken')
       port.postMessage({ answer: 'done ' + job.hash })
     })`,
  )
  const pool = open(t, { entry })
  const jobs = [take(pool.hash('exit')), take(pool.hash('a')), take(pool.hash('throw'))]
  const [exited, done, threw] = await Promise.allSettled(jobs)
  t.match(exited, { status: 'rejected', reason: { message: /hash worker ended/ } })
  t.match(done, { status: 'fulfilled', value: 'done a' })
  t.match(threw, { status: 'rejected', reason: { cause: { message: 'broken' } } })
  t.equal(await pool.hash('b'), 'done b')
})

void t.test('workers that cannot be niced are reported once', async (t) => {
  const entry = writeWorker(
    t,
    `port.postMessage({ notNiced: new Error('EPERM') })
     port.on('message', () => port.postMessage({ answer: 'done' }))`,
  )
  const reports: unknown[] = []
  const pool = open(t, { entry, workers: 2, onNotNiced: (error) => reports.push(error) })
  await Promise.all([take(pool.hash('a')), take(pool.hash('b'))])
  t.match(reports, [{ message: 'EPERM' }])

  const silent = open(t, { entry })
  t.equal(await silent.hash('a'), 'done', 'nobody has to listen')
})

void t.test('closing fails what waits and what runs, and takes nothing more', async (t) => {
  const pool = open(t, { entry: writeWorker(t, "port.on('message', () => undefined)") })
  const jobs = [take(pool.hash('a')), take(pool.hash('b'))]
  const settled = Promise.allSettled(jobs)
  await pool.close()
  t.match(await settled, [
    { status: 'rejected', reason: { message: /hash worker ended/ } },
    { status: 'rejected', reason: { message: /was closed/ } },
  ])
  t.equal(pool.hash('c'), undefined)
  await pool.close()
})

void t.test('an idle pool keeps no process alive, a job does', async (t) => {
  const code = `
    import { createPasswordPool } from ${JSON.stringify(new URL('../../src/passwords/pool.ts', import.meta.url).href)}
    const pool = createPasswordPool(${JSON.stringify(CHEAP)})
    pool.hash('secret').then((stored) => console.log(stored.slice(0, 9)))`
  const child = spawnSync(process.execPath, ['--input-type=module', '--eval', code], {
    encoding: 'utf8',
    timeout: 120_000,
  })
  t.same({ status: child.status, stdout: child.stdout }, { status: 0, stdout: '$argon2id\n' })
})
