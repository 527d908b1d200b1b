// The hosts under test: real daemons on folders of their own, alone with SQLite or three with one Redis. They
// are killed without a warning and started again at once, as the operating system would. Whoever ends without
// having been killed, or does not come back, is a finding of its own.

import { mkdirSync, writeFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { Test } from 'tap'

import { generateKeySet } from '../../src/auth/keyring.ts'
import { HASH, makePlace, type Place, run, type Run } from '../fixtures/postern.ts'
import { type RedisServer, startRedis } from '../fixtures/redis.ts'
import { type Caller, createCaller } from './caller.ts'
import { LONGEST_STOP } from './chaos.ts'
import type { Terms } from './journal.ts'

export type StoreKind = 'sqlite' | 'redis'

export interface Host {
  readonly name: string
  readonly caller: Caller
  /** Resolves when it says that it is ready; false where it was killed before. Throws where it ended by itself. */
  start(): Promise<boolean>
  kill(): Promise<void>
  /** Whether it says that it can decide. */
  isWell(): Promise<boolean>
}

export interface Site {
  readonly hosts: readonly Host[]
  readonly redis: RedisServer | undefined
  readonly terms: Terms
}

/** What folders and processes are cleaned up with; a tap test is one. */
export type Owner = Pick<Test, 'teardown'>

const GRACE = 4 // seconds: a start on a busy machine, and a client that asks again, are well within
const STALE = 2
const FEED_BOUND = 1.5 // a poll each second, and twice the time-out of 0.25 s
const START_WITHIN = 120 // seconds
const DAY = 86_400

const sections = (url: string): Readonly<Record<string, string>> => ({
  // No token ends by itself: the judge need not know the time.
  softphone: `rotate = true\naccess_ttl = ${DAY}`,
  mikopbx: `rotate = true\naccess_ttl = ${DAY}`,
  // The judge knows of no sight: a traded token is good within its grace, and at no other time.
  refresh: `grace = ${GRACE}\nunseen_grace = 0`,
  sessions: 'per_user = 0',
  // A kill leaves tries that were never judged: they must not add up to a ban of those who know the password.
  throttle: 'pair_failures = 1000000\naddress_failures = 1000000\naccount_failures = 1000000',
  log: 'security = ""',
  ...(url !== '' && { store: `url = "${url}"\nstale_seconds = ${STALE}` }),
})

const TERMS: Readonly<Record<StoreKind, Terms>> = {
  sqlite: { grace: GRACE, bound: 0, late: 0 },
  redis: { grace: GRACE, bound: Math.max(FEED_BOUND, STALE), late: LONGEST_STOP + 0.5 },
}

const createHost = (owner: Test, name: string, place: Place): Host => {
  let daemon: Run | undefined
  const caller = createCaller(place.at('http.sock'))
  const operator = createCaller(place.at('op.sock'))
  owner.teardown(() => {
    caller.close()
    operator.close()
  })
  return {
    name,
    caller,
    async start() {
      const started = run(owner, ['serve', '--config', place.config])
      daemon = started
      const deadline = performance.now() + START_WITHIN * 1000
      while (!started.out().includes('"msg":"ready"')) {
        const { exitCode, signalCode } = started.child
        if (signalCode === 'SIGKILL') return false
        if (exitCode !== null || performance.now() > deadline) {
          throw new Error(`${name} did not start: ${started.err()}${started.out()}`)
        }
        await pause(10)
      }
      return true
    },
    async kill() {
      const { exitCode } = daemon?.child ?? {}
      if (typeof exitCode === 'number') {
        throw new Error(`${name} ended by itself: ${daemon?.err()}${daemon?.out()}`)
      }
      await daemon?.end('SIGKILL')
    },
    async isWell() {
      const called = await operator.call('/readyz')
      return typeof called === 'object' && called.status === 200
    },
  }
}

export const openSite = async (
  owner: Owner,
  kind: StoreKind,
  users: readonly string[],
): Promise<Site> => {
  const test = owner as Test // the fixtures use nothing else of it
  const redis =
    kind === 'redis'
      ? await startRedis(test, { appendonly: 'yes', appendfsync: 'always' })
      : undefined
  const keys = generateKeySet(Math.floor(Date.now() / 1000))
  const hosts = (redis ? ['a', 'b', 'c'] : ['a']).map((name) => {
    const place = makePlace(test, sections(redis?.url ?? ''))
    place.users(...users.map((user) => `${user}:${HASH}:user`))
    if (redis) {
      // Copied to every host by whoever runs them; alone, a daemon makes its own.
      mkdirSync(place.at('state'), { mode: 0o700 })
      writeFileSync(place.at('state', 'keys.json'), keys, { mode: 0o600 })
    }
    return createHost(test, name, place)
  })
  await Promise.all(hosts.map(async (host) => host.start()))
  return { hosts, redis, terms: TERMS[kind] }
}
