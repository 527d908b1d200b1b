// What Redis does for us, each script one atomic step. KEYS[1] is a root such as `postern:{7}`, or a pointer that
// leads there. A script must never answer from a replica: each begins with a write that changes nothing, which only a
// primary takes. Redis lets a script that has written pass its maxmemory: an end goes through on a full server, and
// what grows (a login, a rotation) begins with a write that is stopped there.

import { createHash } from 'node:crypto'

import { KEEP_ENDED, KEEP_SEALED, KEEP_SUBSCRIPTIONS } from '../store.ts'

export interface Script {
  readonly text: string
  /** What EVALSHA calls it. */
  readonly sha: string
}

/*
 * Under a root of sessions:
 *   root            hash  epoch, founded, seq (of the last end), trimmed (the last end forgotten), moved
 *   root:s:<sid>    hash  one session
 *   root:k:<sid>    hash  its refresh tokens: hash → number
 *   root:p:<sid>    text  the sealed successor, for as long as grace can reach it
 *   root:u:<user>   zset  a user's live sessions by expiry       root:c:<pair>  the same of one credential mark
 *   root:live, root:ended, root:keep, root:feed, root:cred, root:tickets   zsets: what the lists read
 */
const PRELUDE = `
local root = KEYS[1]
local taken = redis.error_reply('ERR a session of this sid, or with this token, is there already')
local KEEP_ENDED = ${KEEP_ENDED}
local function number(text) return text and tonumber(text) or 0 end
local function view(sid)
  local f = redis.call('HMGET', root .. ':s:' .. sid, 'd', 'role', 'seen', 'access', 'ended', 'cause', 'user', 'expires')
  if not f[1] then return false end
  return f
end
local function keep(key, ttl)
  if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
end
`

const AT_ROOT = `
redis.call('HDEL', root, ' ')
`

/** From a token or a sid to its session. No pointer is believed: the script looks again whose the token is. */
const BY_POINTER = `
redis.call('EXPIRE', KEYS[1], 1, 'GT')
local pointer = redis.call('GET', KEYS[1]) or ''
local shard, keepUntil, sid = string.match(pointer, '^(%d+) (%d+) (.*)$')
if not shard then return false end
root = ARGV[1] .. '{' .. shard .. '}'
`

const FINISH = `
local function finish(sid, cause, now)
  local key = root .. ':s:' .. sid
  local f = redis.call('HMGET', key, 'user', 'access', 'uh', 'pair')
  local seq = redis.call('HINCRBY', root, 'seq', 1)
  redis.call('HSET', key, 'ended', now, 'cause', cause, 'seq', seq)
  redis.call('ZADD', root .. ':ended', f[2], sid)
  redis.call('ZADD', root .. ':keep', f[2], sid)
  redis.call('ZADD', root .. ':feed', seq, sid)
  redis.call('ZREM', root .. ':live', sid)
  redis.call('ZREM', root .. ':u:' .. f[3], sid)
  redis.call('DEL', root .. ':p:' .. sid)
  local ttl = math.max(number(f[2]) - now, 0) + KEEP_ENDED
  redis.call('EXPIRE', key, ttl)
  redis.call('EXPIRE', root .. ':k:' .. sid, ttl)
  local peers = root .. ':c:' .. f[4]
  redis.call('ZREM', peers, sid)
  local longest = redis.call('ZREVRANGE', peers, 0, 0, 'WITHSCORES')
  if longest[2] then redis.call('ZADD', root .. ':cred', longest[2], f[4])
  else redis.call('ZREM', root .. ':cred', f[4]) end
  local ended = { sid, f[1], cause, f[2], tostring(seq) }
  -- Last, and allowed to fail: an ACL without channels costs the poll's second, never the end itself.
  redis.pcall('PUBLISH', root, cjson.encode(ended))
  return ended
end
`

const STATE = `
local function state(f, now, idle)
  if f[5] then return 'ended' end
  if now >= number(f[8]) then return 'expired' end
  if idle > 0 and now >= number(f[3]) + idle then return 'expired' end
  return 'live'
end
local function touch(sid, f, role, now, access)
  access = math.max(access, number(f[4]))
  redis.call('HSET', root .. ':s:' .. sid, 'role', role, 'seen', now, 'access', access)
  if access > number(f[8]) then
    redis.call('ZADD', root .. ':keep', access, sid)
    local ttl = access - now + KEEP_ENDED
    keep(root .. ':s:' .. sid, ttl)
    keep(root .. ':k:' .. sid, ttl)
  end
  return view(sid)
end
`

