// Failed logins counted across hosts. Judging and counting are one step, so that fifty hosts at once cannot
// race past a limit. It must never let a try go on that is not counted, and keeps names as hashes only.

import { createHash, randomBytes } from 'node:crypto'

import type { Time } from '../../clock.ts'
import type { Argument, Link } from './link.ts'
import { plain } from './scripts.ts'
import type { SharedThrottle } from '../shared-store.ts'

/*
 * Under the root of the throttle, for each count (an account, an address, a pair of both):
 *   root:<count>    hash  life (its window, ms), failures (judged), last (the latest try), told (of the ban)
 *   root:<count>:p  zset  tries that are not judged, by when they began
 * Both go with the window. Instants are ms since the window began, read off what is left of it: TIME needs a
 * right that the ACL of our error message does not grant.
 */

/**
 * Judges and counts, in one step. The try's id, window (ms), ms that a try may take until it is a failure; then
 * key, limit, spacing (ms; 0: none) each. → 0 where it is counted, else which one stops it; ms left (0: wait, tries
 * under way may yet succeed); 1 where nobody was told of the ban yet.
 */
export const TRY = plain(`
local root, id, window, patience = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- What a replica refuses, and a full server too: no hash is run for a login that could not be written down,
-- and a flood of wrong names cannot fill the server past its maxmemory.
redis.call('SET', root, '', 'PX', 1)
local counts = {}
for at = 4, #ARGV, 3 do
  local key = root .. ':' .. ARGV[at]
  local f = redis.call('HMGET', key, 'failures', 'life', 'last')
  local age = window
  if f[2] then
    local life, left = tonumber(f[2]), redis.call('PTTL', key)
    -- The server's clock was set back: the window must not last longer for it.
    if left > life then
      redis.call('PEXPIRE', key, life)
      left = life
    end
    age = life - left
  end
  if age >= window then -- also one that a reload has cut short
    redis.call('UNLINK', key, key .. ':p')
    f, age = {}, 0
  end
  local recent = redis.call('ZCOUNT', key .. ':p', '(' .. age - patience, age)
  local overdue = redis.call('ZCARD', key .. ':p') - recent -- their host died, or cannot reach us
  table.insert(counts, {
    key = key,
    age = age,
    failures = tonumber(f[1] or 0) + overdue,
    pending = recent,
    limit = tonumber(ARGV[at + 1]),
    spacing = tonumber(ARGV[at + 2]),
    idle = f[3] and age - tonumber(f[3]) or -1,
  })
end
local function stops(count, failures)
  if failures < count.limit then return false end
  return count.spacing == 0 or (count.idle >= 0 and count.idle < count.spacing)
end
for at, count in ipairs(counts) do
  if stops(count, count.failures) then
    local left = count.spacing > 0 and count.spacing - count.idle or window - count.age
    return { at, left, redis.call('HSETNX', count.key, 'told', 1) }
  end
end
for at, count in ipairs(counts) do
  if stops(count, count.failures + count.pending) then return { at, 0, 0 } end
end
for _, count in ipairs(counts) do
  redis.call('HSET', count.key, 'life', window, 'last', count.age)
  redis.call('PEXPIRE', count.key, window - count.age)
  redis.call('ZADD', count.key .. ':p', count.age, id)
  redis.call('PEXPIRE', count.key .. ':p', window - count.age)
end
return { 0, 0, 0 }
`)

/**
 * The try's id, 1 where it failed, ms that a try may take; then key, 1 to forget the failures before it, each. Only
 * in the window in which it was counted, and once: it may be sent again.
 */
export const SETTLE = plain(`
local root, id, failed, patience = KEYS[1], ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
for at = 4, #ARGV, 2 do
  local key = root .. ':' .. ARGV[at]
  local tries = key .. ':p'
  if redis.call('ZREM', tries, id) == 1 and redis.call('EXISTS', key) == 1 then
    if failed then redis.call('HINCRBY', key, 'failures', 1) end
    if ARGV[at + 1] == '1' then
      local age = tonumber(redis.call('HGET', key, 'life')) - redis.call('PTTL', key)
      redis.call('HDEL', key, 'failures', 'told')
      redis.call('ZREMRANGEBYSCORE', tries, '-inf', age - patience)
    end
    -- Whoever gets in at once leaves nothing behind.
    if redis.call('HEXISTS', key, 'failures') == 0 and redis.call('EXISTS', tries) == 0 then
      redis.call('UNLINK', key)
    end
  end
end
return 1
`)

// Seconds until a try that nobody settled is a failure. Longer than a password ever takes; and a host that died
// in the middle may have judged it, so it is not forgotten.
const PATIENCE = 30
const SEND_AGAIN = 1 // second
const MAX_OWED = 4096 // as many as the link has under way when it breaks

const field = (key: string): string => createHash('sha256').update(key).digest('base64url')

interface Owed {
  readonly args: readonly Argument[]
  /** By then its window is over, and nothing is left to settle. */
  readonly until: number
}

/** All windows share one shard: logins are bound by their password hashes, at some hundreds a second. */
export const createRedisThrottle = (
  link: Pick<Link, 'run'>,
  root: string,
  clock: Time,
): SharedThrottle => {
  const host = randomBytes(9).toString('base64url')
  let tries = 0

  const send = async (args: readonly Argument[]): Promise<boolean> =>
    link.run(SETTLE, root, args).then(
      () => true,
      () => false,
    )

  // What broke in the middle may be counted and never judged: a pause of the server would ban an office whose
  // passwords were right. Only one is sent at a time, so a server that is away costs one call a second.
  const owed: Owed[] = []
  let paying = false
  let cancel: (() => void) | undefined
  const pay = async (): Promise<void> => {
    if (paying) return
    paying = true
    while (owed[0] && (clock.monotonic() >= owed[0].until || (await send(owed[0].args)))) {
      owed.shift()
    }
    paying = false
    if (owed[0]) cancel ??= clock.every(SEND_AGAIN, () => void pay())
    else {
      cancel?.()
      cancel = undefined
    }
  }

  const settle = async (args: readonly Argument[], window: number): Promise<void> => {
    if (await send(args)) return
    if (owed.length >= MAX_OWED) return
    owed.push({ args, until: clock.monotonic() + window })
    if (!cancel) void pay()
  }

  return {
    async begin(limits, window) {
      const id = `${host}${(tries++).toString(36)}`
      const counts = limits.map((limit) => ({ ...limit, field: field(limit.key) }))
      const settled = async (outcome: 'succeeded' | 'failed' | 'not_judged'): Promise<void> => {
        const each = counts.flatMap((count) => [
          count.field,
          outcome === 'succeeded' && count.forgiving === true ? 1 : 0,
        ])
        await settle([id, outcome === 'failed' ? 1 : 0, PATIENCE * 1000, ...each], window)
      }
      const each = counts.flatMap((count) => [count.field, count.failures, count.spacing * 1000])
      let reply
      try {
        reply = await link.run(TRY, root, [id, window * 1000, PATIENCE * 1000, ...each])
      } catch (error) {
        void settled('not_judged') // it may have been counted, and will never be tried
        throw error
      }
      const [at, left, first] = reply as [number, number, number]
      const limit = limits[at - 1]
      if (!limit) return { settle: settled }
      if (left === 0) return { wait: limit }
      return { refused: limit, retryAfter: Math.ceil(left / 1000), first: first === 1 }
    },
  }
}
