// What is past for certain goes, a slice at a time. Sessions that nobody has refreshed for too long are looked for in turn:
// an index of when each was last seen would be written at each refresh.

import { atRoot } from './scripts.ts'

/**
 * The instant up to which things may be forgotten, how many sessions and tickets at most, prefix, idle, how many sessions
 * to look at for that → how many went.
 */
export const PRUNE = atRoot(`
local cut, most = ARGV[1], number(ARGV[2])
local tickets = redis.call('ZRANGEBYSCORE', root .. ':tickets', '-inf', cut, 'LIMIT', 0, most)
for _, id in ipairs(tickets) do
  redis.call('UNLINK', root .. ':t:' .. id)
  redis.call('ZREM', root .. ':tickets', id)
end
redis.call('ZREMRANGEBYSCORE', root .. ':cred', '-inf', cut)
local gone = redis.call('ZRANGEBYSCORE', root .. ':keep', '-inf', cut, 'LIMIT', 0, most)
local idle = number(ARGV[4])
if idle > 0 then
  local seen = redis.call('ZSCAN', root .. ':live', redis.call('HGET', root, 'looked') or '0', 'COUNT', ARGV[5])
  redis.call('HSET', root, 'looked', seen[1])
  for at = 1, #seen[2], 2 do
    local f = view(seen[2][at])
    if f and math.max(number(f[3]) + idle, number(f[4])) <= number(cut) then table.insert(gone, seen[2][at]) end
  end
end
local trimmed = number(redis.call('HGET', root, 'trimmed'))
for _, sid in ipairs(gone) do
  trimmed = math.max(trimmed, number(redis.call('ZSCORE', root .. ':feed', sid)))
end
-- Before anything goes: a reader must never miss an end without this mark.
if #gone > 0 then redis.call('HSET', root, 'trimmed', trimmed) end
for _, sid in ipairs(gone) do
  local f = redis.call('HMGET', root .. ':s:' .. sid, 'uh', 'pair')
  if f[1] then
    redis.call('ZREM', root .. ':u:' .. f[1], sid)
    redis.call('ZREM', root .. ':c:' .. f[2], sid)
    if redis.call('EXISTS', root .. ':c:' .. f[2]) == 0 then redis.call('ZREM', root .. ':cred', f[2]) end
  end
  for _, kind in ipairs({ ':s:', ':k:', ':p:', ':w:' }) do redis.call('UNLINK', root .. kind .. sid) end
  redis.call('UNLINK', ARGV[3] .. 'sid:' .. sid)
  for _, index in ipairs({ ':live', ':ended', ':keep', ':feed' }) do redis.call('ZREM', root .. index, sid) end
end
return #gone + #tickets
`)
