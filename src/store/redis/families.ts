// What is kept of the tokens of a session that were traded long ago: their family alone, as a token that was rotated. Its
// number is below all others: -1 less that of its first token.

/**
 * For a script that knows `root`, `sid` and `pointer`, and whose KEYS[1] and ARGV[2] are the presented token's. The one
 * before it goes, where it is of the family. An older version knows of none: what it rotated meanwhile is not the one
 * that is remembered here, and stays.
 */
export const KEEP_FAMILY = `
local function keepFamily(at, ttl, hash, pointerKey)
  local key, tokens = root .. ':s:' .. sid, root .. ':k:' .. sid
  local family = redis.call('HGET', tokens, hash)
  if not family then
    family = -1 - at
    redis.call('HSET', tokens, hash, family)
    redis.call('SET', pointerKey, pointer, 'EX', ttl)
  end
  local before = redis.call('HMGET', key, 'before', 'beforeKey')
  local nth = before[1] and tonumber(redis.call('HGET', tokens, before[1]))
  if nth == at - 1 and nth >= -1 - family then
    redis.call('HDEL', tokens, before[1])
    redis.call('DEL', before[2])
  end
  redis.call('HSET', key, 'before', ARGV[2], 'beforeKey', KEYS[1])
end
`
