// Monotonic time as all who share the store have counted it, and what every wall clock has stood past meanwhile.

import { atRoot } from './scripts.ts'
import { HOUR } from '../store.ts'

/**
 * HOURS_TO_PASS, now, the count as this caller last saw it, seconds since then → the count, what is past for certain.
 * Several callers count the same time once: the count becomes no more than what any of them has seen go by.
 */
export const COUNT_TIME = atRoot(`
local key, hours, now = root .. ':clock', number(ARGV[1]), number(ARGV[2])
local count = math.max(number(redis.call('HGET', key, 'count')), number(ARGV[3]) + number(ARGV[4]))
local hour = math.floor(count / ${HOUR})
local earliest = math.min(now, tonumber(redis.call('HGET', key, hour) or now))
redis.call('HSET', key, 'count', count, hour, earliest)
redis.call('HDEL', key, hour - hours - 1)
local past = number(redis.call('HGET', key, 'past'))
for at = hour - hours, hour - 1 do
  local seen = redis.call('HGET', key, at)
  if not seen then return { tostring(count), past } end
  earliest = math.min(earliest, number(seen))
end
past = math.max(past, earliest)
redis.call('HSET', key, 'past', past)
return { tostring(count), past }
`)
