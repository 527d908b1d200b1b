// A store that was filled by its own verbs goes from file to Redis to file to Redis, and every verb answers in
// all of them as in the first. What is not read back as it was is never put in place.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import * as fc from 'fast-check'
import t from 'tap'

import { openRedisSource, openRedisTarget } from '../../src/store/redis-transfer.ts'
import { openSqliteSource, openSqliteTarget } from '../../src/store/sqlite-transfer.ts'
import { END_CAUSES, type Session, type Store } from '../../src/store/store.ts'
import { copyStore, type Slice } from '../../src/store/transfer.ts'
import { NOW } from '../fixtures/clock.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'
import {
  closeShared,
  copy,
  makeFolder,
  opened,
  openFile,
  openShared,
  sideOf,
  toFile,
  toRedis,
} from './copying.ts'
import { hashOf, renewalAt, sessionOf, subscriptionOf, successor } from './sessions.ts'

const DAY = 86_400
const USERS = ['201', '202', 'Zoë "x"']

type Step =
  | { do: 'identify'; user: number }
  | { do: 'open'; user: number; credential: string; life: number; most: number }
  | { do: 'rotate' | 'renew'; session: number; back: number; idle: number }
  | { do: 'end'; session: number; cause: number }
  | { do: 'endAll'; user: number; cause: number }
  | { do: 'ticket'; id: number; request: string }
  | { do: 'subscribe' | 'unsubscribe'; kick: number; session: number }
  | { do: 'epoch' }
  | { do: 'wait'; seconds: number }

const nat = (max: number) => fc.nat({ max })
const steps = fc.array(
  fc.oneof(
    fc.record({ do: fc.constant('identify' as const), user: nat(2) }),
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('open' as const),
        user: nat(2),
        credential: fc.constantFrom('mark', 'changed'),
        life: fc.constantFrom(1000, 30 * DAY),
        most: fc.constantFrom(0, 0, 2),
      }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constantFrom('rotate' as const, 'rotate' as const, 'renew' as const),
        session: nat(9),
        back: fc.constantFrom(0, 0, 0, 1, 2),
        idle: fc.constantFrom(0, 0, 500),
      }),
    },
    fc.record({ do: fc.constant('end' as const), session: nat(9), cause: nat(8) }),
    fc.record({ do: fc.constant('endAll' as const), user: nat(2), cause: nat(8) }),
    fc.record({
      do: fc.constant('ticket' as const),
      id: nat(5),
      request: fc.constantFrom('', 'r', 's'),
    }),
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constantFrom('subscribe' as const, 'subscribe' as const, 'unsubscribe' as const),
        kick: nat(9),
        session: nat(9),
      }),
    },
    fc.record({ do: fc.constant('epoch' as const) }),
    {
      weight: 3,
      arbitrary: fc.record({
        do: fc.constant('wait' as const),
        seconds: fc.constantFrom(1, 3, 29, 40, 700, DAY),
      }),
    },
  ),
  { minLength: 10, maxLength: 60 },
)

const bySid = (one: { sid: string }, two: { sid: string }) => (one.sid < two.sid ? -1 : 1)

/** What a store can do, step by step; the same for the same steps. */
interface Actor {
  after: number
  count: number
  readonly tokens: string[][]
  /** Whose session it is. */
  readonly owners: string[]
}

