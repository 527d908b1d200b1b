// A wall clock that steps, in whatever order with everything else: no token is accepted after an acknowledged end.
// Three cases that were seen, on the whole daemon; then random ones, on what decides and both stores.
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'

import { createGuard } from '../../src/auth/check.ts'
import { createPolicy } from '../../src/auth/grants.ts'
import { createRevocations } from '../../src/auth/revocations.ts'
import { createSessions } from '../../src/auth/sessions.ts'
import type { Claims } from '../../src/auth/token.ts'
import { createLearner } from '../../src/daemon/learn.ts'
import { startUpkeep } from '../../src/daemon/upkeep.ts'
import { createLog } from '../../src/log.ts'
import { openRedisStore } from '../../src/store/redis/redis.ts'
import { copyDatabase } from '../../src/store/sqlite/copy.ts'
import { openEngine } from '../../src/store/sqlite/engine.ts'
import { HOUR, type Store } from '../../src/store/store.ts'
import { makeVerbs } from '../../src/store/verbs.ts'
import { createRandom } from '../crash/random.ts'
import { createTestClock, type TestClock } from '../fixtures/clock.ts'
import { bearer, startTestDaemon, V1 } from '../fixtures/daemon.ts'
import { NEEDS_REDIS, type RedisServer, startRedis } from '../fixtures/redis.ts'
import { hashOf, sessionOf } from '../store/sessions.ts'

const DAY = 24 * HOUR
const UPKEEP = 30 // seconds between two of its turns

/** What the daemon does every 30 s is done where the test says so. */
const createPacedClock = () => {
  const clock = createTestClock()
  const jobs = new Set<() => void>()
  return {
    ...clock,
    every(seconds: number, job: () => void) {
      if (seconds !== UPKEEP) return clock.every(seconds, job)
      jobs.add(job)
      return () => void jobs.delete(job)
    },
    async pass(seconds: number): Promise<void> {
      for (let left = seconds; left > 0; left -= UPKEEP) {
        clock.advance(Math.min(left, UPKEEP))
        for (const job of jobs) job()
        await pause(5)
      }
    },
  }
}

const SEEN = [
  ['the clock was ahead at a logout', 3600, [['step', 7200], ['logout'], ['step', -7200]], 95],
  [
    'the clock was ahead at a start',
    3600,
    [['logout'], ['stop'], ['step', 7200], ['start'], ['step', -7200]],
    0,
  ],
  ['the clock was set back after a logout', 60, [['logout'], ['step', -150]], 165],
  [
    'the clock was ahead of the whole session',
    3600,
    [['step', 40 * DAY], ['logout'], ['step', -40 * DAY]],
    0,
  ],
] as const

for (const [name, ttl, steps, after] of SEEN) {
  void t.test(name, async (t) => {
    const clock = createPacedClock()
    const sections = { softphone: `access_ttl = ${ttl}` }
    const daemon = await startTestDaemon(t, { clock, sections, alone: true })
    const { access } = await daemon.softphone()
    t.equal((await daemon.check(access)).status, 204)
    for (const [step, seconds = 0] of steps) {
      if (step === 'step') clock.jump(seconds)
      else if (step !== 'logout') await daemon[step]()
      else {
        const asked = { method: 'POST', headers: bearer(access) }
        t.equal((await daemon.ask(`${V1}/auth/logout`, asked)).status, 200)
      }
    }
    await clock.pass(after)
    t.equal((await daemon.check(access)).status, 401)
  })
}

/** A store, and what happens to it. `clock` is what it was opened with. */
interface Bed {
  open(): Promise<Store>
  /** Without a word, as kill -9 does; what it leaves is opened next. */
  kill(store: Store): Promise<void>
  backUp(): Promise<void>
  /** Puts the backup in its place; nobody has it open. */
  restore(): Promise<void>
}

/** Without its thread, and where an fsync costs nothing: neither is what is tried here. */
const openEngineStore = async (file: string): Promise<Store> => {
  const engine = openEngine(file)
  return {
    ...makeVerbs((verb) => async (...args) => {
      const [outcome] = engine.apply([{ verb, args }])
      if (!outcome || 'error' in outcome) throw new Error(`${verb}: ${outcome?.error.message}`)
      return outcome.value
    }),
    close: async () => engine.close(),
  }
}

