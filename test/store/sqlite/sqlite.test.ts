// The store as the daemon sees it: the contract, what is bounded, and what a death of its thread means.
import { statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import type { Worker } from 'node:worker_threads'
import t, { type Test } from 'tap'

import { openSqliteStore } from '../../../src/store/sqlite/sqlite.ts'
import { MOST_TICKETS, StoreError } from '../../../src/store/store.ts'
import { NOW } from '../../fixtures/clock.ts'
import { runStoreContract } from '../contract.ts'
import { hashOf, leaveStreams, renewalAt, sessionOf, successor } from '../sessions.ts'

const DAY = 86_400
const fileIn = (t: Test): string => join(t.testdir(), 'store.db')

const never = (error: Error): void => {
  throw error
}

const openAt = async (t: Test, file: string, onDeath: (error: Error) => void = never) => {
  const store = await openSqliteStore(file, onDeath)
  t.teardown(() => store.close())
  return store
}

const files = new WeakMap<object, string>()

runStoreContract({
  async open(t) {
    const file = fileIn(t)
    const store = await openAt(t, file)
    files.set(store, file)
    return store
  },
  async reopen(t, store) {
    await store.close()
    const file = files.get(store) ?? ''
    const reopened = await openAt(t, file)
    files.set(reopened, file)
    return reopened
  },
  async leave(store, streams) {
    const db = new DatabaseSync(files.get(store) ?? '')
    leaveStreams(db, streams)
    db.close()
  },
})

/** Opens a store and hands out its thread as well. */
const openWithWorker = async (t: Test) => {
  const created = new Promise<Worker>((resolve) => {
    process.once('worker', resolve)
  })
  const deaths: Error[] = []
  const store = await openAt(t, fileIn(t), (error) => deaths.push(error))
  return { store, worker: await created, deaths }
}

void t.test('of a session no more than one unseen successor is kept, for a day', async (t) => {
  const file = fileIn(t)
  const store = await openAt(t, file)
  using db = new DatabaseSync(file, { readOnly: true })
  const kept = () =>
    db
      .prepare('SELECT sid, seq FROM unseen_successors')
      .all()
      .map(({ sid, seq }) => `${String(sid)} ${String(seq)}`)
  for (const sid of ['ended', 'of an ended user', 'long gone', 'reused', 'seen', 'z', 'live']) {
    const username = sid === 'of an ended user' ? 'x' : 'y'
    const expiresAt = NOW + (sid === 'long gone' ? 60 : 1e6)
    await store.openSession(sessionOf(sid, { username, expiresAt }), hashOf(`${sid}/0`))
    for (const step of [0, 1]) {
      const next = successor(`${sid}/${step + 1}`)
      await store.rotate(hashOf(`${sid}/${step}`), next, renewalAt(step), 30)
    }
  }
  await store.endSession('ended', 'logout', NOW)
  await store.endSessionsOf('x', 'operator', NOW)
  await store.rotate(hashOf('reused/0'), successor('x'), renewalAt(99), 30)
  await store.seeSuccessor('seen', 2)
  await store.openSession(sessionOf('a new one', { username: 'y' }), hashOf('a new one'), 3)
  t.same(kept(), ['live 2', 'long gone 2'], 'a session too many ended as well')
  while ((await store.prune(NOW + 1000, NOW + 1000)) > 0);
  t.same(kept(), ['live 2'])
  // An older version has rotated since, and wrote nothing about that.
  using older = new DatabaseSync(file)
  older.exec("UPDATE unseen_successors SET seq = 1 WHERE sid = 'live'")
  t.match(await store.rotate(hashOf('live/1'), successor('x'), renewalAt(99), 30, DAY), {
    outcome: 'reused',
  })
  await store.openSession(sessionOf('kept'), hashOf('kept/0'))
  await store.rotate(hashOf('kept/0'), successor('kept/1'), renewalAt(0), 30)
  await store.prune(NOW + 89_999, 0)
  t.same(kept(), ['kept 1'], 'not before')
  await store.prune(NOW + 90_000, 0)
  t.same(kept(), [])
})

void t.test('what one session can make grow is bounded', async (t) => {
  const file = fileIn(t)
  const store = await openAt(t, file)
  await store.openSession(sessionOf('a'), hashOf('0'))
  for (let n = 0; n < 300; n++) {
    await store.rotate(hashOf(`${n}`), successor(`${n + 1}`, 'family'), renewalAt(n), 30)
  }
  const tickets = Array.from({ length: 600 }, (_, n) => `t${n}`)
  await Promise.all(tickets.map((id, n) => store.useTicket(id, 'r', NOW, NOW + n, 'a')))
  await store.close()
  using db = new DatabaseSync(file)
  const count = (table: string) => db.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.['n']
  t.equal(count('refresh_tokens'), 3, 'the last, its predecessor and their family')
  t.equal(count('used_tickets'), MOST_TICKETS + 1)

  // As a version before wrote them.
  db.exec(`INSERT INTO used_tickets VALUES ('before', 'r', ${NOW}, ${NOW + 60})`)
  db.close()
  const next = await openAt(t, file)
  t.equal(await next.useTicket('before', 'r', NOW, NOW + 60, 'b'), 'repeat')
  t.equal(await next.useTicket('before', 'x', NOW, NOW + 60, 'b'), 'used')
})

void t.test('calls that wait together share one commit', async (t) => {
  const file = fileIn(t)
  const store = await openAt(t, file)
  const FRAME = 4096 + 24 // a ping changes one page: every commit appends one frame
  const frames = () => Math.floor(statSync(`${file}-wal`).size / FRAME)
  await store.ping()
  const before = frames()
  for (let index = 0; index < 20; index++) await store.ping()
  t.equal(frames() - before, 20, 'one by one each has its own')
  await Promise.all(Array.from({ length: 200 }, () => store.ping()))
  t.ok(frames() - before - 20 <= 20, `200 together took ${frames() - before - 20} commits`)
})

void t.test('a bad call fails alone, whatever it shares a commit with', async (t) => {
  const store = await openAt(t, fileIn(t))
  const outcomes = await Promise.allSettled(
    ['a', 'b', 'a', 'c'].map((sid, index) =>
      store.openSession(sessionOf(sid), hashOf(`${sid} ${index}`), 0),
    ),
  )
  t.same(
    outcomes.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
  )
  t.equal(await store.countSessions(NOW), 3)
  t.match(await store.findByRefresh(hashOf('a 2'), NOW), { state: 'unknown' })
})

void t.test('past its bound the queue refuses at once, and the rest is answered', async (t) => {
  const store = await openAt(t, fileIn(t))
  const calls = Array.from({ length: 4100 }, () => store.countSessions(NOW))
  const outcomes = await Promise.allSettled(calls)
  const refused = outcomes.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []))
  t.equal(refused.length, 4)
  t.match(refused[0], { name: 'StoreError', code: 'busy' })
  t.equal(await store.countSessions(NOW), 0, 'there is room again')
})