const act = async (store: Store, actor: Actor, step: Step): Promise<unknown> => {
  const { after, tokens } = actor
  const now = NOW + after
  const sid = 'session' in step ? `s${step.session}` : ''
  const cause = 'cause' in step ? (END_CAUSES[step.cause] ?? 'logout') : 'logout'
  const username = 'user' in step ? String(USERS[step.user]) : ''
  switch (step.do) {
    case 'identify':
      return store.identify(username)
    case 'open': {
      const given: Partial<Session> = {
        username,
        userId: await store.identify(username),
        credential: step.credential,
        createdAt: now,
        expiresAt: now + step.life,
        accessUntil: now + 900,
        seenAt: now,
      }
      const token = `${tokens.length}/0`
      tokens.push([token])
      actor.owners.push(username)
      const session = sessionOf(`s${tokens.length - 1}`, given)
      return (await store.openSession(session, hashOf(token), step.most)).sort(bySid)
    }
    case 'rotate': {
      const chain = tokens[step.session]
      const next = `${step.session}/${++actor.count}`
      const presented = hashOf(chain?.at(-1 - step.back) ?? 'never')
      const renewal = renewalAt(after, { idleTtl: step.idle })
      const rotation = await store.rotate(presented, successor(next), renewal, 30)
      if (rotation.outcome === 'rotated') chain?.push(next)
      return rotation
    }
    case 'renew':
      return store.renew(
        hashOf(tokens[step.session]?.at(-1 - step.back) ?? 'never'),
        renewalAt(after, { idleTtl: step.idle, role: 'admin' }),
      )
    case 'end':
      return store.endSession(sid, cause, now)
    case 'endAll':
      return (await store.endSessionsOf(username, cause, now)).sort(bySid)
    case 'ticket':
      return store.useTicket(`t${step.id}`, step.request, now, now + 60)
    case 'subscribe': {
      const owner = actor.owners[step.session]
      const whose = owner === undefined ? { sid: 'gone' } : { sid, username: owner }
      const given = { ...whose, startedAt: now, until: now + 900 }
      return store.openSubscription(subscriptionOf(`k${step.kick}`, given)).then(
        () => 'opened',
        () => 'taken',
      )
    }
    case 'unsubscribe':
      return store.closeSubscriptions([`k${step.kick}`])
    case 'epoch':
      return store.moveEpoch(now)
    case 'wait':
      actor.after += step.seconds
      return undefined
  }
}

const perform = async (store: Store, from: Actor, program: readonly Step[]) => {
  const actor: Actor = {
    ...from,
    tokens: from.tokens.map((chain) => [...chain]),
    owners: [...from.owners],
  }
  const answers: unknown[] = []
  for (const step of program) answers.push([step, await act(store, actor, step)])
  return { actor, answers }
}

/** All that can be asked without changing anything. */
const inspect = async (store: Store, { after, tokens }: Actor): Promise<unknown> => {
  const now = NOW + after
  const all = tokens.flat()
  const credentials = await store.listCredentials(now)
  return {
    ended: (await store.listEnded(now)).sort(bySid),
    live: await store.listSessions(now),
    ofUsers: await Promise.all(USERS.map((user) => store.listSessions(now, user))),
    count: await store.countSessions(now),
    credentials: credentials.map((one) => `${one.username} ${one.credential}`).sort(),
    epoch: await store.epoch(),
    subscriptions: await store.listSubscriptions(),
    found: await Promise.all(all.map((token) => store.findByRefresh(hashOf(token), now))),
  }
}

const pruneAll = async (store: Store, now: number): Promise<void> => {
  while ((await store.prune(now)) > 0);
}

const NOBODY: Actor = { after: 0, count: 0, tokens: [], owners: [] }

void t.test(
  'after the round trip every verb answers as it would have without',
  { ...NEEDS_REDIS, timeout: 900_000 },
  async (t) => {
    const server = await startRedis(t)
    const folder = makeFolder(t)
    let run = 0
    const roundTrip = async (filling: readonly Step[], probing: readonly Step[]): Promise<void> => {
      const at = ++run
      const files = ['a', 'b', 'c'].map((name) => join(folder, `${at}-${name}.db`))
      const [whole = '', returned = '', fetched = ''] = files
      const prefixes = [`${at}-a:`, `${at}-b:`] as const
      const first = openFile(whole)
      // All of them: the adapters differ in how many numbers they skip for a new one, and may.
      for (const user of USERS) await first.identify(user)
      const { actor } = await perform(first, NOBODY, filling)
      // Another one, that was shared from the beginning.
      const lived = `${at}-c:`
      const second = await openShared(server, { prefix: lived, trustSince: 0 })
      for (const user of USERS) await second.identify(user)
      await perform(second, NOBODY, filling)
      const highest = Math.max(...(await Promise.all(USERS.map((user) => first.identify(user)))))
      const now = NOW + actor.after
      await pruneAll(first, now)
      await first.close()
      await pruneAll(second, now)
      await closeShared(server, second, lived)
      const copied = await toRedis(whole, server, { prefix: prefixes[0], now })
      const back = await toFile(server, returned, { prefix: prefixes[0], now })
      const again = await toRedis(returned, server, { prefix: prefixes[1], now })
      const out = await toFile(server, fetched, { prefix: lived, now })
      t.same([back, again, out], [copied, copied, copied])

      const shared = await Promise.all(prefixes.map((prefix) => openShared(server, { prefix })))
      const stores = [...files.map(openFile), ...shared]
      try {
        const seen = await Promise.all(stores.map((store) => inspect(store, actor)))
        for (const other of seen.slice(1)) t.same(other, seen[0])
        for (const { feed } of shared) t.equal(feed.trustedSince(), await stores[0]?.epoch())
        const probed = await Promise.all(stores.map((store) => perform(store, actor, probing)))
        for (const { answers } of probed.slice(1)) t.same(answers, probed[0]?.answers)
        const last = probed[0]?.actor ?? actor
        await Promise.all(stores.map((store) => pruneAll(store, NOW + last.after)))
        const after = await Promise.all(stores.map((store) => inspect(store, last)))
        for (const other of after.slice(1)) t.same(other, after[0])
        for (const store of stores) t.ok((await store.identify('new')) > highest)
      } finally {
        await Promise.all(stores.map((store) => store.close()))
      }
      if (!t.passing()) throw new Error(`it differs: ${JSON.stringify({ filling, probing })}`)
    }
    await fc.assert(fc.asyncProperty(steps, steps, roundTrip), {
      seed: Number(process.env['SEED'] ?? Date.now()),
      numRuns: Number(process.env['RUNS'] ?? 20),
      endOnFailure: true,
    })
  },
)