/** A key of its own, not a root. */
export const plain = (text: string): Script => ({
  text,
  sha: createHash('sha1').update(text).digest('hex'), // EVALSHA knows no other hash
})

const script = (...parts: string[]): Script => plain([PRELUDE, ...parts].join(''))
const atRoot = (...parts: string[]): Script => script(AT_ROOT, ...parts)
const byPointer = (...parts: string[]): Script => script(BY_POINTER, ...parts)

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
 * sid, token hash, created, user, user's hash, pair, d, role, seen, access, expires, most, keys of the pointers of the
 * token and the sid, pointer → ended ones.
 */
export const OPEN = script(
  FINISH,
  `
local sid, now, most = ARGV[1], number(ARGV[3]), number(ARGV[12])
local key = root .. ':s:' .. sid
local past = math.max(number(ARGV[10]), number(ARGV[11]))
local ttl = math.max(past - now, 0) + KEEP_ENDED
if not redis.call('SET', ARGV[13], ARGV[15], 'NX', 'EX', ttl) then return taken end
if not redis.call('SET', ARGV[14], ARGV[15], 'NX', 'EX', ttl) or redis.call('EXISTS', key) == 1 then
  redis.call('DEL', ARGV[13])
  return taken
end
redis.call('HSET', key, 'user', ARGV[4], 'uh', ARGV[5], 'pair', ARGV[6], 'd', ARGV[7], 'role', ARGV[8],
  'seen', ARGV[9], 'access', ARGV[10], 'expires', ARGV[11], 'created', ARGV[3], 'last', 0)
redis.call('HSET', root .. ':k:' .. sid, ARGV[2], 0)
redis.call('EXPIRE', key, ttl)
redis.call('EXPIRE', root .. ':k:' .. sid, ttl)
redis.call('ZADD', root .. ':live', ARGV[11], sid)
redis.call('ZADD', root .. ':keep', past, sid)
local mine, peers = root .. ':u:' .. ARGV[5], root .. ':c:' .. ARGV[6]
for _, index in ipairs({ mine, peers }) do
  redis.call('ZREMRANGEBYSCORE', index, '-inf', now - KEEP_ENDED)
  redis.call('ZADD', index, ARGV[11], sid)
  keep(index, ttl)
end
redis.call('ZADD', root .. ':cred', 'GT', ARGV[11], ARGV[6])
local ended = {}
if most == 0 then return ended end
local others = {}
for _, other in ipairs(redis.call('ZRANGEBYSCORE', mine, '(' .. now, '+inf')) do
  local created = redis.call('HGET', root .. ':s:' .. other, 'created')
  if other ~= sid and created then table.insert(others, { other, number(created) }) end
end
table.sort(others, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return a[1] < b[1]
end)
for at = most, #others do table.insert(ended, finish(others[at][1], 'limit', now)) end
return ended
`,
)

/** KEYS[1] a token's pointer; prefix, token hash → the session; nil: unknown. */
export const FIND = byPointer(`
if not redis.call('HGET', root .. ':k:' .. sid, ARGV[2]) then return false end
return view(sid)
`)

/** KEYS[1] a token's pointer; prefix, token hash, now, role, access, idle → state, session; nil: unknown. */
export const RENEW = byPointer(
  STATE,
  `
local now = number(ARGV[3])
local at = redis.call('HGET', root .. ':k:' .. sid, ARGV[2])
local f = at and view(sid)
if not f or at ~= redis.call('HGET', root .. ':s:' .. sid, 'last') then return false end
local is = state(f, now, number(ARGV[6]))
if is == 'live' then f = touch(sid, f, ARGV[4], now, number(ARGV[5])) end
return { is, f }
`,
)

/**
 * KEYS[1] a token's pointer; prefix, token hash, now, role, access, idle, next hash, sealed, grace, key of the pointer
 * of the next token → outcome, session, sealed or ended; nil: unknown.
 */
