// What Redis does for a copy, each script one atomic step on the keys of one slot. A draft has a text where a
// store has the hash of its root: every script of a daemon fails on it (WRONGTYPE), so that none can take half
// a copy for a store. Every script that writes a draft asks first whether it is still ours.

import { plain } from './redis-scripts.ts'

/** The beginning of that text. */
export const DRAFT = 'postern store copy '

const PRELUDE = `
local root = KEYS[1]
local function number(text) return text and tonumber(text) or 0 end
`

// Changes nothing, and only a primary takes it: a replica may lack the last ends.
const PRIMARY = `redis.call('HDEL', root .. ':none', ' ')
`

const OURS = `
if redis.call('TYPE', root).ok ~= 'string' or redis.call('GET', root) ~= ARGV[1] then return 0 end
`

/** channels → how many listen there. */
export const LISTENERS = plain(`
local sum = 0
for at, answer in ipairs(redis.call('PUBSUB', 'NUMSUB', unpack(ARGV))) do
  if at % 2 == 0 then sum = sum + answer end
end
return sum
`)

/** A root → its kind, then the text of a draft; or epoch, founded, moved, last, format, what stands under it. */
export const LOOK = plain(`${PRELUDE}${PRIMARY}
local kind = redis.call('TYPE', root).ok
if kind == 'string' then return { kind, redis.call('GET', root) } end
if kind ~= 'hash' and kind ~= 'none' then return { kind } end
local f = redis.call('HMGET', root, 'epoch', 'founded', 'moved', 'last', 'format')
local held = redis.call('ZCARD', root .. ':keep') + redis.call('ZCARD', root .. ':tickets')
  + redis.call('HLEN', root .. ':names')
return { kind, f[1], number(f[2]), number(f[3]), number(f[4]), number(f[5]), held }
`)

/** The users' root. A daemon that is at work writes the mark again each second. */
export const HUSH = plain(`return redis.call('HDEL', KEYS[1], 'ping')`)
export const HEARD = plain(`return redis.call('HEXISTS', KEYS[1], 'ping')`)

/** A root, the draft's text → 0 where users have numbers already. An earlier draft is taken over. */
export const TAKE = plain(`${PRELUDE}
if redis.call('TYPE', root).ok ~= 'string' and redis.call('HLEN', root .. ':names') > 0 then return 0 end
redis.call('SET', root, ARGV[1])
return 1
`)

/** A root of sessions, the first to read, how many sessions and tokens at most → the next one, what was read. */
export const READ_SESSIONS = plain(`${PRELUDE}${PRIMARY}
local HEX = {}
for byte = 0, 255 do HEX[string.char(byte)] = string.format('%02x', byte) end
local at, most, room = number(ARGV[1]), number(ARGV[2]), number(ARGV[3])
local found = {}
for _, sid in ipairs(redis.call('ZRANGE', root .. ':keep', at, at + most - 1)) do
  at = at + 1
  local f = redis.call('HMGET', root .. ':s:' .. sid, 'd', 'role', 'seen', 'access', 'ended', 'cause', 'rotated')
  if f[1] then
    local chain = redis.call('HGETALL', root .. ':k:' .. sid)
    for each = 1, #chain, 2 do chain[each] = chain[each]:gsub('.', HEX) end
    table.insert(found, { sid, f, table.concat(chain, ' '), redis.call('GET', root .. ':p:' .. sid) })
    room = room - #chain / 2
    if room <= 0 then break end
  end
end
return { at, found }
`)

/** A root of sessions, the first to read, how many → tickets: id, request, used at, until. */
export const READ_TICKETS = plain(`${PRELUDE}${PRIMARY}
local at, most = number(ARGV[1]), number(ARGV[2])
local found = {}
local ids = redis.call('ZRANGE', root .. ':tickets', at, at + most - 1, 'WITHSCORES')
for each = 1, #ids, 2 do
  local f = redis.call('HMGET', root .. ':t:' .. ids[each], 'request', 'at')
  table.insert(found, { ids[each], f[1], f[2], ids[each + 1] })
end
return found
`)

/** The users' root, a cursor, how many at a time → cursor, name and number in turn. */
export const READ_NAMES = plain(`${PRELUDE}${PRIMARY}
return redis.call('HSCAN', root .. ':names', ARGV[1], 'COUNT', ARGV[2])
`)

/** A root of subscriptions → their texts. */
export const READ_SUBSCRIPTIONS = plain(`${PRELUDE}${PRIMARY}
return redis.call('HVALS', root)
`)

/** How many arguments a session has before its tokens. */
export const SESSION_WIDTH = 19