const filled = async (folder: string): Promise<string> => {
  const file = join(folder, 'full.db')
  const store = openFile(file)
  for (const name of ['a', 'b', 'c']) {
    await store.openSession(
      sessionOf(name, { userId: await store.identify(name), username: name }),
      hashOf(name),
    )
  }
  await store.endSession('c', 'operator', NOW)
  await store.close()
  return file
}

/** One record less, the second time that it is read. */
const forgetful = (read: () => AsyncIterable<Slice>): (() => AsyncIterable<Slice>) => {
  let readings = 0
  return async function* forget() {
    const again = readings++ > 0
    for await (const slice of read()) {
      if (again && slice.kind === 'sessions') yield { ...slice, records: slice.records.slice(1) }
      else yield slice
    }
  }
}

void t.test('what does not come back as it was is not put in place', async (t) => {
  const folder = makeFolder(t)
  const source = await opened(openSqliteSource(await filled(folder)))
  const file = join(folder, 'copy.db')
  const target = await opened(openSqliteTarget(file))
  const changed = { ...source, slices: forgetful(source.slices) }
  await t.rejects(copyStore(changed, target, NOW), { name: 'StoreError', message: /not give back/ })
  target.close()
  source.close()
  t.notOk(existsSync(file))
  t.notOk(existsSync(`${file}.copy`), 'nor left behind')
})

void t.test('nor what somebody was at work on meanwhile', async (t) => {
  const folder = makeFolder(t)
  const source = await opened(openSqliteSource(await filled(folder)))
  const file = join(folder, 'copy.db')
  const target = await opened(openSqliteTarget(file))
  const refusal = { refused: 'somebody came' }
  t.same(await copyStore({ ...source, disturbed: async () => refusal }, target, NOW), refusal)
  target.close()
  source.close()
  t.notOk(existsSync(file))
})

void t.test('a daemon that comes while Redis is read is noticed', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  await toRedis(await filled(folder), server)
  const source = await opened(openRedisSource(sideOf(server)))
  const target = await opened(openSqliteTarget(join(folder, 'copy.db')))
  const came = await openShared(server)
  t.match(await copyStore(source, target, NOW), { refused: /stop the daemon/ })
  await closeShared(server, came)
  t.match(await source.disturbed(), { refused: /stop the daemon/ }, 'also when it is gone again')
  source.close()
  target.close()
})

void t.test('it says how much of what there was', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  const folder = makeFolder(t)
  const file = await filled(folder)
  const store = openFile(file)
  const life = { expiresAt: NOW + 10, accessUntil: NOW + 10 }
  await store.openSession(sessionOf('over', life), hashOf('over'))
  await store.useTicket('t', 'r', NOW, NOW + 60)
  await store.openSubscription(subscriptionOf('k'))
  await store.close()
  const counts = { live: 2, ended: 1, expired: 1, users: 3, tickets: 1, subscriptions: 1 }
  const into = (prefix: string, now: number) =>
    copy(openSqliteSource(file), () => openRedisTarget(sideOf(server, { prefix, now })), now)
  t.same(await into('a:', NOW + 20), counts)
  // Due to be forgotten by now, and not yet forgotten.
  t.same(await into('b:', NOW + 900 + DAY), { ...counts, ended: 0, expired: 0, tickets: 0 })
})