export const ROTATE = script(
  `
-- What a full server refuses: else a script that has written may go on.
redis.call('SET', ARGV[10] .. ':room', '', 'PX', 1)
`,
  BY_POINTER,
  STATE,
  FINISH,
  `
local now = number(ARGV[3])
local key, sealedKey = root .. ':s:' .. sid, root .. ':p:' .. sid
local at = redis.call('HGET', root .. ':k:' .. sid, ARGV[2])
local f = at and view(sid)
if not f then return false end
local is = state(f, now, number(ARGV[6]))
if is ~= 'live' then return { is, f } end
at = number(at)
local chain = redis.call('HMGET', key, 'last', 'rotated')
local last = number(chain[1])
if at == last then
  local ttl = math.max(number(keepUntil) - now, 0) + KEEP_ENDED
  if not redis.call('SET', ARGV[10], pointer, 'NX', 'EX', ttl) then return taken end
  redis.call('HSET', key, 'last', last + 1, 'rotated', now)
  redis.call('HSET', root .. ':k:' .. sid, ARGV[7], last + 1)
  redis.call('SET', sealedKey, ARGV[8], 'EX', ${KEEP_SEALED})
  return { 'rotated', touch(sid, f, ARGV[4], now, number(ARGV[5])) }
end
local sealed = redis.call('GET', sealedKey)
local age = math.abs(now - number(chain[2]))
if at == last - 1 and sealed and age <= number(ARGV[9]) and age < ${KEEP_SEALED} then
  return { 'replayed', touch(sid, f, ARGV[4], now, number(ARGV[5])), sealed }
end
return { 'reused', f, finish(sid, 'refresh_reused', now) }
`,
)

/**
 * KEYS[1] a sid's pointer; prefix, cause, now → the ended session; without a number where it was over already; nil:
 * there is none to end.
 */
export const END = byPointer(
  STATE,
  FINISH,
  `
local f = view(sid)
local is = f and state(f, number(ARGV[3]), 0)
if is == 'live' then return finish(sid, ARGV[2], number(ARGV[3])) end
-- Another host ended it a moment ago: this one must know it before it says so too. No number: it ended nothing.
if is == 'ended' then return { sid, f[7], f[6], f[4], '' } end
return false
`,
)

/** user's hash, cause, now → the ended sessions. */
export const END_ALL = atRoot(
  FINISH,
  `
local ended, now = {}, number(ARGV[3])
for _, sid in ipairs(redis.call('ZRANGEBYSCORE', root .. ':u:' .. ARGV[1], '(' .. now, '+inf')) do
  if redis.call('EXISTS', root .. ':s:' .. sid) == 1 then table.insert(ended, finish(sid, ARGV[2], now)) end
end
return ended
`,
)

/** `live`, `ended`, `cred` or `u:<hash>`, now → its members that count after now. */
export const MEMBERS = atRoot(`
return redis.call('ZRANGEBYSCORE', root .. ':' .. ARGV[1], '(' .. ARGV[2], '+inf')
`)

/** sids → sid, session each, of those that are there. */
export const DETAILS = atRoot(`
local found = {}
for _, sid in ipairs(ARGV) do
  local f = view(sid)
  if f then table.insert(found, { sid, f }) end
end
return found
`)

export const COUNT = atRoot(`return redis.call('ZCOUNT', root .. ':live', '(' .. ARGV[1], '+inf')`)

/** id, request, now, until, repeat within. */
export const USE_TICKET = atRoot(`
local key, now = root .. ':t:' .. ARGV[1], number(ARGV[3])
local was = redis.call('HMGET', key, 'request', 'at')
if not was[2] then
  redis.call('HSET', key, 'request', ARGV[2], 'at', now)
  redis.call('EXPIRE', key, math.max(number(ARGV[4]) - now, 0) + KEEP_ENDED)
  redis.call('ZADD', root .. ':tickets', ARGV[4], ARGV[1])
  return 'first'
end
if was[1] == ARGV[2] and ARGV[2] ~= '' and now <= number(was[2]) + number(ARGV[5]) then return 'repeat' end
return 'used'
`)

/** kick, subscription, seconds that its list must stay. → 0 where the kick is taken. */
export const SUBSCRIBE = atRoot(`
if redis.call('HSETNX', root, ARGV[1], ARGV[2]) == 0 then return 0 end
keep(root, number(ARGV[3]))
return 1
`)

/** kicks. */
export const UNSUBSCRIBE = atRoot(`
for _, kick in ipairs(ARGV) do redis.call('HDEL', root, kick) end
return 1
`)