const MEMORY = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

const sqliteBed = (t: Test): Bed => {
  const folder = mkdtempSync(join(MEMORY, 'postern-'))
  t.teardown(() => {
    rmSync(folder, { recursive: true, force: true })
  })
  let file = join(folder, 'store-0.db')
  let files = 1
  const nextFile = () => join(folder, `store-${files++}.db`)
  const backup = join(folder, 'backup.db')
  return {
    open: () => openEngineStore(file),
    async kill(store) {
      const left = file
      file = nextFile()
      for (const suffix of ['', '-wal']) {
        if (existsSync(left + suffix)) copyFileSync(left + suffix, file + suffix)
      }
      await store.close()
    },
    async backUp() {
      rmSync(backup, { force: true })
      copyDatabase(file, backup)
    },
    async restore() {
      file = nextFile()
      copyFileSync(backup, file)
    },
  }
}

const redisBed = (server: RedisServer, clock: TestClock): Bed => {
  const dump = join(server.folder, 'dump.rdb')
  return {
    open: () => openRedisStore({ url: server.socketUrl, timeout: 5, now: clock.now }),
    kill: (store) => store.close(),
    async backUp() {
      server.cli('SAVE')
      copyFileSync(dump, `${dump}.backup`)
    },
    async restore() {
      await server.kill()
      copyFileSync(`${dump}.backup`, dump)
      await server.start()
    },
  }
}

const openDaemon = async (store: Store, clock: TestClock, tokens: Map<string, Claims>) => {
  const revocations = createRevocations()
  const policy = createPolicy(new Map([['user', ['read:**']]]))
  const verify = async (text: string): Promise<Claims> => tokens.get(text) as Claims
  const sessions = createSessions({
    store,
    revocations,
    clock,
    onEnd: () => undefined,
    onOwed: () => undefined,
  })
  const guard = createGuard({
    tokens: { remembered: () => undefined, verify },
    revocations,
    policy,
    peek: () => undefined,
    ownRole: new Map(),
    owes: sessions.owes,
    clock,
  })
  await createLearner({
    store,
    revocations,
    registry: { adopt: () => undefined },
    streamFile: {
      list: () => [],
      loss: undefined,
      neighbours: { isThere: () => false, silent: () => [] },
      open: () => undefined,
    },
    kicker: { countSubscribers: async () => 0 },
    workers: { loseList: () => undefined },
    follower: { endSessionsOfChangedUsers: async () => undefined },
    terms: { isForeign: () => false },
    machineKeys: { read: async () => undefined },
    observer: { streamsLost: () => undefined },
    clock,
  }).learn()
  let upkeep = (): void => undefined
  const pruned: (() => void)[] = []
  startUpkeep({
    store: {
      countTime: store.countTime,
      async prune(now, past) {
        const gone = await store.prune(now, past)
        if (gone === 0) setImmediate(() => pruned.shift()?.()) // the round itself ends first
        return gone
      },
    },
    revocations,
    machineKeys: { forget: async () => undefined },
    limit: { allows: () => true, takeSuppressed: () => [] },
    limitWindow: 10,
    securityWindow: 60,
    observer: { sayLeftOut: () => undefined },
    log: createLog('fatal', { write: () => undefined }),
    clock: {
      ...clock,
      every: (seconds, job) => {
        if (seconds === UPKEEP) upkeep = job
        return () => undefined
      },
    },
    findObstacle: async () => undefined,
    idleTtl: () => 0,
  })
  return {
    guard,
    sessions,
    prune: () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      pruned.push(resolve)
      upkeep()
      return promise
    },
  }
}

const STEPS = [1, 5, 30, 150, 900, HOUR, 7200, DAY, 2 * DAY]
const ACTIONS = [
  'step',
  'step',
  'login',
  'logout',
  'restart',
  'kill',
  'back up',
  'restore',
  'pass',
  'pass',
] as const