/** A root of sessions, the draft's text, then each session and its tokens. */
export const WRITE_SESSIONS = plain(`${PRELUDE}${OURS}
local function keep(key, ttl)
  if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
end
local at = 2
while at <= #ARGV do
  local sid, user, uh, pair, d, role, seen, access, expires, created, rotated, ended, cause, seq, past, ttl,
    sealed, sealedTtl, tokens = unpack(ARGV, at, at + ${SESSION_WIDTH - 1})
  at = at + ${SESSION_WIDTH}
  local key, chain = root .. ':s:' .. sid, root .. ':k:' .. sid
  ttl, tokens = number(ttl), number(tokens)
  -- Before all else: what is listed here is found and removed if the copy is cut off.
  redis.call('ZADD', root .. ':keep', past, sid)
  redis.call('HSET', key, 'user', user, 'uh', uh, 'pair', pair, 'd', d, 'role', role, 'seen', seen,
    'access', access, 'expires', expires, 'created', created, 'last', tokens - 1)
  if rotated ~= '' then redis.call('HSET', key, 'rotated', rotated) end
  for step = 0, tokens - 1 do redis.call('HSET', chain, ARGV[at + step], step) end
  at = at + tokens
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', chain, ttl)
  if ended ~= '' then
    redis.call('HSET', key, 'ended', ended, 'cause', cause, 'seq', seq)
    redis.call('ZADD', root .. ':ended', access, sid)
    redis.call('ZADD', root .. ':feed', seq, sid)
  else
    redis.call('ZADD', root .. ':live', expires, sid)
    for _, index in ipairs({ root .. ':u:' .. uh, root .. ':c:' .. pair }) do
      redis.call('ZADD', index, expires, sid)
      keep(index, ttl)
    end
    redis.call('ZADD', root .. ':cred', 'GT', expires, pair)
    if sealed ~= '' then redis.call('SET', root .. ':p:' .. sid, sealed, 'EX', sealedTtl) end
  end
end
return 1
`)

/** A root of sessions, the draft's text, then id, request, used at, until and ttl of each ticket. */
export const WRITE_TICKETS = plain(`${PRELUDE}${OURS}
for at = 2, #ARGV, 5 do
  local key = root .. ':t:' .. ARGV[at]
  redis.call('ZADD', root .. ':tickets', ARGV[at + 3], ARGV[at])
  redis.call('HSET', key, 'request', ARGV[at + 1], 'at', ARGV[at + 2])
  redis.call('EXPIRE', key, ARGV[at + 4])
end
return 1
`)

/** The users' root, the draft's text, then name and number of each. */
export const WRITE_NAMES = plain(`${PRELUDE}${OURS}
for at = 2, #ARGV, 2 do redis.call('HSET', root .. ':names', ARGV[at], ARGV[at + 1]) end
return 1
`)

/** A root of subscriptions, how long their list must stay, then kick and text of each. */
export const WRITE_SUBSCRIPTIONS = plain(`${PRELUDE}
for at = 2, #ARGV, 2 do redis.call('HSET', root, ARGV[at], ARGV[at + 1]) end
if redis.call('TTL', root) < number(ARGV[1]) then redis.call('EXPIRE', root, ARGV[1]) end
return 1
`)

/** Any key; then key, text and ttl of each pointer: on a cluster one a call, as each has a slot of its own. */
export const POINT_ALL = plain(`
for at = 1, #ARGV, 3 do redis.call('SET', ARGV[at], ARGV[at + 1], 'EX', ARGV[at + 2]) end
return 1
`)

/** Any key; the pointers. */
export const UNPOINT_ALL = plain(`
for _, key in ipairs(ARGV) do redis.call('UNLINK', key) end
return 1
`)

/** A root, the draft's text, the fields of the hash that takes its place. */
export const REVEAL = plain(`${PRELUDE}${OURS}
redis.call('DEL', root)
redis.call('HSET', root, unpack(ARGV, 2))
return 1
`)

/** A root of sessions, how many of the first → forgets them. */
export const FORGET_SESSIONS = plain(`${PRELUDE}
for _, sid in ipairs(redis.call('ZRANGE', root .. ':keep', 0, ARGV[1] - 1)) do
  local f = redis.call('HMGET', root .. ':s:' .. sid, 'uh', 'pair')
  if f[1] then redis.call('UNLINK', root .. ':u:' .. f[1], root .. ':c:' .. f[2]) end
  redis.call('UNLINK', root .. ':s:' .. sid, root .. ':k:' .. sid, root .. ':p:' .. sid)
  redis.call('ZREM', root .. ':keep', sid)
end
return 1
`)

/** A root of sessions, how many at most → how many tickets it forgot; the last step of forgetting a shard. */
export const FORGET_REST = plain(`${PRELUDE}
local ids = redis.call('ZRANGE', root .. ':tickets', 0, ARGV[1] - 1)
for _, id in ipairs(ids) do
  redis.call('UNLINK', root .. ':t:' .. id)
  redis.call('ZREM', root .. ':tickets', id)
end
for _, index in ipairs({ ':live', ':ended', ':feed', ':cred' }) do redis.call('UNLINK', root .. index) end
return #ids
`)

/** A key, the text it must have ('': any) → whether it went. */
export const FORGET = plain(`
if ARGV[1] ~= '' and (redis.call('TYPE', KEYS[1]).ok ~= 'string' or redis.call('GET', KEYS[1]) ~= ARGV[1]) then
  return 0
end
return redis.call('UNLINK', KEYS[1])
`)
