// One host's use of the shared store, as a process of its own: it gets ready, waits for SIGUSR2, does one verb as fast
// as it goes through the real adapter, and prints how often.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'

import { openRedisStore } from '../src/store/redis/redis.ts'
import type { SharedStore } from '../src/store/shared-store.ts'
import type { Session } from '../src/store/store.ts'

const VERBS = ['login', 'enter', 'renew', 'rotate', 'logout', 'watch'] as const
export type Verb = (typeof VERBS)[number]

export interface StoreJob {
  url: string
  verb: Verb
  seconds: number
  /** At most so many; 0: only the time ends it. */
  most: number
  /** For `watch`: how many hosts, each with its own connections. */
  hosts: number
}

export interface StoreReport {
  done: number
  seconds: number
}

const AT_ONCE = 64
const MONTH = 30 * 86_400
const WINDOW = 900
const PATIENCE = 5 // seconds: on a busy machine a pinned Redis may wait that long for its core

const now = (): number => Math.floor(Date.now() / 1000)

/** As a softphone's login makes it. */
export const sessionOf = (sid: string, username: string, userId: number): Session => ({
  sid,
  userId,
  username,
  role: 'user',
  dialect: 'softphone',
  credential: randomBytes(12).toString('base64url'),
  language: 'en',
  persistent: true,
  createdAt: now(),
  expiresAt: now() + MONTH,
  accessUntil: now() + 3600,
  seenAt: now(),
  address: '192.0.2.117',
  agent: 'Linphone-Desktop/5.2.6 (Debian GNU/Linux 12, Qt 5.15.8) LinphoneSDK/5.3.70',
})

interface Opened {
  sid: string
  username: string
  hash: Buffer
}

const createVerbs = (
  store: SharedStore,
  opened: Opened[],
): Record<Verb, (at: number) => Promise<unknown>> => {
  const own = randomBytes(4).toString('hex')
  const enter = async (at: number): Promise<void> => {
    const username = `softphone-${own}-${at}`
    const [sid, hash] = [randomBytes(16).toString('hex'), randomBytes(32)]
    const userId = await store.identify(username)
    await store.openSession(sessionOf(sid, username, userId), hash, 50)
    opened.push({ sid, username, hash })
  }
  const one = (at: number): Opened => {
    const found = opened[at % opened.length]
    if (!found) throw new Error('no session was opened')
    return found
  }
  const renewal = { role: 'user', accessUntil: now() + 7200, idleTtl: 0 }
  return {
    async login(at) {
      const limits = ['pair', 'address', 'account'].map((kind) => ({
        key: `${kind} ${at}`,
        failures: 100,
        spacing: 0,
      }))
      const attempt = await store.throttle.begin(limits, WINDOW)
      if (!('settle' in attempt)) throw new Error('a login was throttled')
      await enter(at)
      await attempt.settle('succeeded')
    },
    enter,
    renew: (at) => store.renew(one(at).hash, { ...renewal, now: now() }),
    async rotate(at) {
      const session = one(at)
      const hash = randomBytes(32)
      const next = { hash, sealed: randomBytes(92) }
      await store.rotate(session.hash, next, { ...renewal, now: now() }, 30)
      session.hash = hash
    },
    logout: (at) => store.endSession(one(at).sid, 'logout', now()),
    watch: () => pause(1000),
  }
}

const serve = async (job: StoreJob): Promise<void> => {
  const { url, verb, seconds, most, hosts } = job
  const open = (): Promise<SharedStore> =>
    openRedisStore({ url, nginx: 'bench', timeout: PATIENCE })
  const store = await open()
  for (let host = 1; host < hosts; host++) await open()
  const opened: Opened[] = []
  const verbs = createVerbs(store, opened)
  const crowd = async (
    act: (at: number) => Promise<unknown>,
    until: () => boolean,
    end: number,
  ) => {
    let [next, done] = [0, 0]
    const worker = async (): Promise<void> => {
      while (next < end && !until()) {
        await act(next++)
        done++
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, worker))
    return done
  }
  if (verb === 'renew' || verb === 'rotate' || verb === 'logout') {
    await crowd(verbs.enter, () => false, most)
  }
  const go = once(process, 'SIGUSR2')
  process.stdout.write('ready\n')
  await go
  const startedAt = performance.now()
  const isOver = (): boolean => performance.now() - startedAt > seconds * 1000
  // A session ends once; it may be refreshed again and again.
  const end = most === 0 || verb === 'renew' || verb === 'rotate' ? Infinity : most
  const done = await crowd(verbs[verb], isOver, end)
  const report: StoreReport = { done, seconds: (performance.now() - startedAt) / 1000 }
  process.stdout.write(`${JSON.stringify(report)}\n`)
  process.exit(0)
}

if (import.meta.main) await serve(JSON.parse(process.argv[2] ?? '{}') as StoreJob)
