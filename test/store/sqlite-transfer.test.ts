// A SQLite file as source and as target: who else has it, what stands there already, and what is left behind
// where a copy was cut off.

import {
  chownSync,
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import t from 'tap'

import { MIGRATIONS, migrate } from '../../src/store/sqlite-schema.ts'
import { openSqliteSource, openSqliteTarget } from '../../src/store/sqlite-transfer.ts'
import { StoreError } from '../../src/store/store.ts'
import { copyStore, type SessionRecord, type Slice } from '../../src/store/transfer.ts'
import { NOW } from '../fixtures/clock.ts'
import { copy, makeFolder, opened, openFile, refusalOf } from './copying.ts'
import { hashOf, renewalAt, sessionOf, subscriptionOf, successor } from './sessions.ts'
import { isRoot, needs } from '../fixtures/needs.ts'

/** Three users, one who is gone; sessions of each kind; a ticket; a stream. */
const fill = async (file: string): Promise<void> => {
  const store = openFile(file)
  for (const name of ['a', 'b']) {
    const userId = await store.identify(name)
    await store.openSession(sessionOf(name, { username: name, userId }), hashOf(name))
  }
  await store.rotate(hashOf('a'), successor('a/1'), renewalAt(0), 30)
  await store.endSession('b', 'user_removed', NOW)
  await store.useTicket('t', 'r', NOW, NOW + 60)
  await store.openSubscription(subscriptionOf('k', { sid: 'a', username: 'a' }))
  await store.moveEpoch(NOW - 10)
  await store.close()
}

void t.test('a file becomes a file that answers the same', async (t) => {
  const folder = makeFolder(t)
  const [from, to] = [join(folder, 'a.db'), join(folder, 'b.db')]
  await fill(from)
  const copied = await copy(openSqliteSource(from), () => openSqliteTarget(to))
  t.same(copied, { live: 1, ended: 1, expired: 0, users: 2, tickets: 1, subscriptions: 1 })
  t.equal(statSync(to).mode & 0o777, 0o600)
  t.same(
    readdirSync(folder).filter((name) => name.startsWith('b.db')),
    ['b.db', 'b.db.lock'],
    'nothing else stays',
  )
  const store = openFile(to)
  t.equal(await store.epoch(), NOW - 10)
  t.match(await store.rotate(hashOf('a'), successor('x'), renewalAt(1), 30), {
    outcome: 'replayed',
    sealed: successor('a/1').sealed,
  })
  t.match(await store.rotate(hashOf('a'), successor('x'), renewalAt(31), 30), { outcome: 'reused' })
  t.match(await store.listEnded(NOW), [{ sid: 'a' }, { sid: 'b', cause: 'user_removed' }])
  t.equal(await store.useTicket('t', 'other', NOW, NOW + 60), 'used')
  t.match(await store.listSubscriptions(), [{ kick: 'k' }])
  t.ok((await store.identify('new')) > 2)
  await store.close()
})

void t.test('what a daemon has open is not touched', async (t) => {
  const folder = makeFolder(t)
  const file = join(folder, 'a.db')
  const running = openFile(file)
  t.match(await refusalOf(openSqliteSource(file)), /in use: stop the daemon/)
  t.match(await refusalOf(openSqliteTarget(file)), /in use: stop the daemon/)
  await running.close()
  const source = await opened(openSqliteSource(file))
  t.throws(() => openFile(file), { code: 'locked' }, 'and no daemon begins while we have it')
  t.equal(await source.disturbed(), undefined)
  source.close()
  const target = await opened(openSqliteTarget(join(folder, 'b.db')))
  t.throws(() => openFile(join(folder, 'b.db')), { code: 'locked' })
  target.close()
})

void t.test('what stands in the log alone after kill -9 is copied too', async (t) => {
  const folder = makeFolder(t)
  const [file, left] = [join(folder, 'a.db'), join(folder, 'left.db')]
  const running = openFile(file)
  await running.openSession(sessionOf('a'), hashOf('a'))
  for (const part of ['', '-wal']) copyFileSync(file + part, left + part)
  await running.close()
  t.ok(statSync(`${left}-wal`).size > 0)
  const copied = await copy(openSqliteSource(left), () => openSqliteTarget(join(folder, 'b.db')))
  t.match(copied, { live: 1 })
})

void t.test('a source that is none says so, and is left as it is', async (t) => {
  const folder = makeFolder(t)
  const at = (name: string) => join(folder, name)
  t.throws(() => openSqliteSource(at('none.db')), { code: 'missing', message: /no store at/ })
  t.same(readdirSync(folder), [], 'nor is a lock made for it')
  writeFileSync(at('foreign.db'), 'no database at all, but long enough to look like one')
  t.throws(() => openSqliteSource(at('foreign.db')), { code: 'damaged' })
  t.throws(() => openSqliteSource(at('foreign.db')), { code: 'damaged' }, 'its lock is free again')
  const old = new DatabaseSync(at('old.db'))
  migrate(old, 0, MIGRATIONS.slice(0, 1))
  old.close()
  t.match(await refusalOf(openSqliteSource(at('old.db'))), /older version: start the daemon/)
  t.match(await refusalOf(openSqliteTarget(at('old.db'))), /holds a store already/)
})

void t.test('a source that is damaged further in says so', async (t) => {
  const folder = makeFolder(t)
  const file = join(folder, 'a.db')
  await fill(file)
  const source = await opened(openSqliteSource(file))
  const target = await opened(openSqliteTarget(join(folder, 'b.db')))
  truncateSync(file, 4096) // as a disk may do while it is read
  await t.rejects(copyStore(source, target, NOW), StoreError)
  source.close()
  target.close()
  t.notOk(existsSync(join(folder, 'b.db')))
})

void t.test('a target with anything in it is refused, one without is taken', async (t) => {
  const folder = makeFolder(t)
  const from = join(folder, 'from.db')
  await fill(from)
  const filling = {
    user: (file: string) => {
      const store = openFile(file)
      return store.identify('a').then(() => store.close())
    },
    epoch: (file: string) => {
      const store = openFile(file)
      return store.moveEpoch(NOW).then(() => store.close())
    },
    full: fill,
  }
  for (const [name, put] of Object.entries(filling)) {
    const file = join(folder, `${name}.db`)
    await put(file)
    const before = readFileSync(file)
    t.match(await refusalOf(openSqliteTarget(file)), /holds a store already.*move it away/, name)
    t.same(readFileSync(file), before)
  }
  const orphan = join(folder, 'orphan.db')
  writeFileSync(`${orphan}-wal`, 'log')
  t.match(
    await refusalOf(openSqliteTarget(orphan)),
    /holds a store already/,
    'only its log is left',
  )
  const foreign = join(folder, 'foreign.db')
  writeFileSync(foreign, 'no database at all, but long enough to look like one')
  t.throws(() => openSqliteTarget(foreign), { code: 'damaged' })
  const empty = join(folder, 'empty.db')
  await openFile(empty).close()
  await copy(openSqliteSource(from), () => openSqliteTarget(empty))
  const store = openFile(empty)
  t.equal(await store.countSessions(NOW), 1)
  await store.close()
})

void t.test('the draft of a copy that was cut off is written anew', async (t) => {
  const folder = makeFolder(t)
  const [from, to] = [join(folder, 'a.db'), join(folder, 'b.db')]
  await fill(from)
  const source = await opened(openSqliteSource(from))
  const first = await opened(openSqliteTarget(to))
  for await (const slice of source.slices()) await first.write(slice)
  first.close() // as the end of its process would
  t.ok(existsSync(`${to}.copy`))
  t.notOk(existsSync(to), 'no daemon finds a store')
  source.close()
  t.match(await copy(openSqliteSource(from), () => openSqliteTarget(to)), { live: 1 })
  t.notOk(existsSync(`${to}.copy`))
})

void t.test('what does not fit is a fault of the store', async (t) => {
  const folder = makeFolder(t)
  const target = await opened(openSqliteTarget(join(folder, 'a.db')))
  const users: Slice = { kind: 'users', records: [{ id: 1, name: 'a' }] }
  await target.write(users)
  await t.rejects(target.write(users), StoreError)
  await target.abandon()
  target.close()
  t.throws(() => openSqliteTarget(join(folder, 'no', 'folder', 'a.db')), {
    code: 'unavailable',
    message: /directory must be there/,
  })
})

void t.test('a session of many tokens comes whole, and others wait for their turn', async (t) => {
  const folder = makeFolder(t)
  const file = join(folder, 'a.db')
  const target = await opened(openSqliteTarget(file))
  const many = (sid: string, count: number): SessionRecord => ({
    session: sessionOf(sid),
    tokens: Array.from({ length: count }, (_, at) => hashOf(`${sid}/${at}`)),
    rotatedAt: count > 1 ? NOW : undefined,
    sealed: undefined,
    ended: undefined,
  })
  const plain = many('c', 1)
  const records = [
    many('a', 6000),
    many('b', 6000),
    { ...plain, session: { ...plain.session, persistent: false } },
    many('d', 0),
  ]
  await target.write({ kind: 'sessions', records })
  await target.finish({ epoch: 0, lastUser: 9 })
  target.close()
  const source = await opened(openSqliteSource(file))
  const slices: (readonly SessionRecord[])[] = []
  for await (const slice of source.slices())
    if (slice.kind === 'sessions') slices.push(slice.records)
  t.same(slices.flat(), records)
  t.same(
    slices.map((slice) => slice.length),
    [2, 2],
  )
  t.same(await source.head(), { epoch: 0, lastUser: 9 })
  source.close()
})

void t.test('a token that was traded in stays dead, though nobody knows since when', async (t) => {
  const folder = makeFolder(t)
  const file = join(folder, 'a.db')
  const target = await opened(openSqliteTarget(file))
  const record: SessionRecord = {
    session: sessionOf('a'),
    tokens: [hashOf('a/0'), hashOf('a/1')],
    rotatedAt: undefined,
    sealed: undefined,
    ended: undefined,
  }
  await target.write({ kind: 'sessions', records: [record] })
  await target.finish({ epoch: 0, lastUser: 0 })
  target.close()
  const store = openFile(file)
  t.same(await store.renew(hashOf('a/0'), renewalAt(0)), { state: 'unknown' })
  t.match(await store.renew(hashOf('a/1'), renewalAt(0)), { state: 'live' })
  await store.close()
})

void t.test(
  'what root copies belongs to whom the directory belongs',
  needs(isRoot, 'only root gives files away'),
  async (t) => {
    const folder = makeFolder(t)
    const [from, to] = [join(makeFolder(t), 'a.db'), join(folder, 'b.db')]
    await fill(from)
    chownSync(folder, 4711, 4712)
    await copy(openSqliteSource(from), () => openSqliteTarget(to))
    for (const file of [to, `${to}.lock`]) t.match(statSync(file), { uid: 4711, gid: 4712 }, file)
  },
)