void t.test('a refusal to open arrives with its code', async (t) => {
  const file = fileIn(t)
  writeFileSync(file, 'no database at all')
  await t.rejects(openSqliteStore(file), { name: 'StoreError', code: 'damaged', message: file })
})

void t.test('when its thread dies nobody is left waiting, and nobody is served', async (t) => {
  const { store, worker } = await openWithWorker(t)
  const asked = Array.from({ length: 10 }, () => store.ping().catch((error: unknown) => error))
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  worker.postMessage(null) // no message of ours: the thread throws
  const later = store.ping().catch((error: unknown) => error)
  for (const outcome of await Promise.all(asked)) {
    if (outcome !== undefined) t.match(outcome, { code: 'unavailable' })
  }
  t.match(await later, { code: 'unavailable', message: /died/, cause: Error })
  await t.rejects(store.ping(), { code: 'unavailable', message: /died/ })
  await store.close()
})

void t.test('the same when it is stopped without a word', async (t) => {
  const { store, worker, deaths } = await openWithWorker(t)
  const asked = store.ping().catch((error: unknown) => error)
  await worker.terminate()
  const outcome = await asked
  if (outcome !== undefined) t.type(outcome, StoreError)
  await t.rejects(store.ping(), { code: 'unavailable', message: /died/ })
  t.equal(deaths.length, 1, 'whoever opened it is told')
})

void t.test('whoever opened it need not be told', async (t) => {
  const created = new Promise<Worker>((resolve) => {
    process.once('worker', resolve)
  })
  const store = await openSqliteStore(fileIn(t))
  await (await created).terminate()
  await t.rejects(store.ping(), { code: 'unavailable', message: /died/ })
})

void t.test('a thread that ends or fails before the store is open', async (t) => {
  const cases = [
    { code: 'process.exit(0)', message: /died/ },
    { code: 'throw new Error("no")', message: /died/ },
  ]
  for (const { code, message } of cases) {
    const folder = t.testdir({ 'worker.mjs': code })
    await t.rejects(
      openSqliteStore(join(folder, 'store.db'), never, pathToFileURL(join(folder, 'worker.mjs'))),
      { name: 'StoreError', code: 'unavailable', message },
    )
  }
})
