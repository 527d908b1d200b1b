// The store on a Redis or Valkey that several hosts share. A user's sessions, tokens and indexes lie under one root,
// so every verb is one script. Tokens are kept as hashes only.

import { systemClock, type Time } from '../../clock.ts'
import { COUNT_TIME } from './counted-time.ts'
import { createFeed, type Feed, MARK } from './feed.ts'
import { inspectRedis } from './inspect.ts'
import { MOVE } from './journal.ts'
import { createLayout, FORMAT } from './layout.ts'
import { type LinkSettings, openLink } from './link.ts'
import { PRUNE } from './prune.ts'
import { atRoot, plain } from './scripts.ts'
import { createRedisSessions } from './sessions.ts'
import { createRedisStreams } from './streams.ts'
import { createRedisThrottle } from './throttle.ts'
import { NO_MACHINE_KEYS } from '../machine-key.ts'
import type { SharedStore, SharedVerbs } from '../shared-store.ts'
import {
  HOUR,
  HOURS_TO_PASS,
  MOST_TICKETS,
  REPEAT_WITHIN,
  StoreError,
  type StoreVerbs,
} from '../store.ts'

export interface RedisSettings extends Pick<LinkSettings, 'url' | 'password' | 'ca'> {
  /** What every key begins with: two deployments may share a server. */
  prefix?: string
  /** Under which name the version before kept the streams of this host's nginx. */
  nginx?: string
  /** Seconds that the server may be silent while a call waits. */
  timeout?: number
  /** Seconds between readings of the ends of sessions. */
  pollSeconds?: number
  /** Unix seconds; only for the feed and for the users' numbers, all else is told the time. */
  now?: () => number
  /** Of waiting, and of silence. */
  clock?: Time
}

/** name, least number that may be the last, where to go on if it is less. */
export const IDENTIFY = atRoot(`
local id = redis.call('HGET', root .. ':names', ARGV[1])
if id then return number(id) end
local last = redis.call('HGET', root, 'last')
if not last or number(last) < number(ARGV[2]) then redis.call('HSET', root, 'last', ARGV[3]) end
id = redis.call('HINCRBY', root, 'last', 1)
redis.call('HSET', root .. ':names', ARGV[1], id)
return id
`)

/**
 * id, request, now, until, repeat within, the session's root, sid, how many it may have. What a session has used is a zset
 * under its own name, `cut` in it the last that was forgotten: PRUNE takes it for a ticket that runs out with the last.
 */
export const USE_TICKET = atRoot(`
local key, now = root .. ':t:' .. ARGV[1], number(ARGV[3])
local was = redis.call('HMGET', key, 'request', 'at')
if was[2] then
  if was[1] == ARGV[2] and ARGV[2] ~= '' and math.abs(now - number(was[2])) <= number(ARGV[5]) then return 'repeat' end
  return 'used'
end
local all = ARGV[6] .. ':t:' .. ARGV[7]
if number(redis.call('ZSCORE', all, 'cut')) >= number(ARGV[4]) then return 'used' end
redis.call('HSET', key, 'request', ARGV[2], 'at', now)
redis.call('ZADD', root .. ':tickets', ARGV[4], ARGV[1])
redis.call('ZADD', ARGV[6] .. ':tickets', 'GT', ARGV[4], ARGV[7])
redis.call('ZADD', all, ARGV[4], root .. ' ' .. ARGV[1])
if redis.call('ZCARD', all) > number(ARGV[8]) then
  redis.call('ZREM', all, 'cut')
  local oldest = redis.call('ZPOPMIN', all)
  redis.call('ZADD', all, oldest[2], 'cut')
  local at, id = string.match(oldest[1], '^(.*) (%S+)$')
  redis.call('DEL', at .. ':t:' .. id)
  redis.call('ZREM', at .. ':tickets', id)
end
return 'first'
`)

export const MACHINE_KEYS = atRoot(
  `return redis.call('HGET', root, 'keys') or '${NO_MACHINE_KEYS}'`,
)

/** What stands there, what is to stand there. */
export const REPLACE_MACHINE_KEYS = atRoot(`
if (redis.call('HGET', root, 'keys') or '${NO_MACHINE_KEYS}') ~= ARGV[1] then return 0 end
redis.call('HSET', root, 'keys', ARGV[2])
return 1
`)

/** KEYS[1] a claim; who would have it → who has it. */
export const CLAIM = plain(`
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
`)

/** KEYS[1] a channel; what is said there. */
export const TELL = plain(`return redis.call('PUBLISH', KEYS[1], ARGV[1])`)

const PRUNE_SLICE = 1000 // sessions a step
const LOOK_SLICE = 500 // sessions a script: about 1 ms of the server