/**
 * KEYS[1] who hands out streams beside one nginx; who says so, now, seconds of silence → who was silent for
 * longer. They are on one machine, so their clocks are one.
 */
export const BEAT = plain(`
local now = tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
-- As long as what they handed out is kept: else who starts later takes over nothing.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ${KEEP_SUBSCRIPTIONS})
redis.call('EXPIRE', KEYS[1], ${KEEP_SUBSCRIPTIONS})
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. now - tonumber(ARGV[3]))
`)

export const SUBSCRIPTIONS = atRoot(`return redis.call('HVALS', root)`)

/** The instant up to which things may be forgotten, how many sessions at most → how many went. */
export const PRUNE = atRoot(`
local cut, most = ARGV[1], number(ARGV[2])
local tickets = redis.call('ZRANGEBYSCORE', root .. ':tickets', '-inf', cut, 'LIMIT', 0, most)
for _, id in ipairs(tickets) do
  redis.call('UNLINK', root .. ':t:' .. id)
  redis.call('ZREM', root .. ':tickets', id)
end
redis.call('ZREMRANGEBYSCORE', root .. ':cred', '-inf', cut)
local gone = redis.call('ZRANGEBYSCORE', root .. ':keep', '-inf', cut, 'LIMIT', 0, most)
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
  end
  redis.call('UNLINK', root .. ':s:' .. sid, root .. ':k:' .. sid, root .. ':p:' .. sid)
  for _, index in ipairs({ ':live', ':ended', ':keep', ':feed' }) do redis.call('ZREM', root .. index, sid) end
end
return #gone
`)

/** KEYS[1] a claim; who would have it → who has it. */
export const CLAIM = plain(`
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
`)

/** KEYS[1] a channel; what is said there. */
export const TELL = plain(`return redis.call('PUBLISH', KEYS[1], ARGV[1])`)

/** A write that a full server refuses, as it would refuse a login. */
export const PING = plain(`return redis.call('HSET', KEYS[1], 'ping', '1')`)

/** KEYS[1] where it is marked; our format → the highest that ever wrote there. A full server refuses it, like PING. */
export const MARK = plain(`
redis.call('HSET', KEYS[1], 'ping', '1')
local there = tonumber(redis.call('HGET', KEYS[1], 'format') or '0')
if there < tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'format', ARGV[1]) end
return there
`)

/** The last end that the reader knows (number, sid), how many → epoch, founded, intact, { sid, user, cause, until, seq }, moved. */
export const READ_FEED = atRoot(`
local since, most = number(ARGV[1]), number(ARGV[3])
local head = redis.call('HMGET', root, 'epoch', 'founded', 'seq', 'trimmed', 'moved')
-- A primary that came back without our last ends may count past them again: the same number must be the same end.
local intact = number(head[3]) >= since and (since <= number(head[4])
  or number(redis.call('ZSCORE', root .. ':feed', ARGV[2])) == since)
local ends = {}
for _, sid in ipairs(redis.call('ZRANGEBYSCORE', root .. ':feed', '(' .. since, '+inf', 'LIMIT', 0, most)) do
  local f = redis.call('HMGET', root .. ':s:' .. sid, 'user', 'cause', 'access')
  local seq = redis.call('ZSCORE', root .. ':feed', sid)
  if f[1] then table.insert(ends, { sid, f[1], f[2], f[3], seq })
  else table.insert(ends, { sid, '', '', '', seq }) end -- past its life, and not yet pruned
end
return { head[1], head[2], intact and 1 or 0, ends, number(head[5]) }
`)

/** The epoch that is to be replaced ('': none), the new one, since when it holds → the one that holds now. */
export const FOUND = atRoot(`
local epoch = redis.call('HGET', root, 'epoch') or ''
if epoch == ARGV[1] then
  local since = math.max(number(ARGV[3]), number(redis.call('HGET', root, 'founded')))
  redis.call('HSET', root, 'epoch', ARGV[2], 'founded', since)
end
return redis.call('HMGET', root, 'epoch', 'founded')
`)

/** An instant before which tokens count no more; 0 only asks → the latest there was. */
export const MOVE = atRoot(`
local moved = math.max(number(ARGV[1]), number(redis.call('HGET', root, 'moved')))
if moved > 0 then redis.call('HSET', root, 'moved', moved) end
return moved
`)

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
