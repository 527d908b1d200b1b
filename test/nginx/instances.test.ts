// Several daemons behind one nginx, as postern-local.conf lists them: a dead one costs nobody an answer, and
// nothing that could have been heard is said again. Scripted daemons: what counts is what nginx does.
import t from 'tap'
import { nginxMissing, startNginx } from '../fixtures/nginx.ts'
import { until } from '../fixtures/postern.ts'
import { startStopwatch } from '../fixtures/stopwatch.ts'
import { ask, RECORDINGS, V1, V3 } from './ask.ts'
import { type Answer, kickId, open, pass, refuse, startDaemon } from './daemon.ts'
import { eventSource } from './listen.ts'
import { listInstances } from './several.ts'

const LOST: Answer = { status: 503, headers: { 'Retry-After': '2' }, body: '{}' }

void t.test('three instances', { skip: nginxMissing() }, async (t) => {
  const recordings = t.testdir({ 'a.mp3': 'x' })
  const daemons = [await startDaemon(t), await startDaemon(t), await startDaemon(t)] as const
  const [first] = daemons
  const others = daemons.slice(1)
  const nginx = await startNginx(t, {
    postern: first.socket,
    recordings,
    local: listInstances(daemons.map(({ socket }) => socket)),
    // What a site may have set for its own applications: it must not make a login be sent twice.
    http: 'proxy_next_upstream error timeout http_502 non_idempotent;',
  })
  const play = () => ask(nginx.port, `${RECORDINGS}/a.mp3`)
  const posts = [
    `${V1}/auth/login`,
    `${V1}/auth/refresh`,
    `${V1}/auth/logout`,
    `${V3}/auth:refresh`,
  ]
  const post = (path: string) => ask(nginx.port, path, { body: '{}' })
  const counts = () => daemons.map(({ asked }) => asked.length)
  const total = () => counts().reduce((sum, count) => sum + count, 0)
  const lines = () => nginx.accessLog().split('\n').slice(0, -1)
  /** Plays it: the status, and what nginx logged of the check. */
  const playLogged = async (): Promise<[status: number, check: string | undefined]> => {
    const before = lines().length
    const { status } = await play()
    // A line is written after its answer is gone.
    await until('it is logged', () => lines().length > before)
    return [status, / check=(.*) reason=/.exec(lines().at(-1) ?? '')?.[1]]
  }
  t.beforeEach(() => {
    for (const daemon of daemons) {
      daemon.answer = pass
      daemon.asked.length = 0
      daemon.ended.length = 0
    }
  })

  void t.test('all are asked', async (t) => {
    for (let i = 0; i < 60; i++) t.equal((await play()).status, 200)
    t.equal(total(), 60, 'once each')
    t.ok(
      counts().every((count) => count >= 15),
      counts().join(),
    )
  })

  void t.test('a check that meets a dead one goes to the next, and none is left out', async (t) => {
    for (let round = 0; round < 3; round++) {
      await first.stop()
      for (let i = 0; i < 20; i++) t.equal((await play()).status, 200, 'dead')
      await first.listen()
      first.asked.length = 0
      for (let i = 0; i < 20; i++) t.equal((await play()).status, 200, 'back')
      // With max_fails=1 nginx would not ask it for 10 s.
      t.ok(first.asked.length >= 4, `asked ${first.asked.length} times at once`)
    }
  })

  void t.test('so does one whose connection ends without an answer', async (t) => {
    first.answer = () => 'cut'
    for (let i = 0; i < 30; i++) t.equal((await play()).status, 200)
    t.ok(first.asked.length >= 5, String(first.asked.length))
  })

  void t.test('so does one that cannot decide', async (t) => {
    first.answer = () => LOST
    for (let i = 0; i < 30; i++) t.equal((await play()).status, 200)
    t.ok(first.asked.length >= 5, String(first.asked.length))
  })

  void t.test('a refusal is final: nobody else is asked', async (t) => {
    for (const status of [401, 403] as const) {
      for (const daemon of daemons) daemon.answer = () => refuse(status, 'no_grant')
      const before = total()
      for (let i = 0; i < 9; i++) t.equal((await play()).status, status)
      t.equal(total(), before + 9)
    }
  })

  void t.test(
    'where all are away or cannot decide, each is asked once and that is it',
    async (t) => {
      for (const daemon of daemons) daemon.answer = () => LOST
      for (let i = 0; i < 10; i++) {
        t.match(await play(), { status: 503, headers: { 'retry-after': '2' } })
      }
      t.same(counts(), [10, 10, 10])
      for (const daemon of daemons) await daemon.stop()
      const elapsed = startStopwatch()
      for (let i = 0; i < 10; i++) t.equal((await play()).status, 503)
      const took = Math.round(elapsed().ours)
      t.ok(took < 2000, `${took} ms`)
      for (const daemon of daemons) {
        daemon.answer = pass
        await daemon.listen()
      }
      t.equal((await play()).status, 200, 'at once')
    },
  )

  void t.test('one that hangs costs a check 5 s, not its answer', async (t) => {
    first.answer = () => 'hang'
    const elapsed = startStopwatch()
    const replies = await Promise.all(Array.from({ length: 6 }, play))
    const { took, ours } = elapsed()
    t.same(new Set(replies.map(({ status }) => status)), new Set([200]))
    t.ok(first.asked.length > 0 && took > 4000 && ours < 9000, `${Math.round(took)} ms`)
  })

  void t.test('what may have been heard is not said again', async (t) => {
    for (const answer of ['cut', LOST] as const)
      for (const path of posts) {
        for (const daemon of daemons) {
          daemon.answer = () => answer
          daemon.asked.length = 0
        }
        for (let i = 0; i < 6; i++) {
          t.equal((await post(path)).status, 503, path)
          t.equal(total(), i + 1, `${path}: asked once`)
        }
      }
  })

  void t.test(
    'a login meets no dead one: where no connection is made, the next is asked',
    async (t) => {
      await first.stop()
      for (const path of posts)
        for (let i = 0; i < 6; i++) {
          const before = total()
          t.equal((await post(path)).status, 204, path)
          t.equal(total(), before + 1, path)
        }
      await first.listen()
    },
  )

  void t.test('the answer that counts is the last: in the log, and for what follows', async (t) => {
    for (const daemon of others) daemon.answer = () => refuse(401, 'expired')
    await first.stop()
    for (let i = 0; i < 6; i++) {
      t.same(await playLogged(), [401, '401'])
    }
    for (const daemon of others) daemon.answer = pass
    for (let i = 0; i < 6; i++) {
      t.same(await playLogged(), [200, '204'])
    }
    // 502 of the application behind is no failure of the check.
    const reply = await ask(nginx.port, '/app/x')
    t.equal(reply.status, 502)
    await first.listen()
  })

  void t.test(
    'a stream opens with what the last one named; its end is told to whoever is there',
    async (t) => {
      await first.stop()
      for (let i = 0; i < 6; i++) {
        const kick = kickId()
        for (const daemon of others) daemon.answer = () => open('room', kick)
        const stream = await eventSource(t, nginx.port, 'x')
        stream.close()
        await until('one of them is told', () => others.some(({ ended }) => ended.includes(kick)))
      }
      await first.listen()
    },
  )
})