/**
 * Resolves also while the server is away: `feed` and `ping` tell, and it heals by itself. Rejects where it never
 * could (url, ca file), with a StoreError that names the cure.
 */
export const openRedisStore = async (settings: RedisSettings): Promise<SharedStore> => {
  const {
    url,
    password,
    ca,
    prefix = 'postern:',
    nginx = '',
    timeout = 0.25,
    pollSeconds = 1,
  } = settings
  const { clock = systemClock, now = clock.now } = settings
  const layout = createLayout(prefix)
  const { roots, epochRoot, usersRoot, rootOf } = layout
  const signalsChannel = `${prefix}{signals}`

  const onTold: ((text: string) => void)[] = []
  let feed: Feed | undefined
  const link = await openLink(
    { url, password, ca, timeout, clock, channels: [...roots, signalsChannel] },
    {
      up: () => feed?.up(),
      down: (fault) => feed?.down(fault),
      listening: () => feed?.up(),
      message(channel, text) {
        if (channel !== signalsChannel) feed?.message(text)
        else for (const hear of onTold) hear(text)
      },
    },
  )
  const { run } = link
  const ends = createFeed({ link, layout, pollSeconds, timeout, now, clock })
  feed = ends
  await ends.resync()

  let highestId = 0
  let timeCounted = '0'
  const machines = `${usersRoot}:machines`
  const verbs: StoreVerbs & SharedVerbs = {
    ...createRedisSessions(link, layout, ends),
    ...createRedisStreams(run, layout.subscriptionsRoot(nginx)),
    async identify(username) {
      const highest = highestId
      // Where the count was lost it goes on far above any that was given: one user a second is never reached.
      const start = highest > 0 || ends.losses() > 0 ? now() : 0
      const id = (await run(IDENTIFY, usersRoot, [username, highest, start])) as number
      highestId = Math.max(highestId, id)
      return id
    },
    async epoch() {
      return (await run(MOVE, epochRoot, [0])) as number
    },
    async moveEpoch(since) {
      await run(MOVE, epochRoot, [since])
      await ends.resync() // here at once, elsewhere within a second
    },
    async machineKeys() {
      return (await run(MACHINE_KEYS, machines, [])) as string
    },
    async replaceMachineKeys(known, next) {
      return (await run(REPLACE_MACHINE_KEYS, machines, [known, next])) === 1
    },
    async useTicket(id, requestId, now, until, sid) {
      const args = [id, requestId, now, until, REPEAT_WITHIN, rootOf(sid), sid, MOST_TICKETS]
      return (await run(USE_TICKET, rootOf(id), args)) as 'first' | 'repeat' | 'used'
    },
    async countTime(now, elapsed) {
      const args = [HOURS_TO_PASS, now, timeCounted, Math.min(elapsed, HOUR)]
      const [count, past] = (await run(COUNT_TIME, epochRoot, args)) as [string, number]
      timeCounted = count
      ends.forget(past)
      return past
    },
    async prune(_now, past, idleTtl = 0) {
      let gone = 0
      for (const root of roots) {
        if (gone >= PRUNE_SLICE) break
        const args = [past, PRUNE_SLICE - gone, prefix, idleTtl, LOOK_SLICE]
        gone += (await run(PRUNE, root, args)) as number
      }
      return gone
    },
    async ping() {
      await run(MARK, usersRoot, [FORMAT]) // a full server refuses it, as it would a login
    },
    async claimKeys(who) {
      return (await run(CLAIM, `${usersRoot}:keys`, [who])) as string
    },
  }

  const underWay = new Set<Promise<unknown>>()
  let closed: Promise<void> | undefined

  /** Close waits for what is under way, and nothing more is taken. */
  const counted =
    (verb: (...args: never[]) => Promise<unknown>) =>
    async (...args: never[]): Promise<unknown> => {
      if (closed) throw new StoreError('unavailable', `the store ${link.label} is closed`)
      const refusal = ends.refusal()
      if (refusal) throw refusal
      const answer = verb(...args)
      underWay.add(answer)
      try {
        return await answer
      } finally {
        underWay.delete(answer)
      }
    }
  const countedVerbs = Object.fromEntries(
    Object.entries(verbs).map(([name, verb]) => [name, counted(verb)]),
  ) as unknown as typeof verbs

  const shut = async (): Promise<void> => {
    ends.close()
    await Promise.allSettled(underWay)
    link.close()
  }

  return {
    ...countedVerbs,
    inspect: () => inspectRedis(link),
    close: () => (closed ??= shut()),
    feed: ends,
    throttle: createRedisThrottle(link, `${prefix}{throttle}`, clock),
    signals: {
      async tell(text) {
        await run(TELL, signalsChannel, [text])
      },
      onTold: (listener) => void onTold.push(listener),
    },
    label: link.label,
  }
}
