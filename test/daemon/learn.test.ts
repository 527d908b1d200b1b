// What a start takes over, and when streams may be live that nobody knows of; by parts that do as they are told.
// test/nginx/live-list.test.ts has the real ones.

import t from 'tap'

import { createRevocations } from '../../src/auth/revocations.ts'
import { createLearner } from '../../src/daemon/learn.ts'
import { KickSocketError } from '../../src/streams/kicker.ts'
import { type Loss, StreamFileError } from '../../src/streams/stream-file.ts'
import type { Subscription } from '../../src/streams/subscription.ts'
import { createTestClock, NOW } from '../fixtures/clock.ts'
import { subscriptionOf } from '../store/sessions.ts'

const streamOf = (kick: string, given: Partial<Subscription> = {}): Subscription => ({
  ...subscriptionOf(kick, { sid: kick, ...given }),
  kid: 'k1',
  worker: '1',
  ...given,
})

const setUp = (
  given: {
    streams?: Subscription[]
    left?: string[]
    loss?: Loss
    sibling?: boolean
    subscribers?: number | Error
    full?: Error
    epoch?: number
  } = {},
) => {
  const { streams = [], left = [], loss, sibling = false, subscribers = 0, full } = given
  const adopted: Record<string, unknown>[] = []
  const [written, closed, lost]: string[][] = [[], [], []]
  const asked: string[] = []
  const revocations = createRevocations()
  const learner = createLearner({
    store: {
      async accessOf(sessions) {
        asked.push(...sessions.map(({ sid }) => sid))
        return new Map([['known', { role: 'guest', until: NOW + 5000 }]])
      },
      closeSubscriptions: async (kicks) => void closed?.push(...kicks),
      countTime: async () => 0,
      epoch: async () => given.epoch ?? 0,
      listEnded: async () => [],
      listSubscriptions: async () => left.map((kick) => subscriptionOf(kick, { sid: 'known' })),
    },
    revocations,
    registry: {
      adopt(found, stands) {
        for (const one of found) {
          const { kick, role, until, kid } = one
          adopted.push({ kick, role, until: until - NOW, kid, stands: stands(one) })
        }
      },
    },
    streamFile: {
      list: () => streams,
      loss,
      neighbours: { isThere: () => sibling, silent: () => [] },
      open({ kick }) {
        if (full) throw full
        written?.push(kick)
      },
    },
    kicker: {
      async countSubscribers() {
        if (subscribers instanceof Error) throw subscribers
        return subscribers
      },
    },
    workers: { loseList: () => void lost?.push('list') },
    follower: { endSessionsOfChangedUsers: async () => undefined },
    terms: { isForeign: (username) => username.startsWith('other:') },
    machineKeys: { read: async () => undefined },
    observer: { streamsLost: (what) => void lost?.push(what) },
    clock: createTestClock(),
  })
  return { ...learner, adopted, written, closed, lost, asked }
}

void t.test('what the store does not know has ended, but for another system’s users', async (t) => {
  const streams = [
    streamOf('known'),
    streamOf('unknown'),
    streamOf('foreign', { username: 'other:201', until: NOW + 60 }),
  ]
  const { learn, adopted, asked, lost } = setUp({ streams, subscribers: 3 })
  await learn()
  t.same(asked, ['known', 'unknown'])
  t.same(adopted, [
    { kick: 'known', role: 'guest', until: 5000, kid: 'k1', stands: true },
    { kick: 'unknown', role: 'user', until: 900, kid: 'k1', stands: false },
    { kick: 'foreign', role: 'user', until: 60, kid: 'k1', stands: true },
  ])
  t.same(lost, [], 'nothing is missing')

  const later = setUp({ streams, epoch: NOW + 1 })
  await later.learn()
  t.ok(
    later.adopted.every(({ stands }) => stands === false),
    'of before the epoch',
  )

  const none = setUp()
  await none.learn()
  t.same([none.asked, none.adopted], [[], []])
})

void t.test(
  'what the version before left is written down, then taken out of the store',
  async (t) => {
    const moved = setUp({ left: ['a', 'b'], loss: 'missing', subscribers: 2 })
    await moved.learn()
    t.same(
      [moved.written, moved.closed],
      [
        ['a', 'b'],
        ['a', 'b'],
      ],
    )
    t.match(moved.adopted, [
      { kick: 'a', kid: '', stands: true },
      { kick: 'b', kid: '', stands: true },
    ])
    t.same(moved.lost, [], 'no list was there to be lost')

    const full = setUp({ left: ['a'], full: new StreamFileError('no room') })
    await full.learn()
    t.same(full.closed, [], 'it stays')
    t.match(full.adopted, [{ kick: 'a' }], 'and is ended all the same')
    await t.rejects(setUp({ left: ['a'], full: new Error('a bug') }).learn(), /a bug/)
  },
)

void t.test('a list is lost only where nginx may hold streams', async (t) => {
  const socket = (code: string) => new KickSocketError('away', code)
  const rows: [loss: Loss, given: Parameters<typeof setUp>[0], lost: boolean][] = [
    ['missing', { subscribers: 1 }, true],
    ['missing', { subscribers: 0 }, false],
    ['missing', { subscribers: 1, sibling: true }, false],
    ['damaged', { subscribers: 1, sibling: true }, true],
    ['damaged', { subscribers: 0 }, false],
    ['missing', { subscribers: socket('ENOENT') }, false],
    ['missing', { subscribers: socket('ECONNREFUSED') }, false],
    ['missing', { subscribers: socket('ETIMEDOUT') }, true],
  ]
  for (const [loss, given, isLost] of rows) {
    const { learn, lost } = setUp({ loss, ...given })
    await learn()
    t.same(lost, isLost ? ['list', loss] : [], JSON.stringify([loss, given]))
  }
})