/** → how often a token was refused because its session had ended, and was let in. */
const tell = async (t: Test, seed: number, clock: TestClock, bed: Bed) => {
  const random = createRandom(seed)
  const tokens = new Map<string, Claims>()
  // The model: what was ended, what no clock ever stood past, and what a restore has ended.
  const ended = new Set<string>()
  let latest = 0
  let restored = 0
  const story: unknown[] = []
  const seen = { refused: 0, allowed: 0 }
  let backedUp = false

  let store = await bed.open()
  let daemon = await openDaemon(store, clock, tokens)
  const reopen = async () => {
    store = await bed.open()
    daemon = await openDaemon(store, clock, tokens)
  }
  const acts: Record<(typeof ACTIONS)[number], () => Promise<unknown>> = {
    step: async () => {
      const seconds = random.pick(STEPS) * random.pick([1, -1])
      clock.jump(seconds)
      return seconds
    },
    login: async () => {
      const [sid, ttl, iat] = [`s${tokens.size}`, random.pick([60, 900, DAY]), clock.now()]
      const until = { expiresAt: iat + random.pick([ttl, 30 * DAY]), accessUntil: iat + ttl }
      await store.openSession(
        sessionOf(sid, { createdAt: iat, seenAt: iat, ...until }),
        hashOf(sid),
      )
      const life = { iat, nbf: iat, exp: iat + ttl }
      const who = { sub: '7', username: '201', role: 'user', sid, jti: sid }
      tokens.set(sid, { type: 'access', ...who, ...life, kid: 'k' })
      return { sid, ...life }
    },
    logout: async () => {
      const sid = random.pick([...tokens.keys(), 'nobody'])
      await daemon.sessions.end(sid, 'logout')
      ended.add(sid)
      return sid
    },
    restart: async () => {
      await store.close()
      await reopen()
    },
    kill: async () => {
      await bed.kill(store)
      await reopen()
    },
    'back up': async () => {
      await store.close()
      await bed.backUp()
      backedUp = true
      await reopen()
    },
    restore: async () => {
      if (!backedUp) return
      await store.close()
      await bed.restore()
      store = await bed.open()
      // What was issued up to now has no session that the backup could know of.
      restored = Math.max(clock.now(), ...Array.from(tokens.values(), ({ iat }) => iat)) + 1
      await store.moveEpoch(restored)
      daemon = await openDaemon(store, clock, tokens)
    },
    pass: async () => {
      const [turns, seconds] = random.pick([
        [1, UPKEEP],
        [3, 60],
        [26, HOUR],
      ] as const)
      for (let turn = 0; turn < turns; turn++) {
        clock.advance(seconds)
        await daemon.prune()
        latest = Math.max(latest, clock.now())
      }
      return turns * seconds
    },
  }
  await acts.login()
  for (let turn = 0; turn < 25; turn++) {
    const action = random.pick(ACTIONS)
    story.push([action, await acts[action]()])
    latest = Math.max(latest, clock.now())
    for (const [token, { sid, iat, exp }] of tokens) {
      const asked = { token, action: 'read', resource: 'recordings/a.wav' }
      const decision = await daemon.guard.check(asked)
      const isAllowed = !('refused' in decision)
      if (ended.has(sid) && isAllowed) t.fail('accepted after its end', { seed, sid, story })
      const isLive = !ended.has(sid) && exp > latest && iat <= clock.now() && iat >= restored
      if (isLive && !isAllowed) t.fail('refused though nobody ended it', { seed, sid, story })
      if (isAllowed) seen.allowed++
      else if (decision.refused === 'session_ended') seen.refused++
    }
  }
  await store.close()
  return seen
}

const SEQUENCES = 100 // on each store

const tellAll = async (t: Test, openBed: (clock: TestClock) => Bed) => {
  const seen = { refused: 0, allowed: 0 }
  for (let number = 0; number < SEQUENCES; number++) {
    const clock = createTestClock()
    const { refused, allowed } = await tell(t, number, clock, openBed(clock))
    seen.refused += refused
    seen.allowed += allowed
  }
  t.comment(`${SEQUENCES} sequences: ${JSON.stringify(seen)}`)
  t.ok(seen.refused > SEQUENCES && seen.allowed > SEQUENCES, 'both were seen')
}

void t.test('random steps, on SQLite', { timeout: 300_000 }, async (t) => {
  await tellAll(t, () => sqliteBed(t))
})

void t.test('random steps, on Redis', { ...NEEDS_REDIS, timeout: 300_000 }, async (t) => {
  const server = await startRedis(t)
  await tellAll(t, (clock) => {
    server.cli('FLUSHALL')
    return redisBed(server, clock)
  })
})
