// What Redis does for us, each script one atomic step. KEYS[1] is a root such as `postern:{7}`, or a pointer that
// leads there. A script must never answer from a replica: each begins with a write that changes nothing, which only a
// primary takes. Redis lets a script that has written pass its maxmemory: an end goes through on a full server, and
// what grows (a login, a rotation) begins with a write that is stopped there.

import { createHash } from 'node:crypto'

import { KEEP_FAMILY } from './families.ts'
import { HOUR, HOURS_TO_PASS, KEEP_SEALED, KEEP_UNSEEN } from '../store.ts'

export interface Script {
  readonly text: string
  /** What EVALSHA calls it. */
  readonly sha: string
}

/*
 * Under a root of sessions:
 *   root            hash  epoch, founded, seq (of the last end), trimmed (the last end forgotten), moved
 *   root:s:<sid>    hash  one session
 *   root:k:<sid>    hash  its refresh tokens: hash → number (see families.ts)
 *   root:p:<sid>    text  the sealed successor, for as long as grace can reach it
 *   root:w:<sid>    text  its number and itself again, until somebody has seen it
 *   root:u:<user>   zset  a user's live sessions by expiry       root:c:<pair>  the same of one credential mark
 *   root:live, root:ended, root:keep, root:feed, root:cred, root:tickets   zsets: what the lists read
 *
 * The server's clock may step too, and a key that goes with its TTL goes by it. What an end is read from, or made
 * with, has none: a session, the pointer to it by its sid, a ticket that was used, every index. PRUNE removes them.
 * Tokens have one: a token that is not found is refused.
 */
const PRELUDE = `
local root = KEYS[1]
local taken = redis.error_reply('ERR a session of this sid, or with this token, is there already')
local SPARE = ${HOURS_TO_PASS * HOUR} -- seconds past a token's life
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
  redis.call('DEL', root .. ':p:' .. sid, root .. ':w:' .. sid)
  redis.call('PERSIST', key) -- an older version has given it a TTL
  redis.call('EXPIRE', root .. ':k:' .. sid, math.max(number(f[2]) - now, 0) + SPARE)
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
  -- An older version has given them a TTL.
  redis.call('PERSIST', root .. ':s:' .. sid)
  redis.call('PERSIST', ARGV[1] .. 'sid:' .. sid)
  if access > number(f[8]) then
    redis.call('ZADD', root .. ':keep', access, sid)
    keep(root .. ':k:' .. sid, access - now + SPARE)
  end
  return view(sid)
end
`

/** A key of its own, not a root. */
export const plain = (text: string): Script => ({
  text,
  sha: createHash('sha1').update(text).digest('hex'), // EVALSHA knows no other hash
})

export const script = (...parts: string[]): Script => plain([PRELUDE, ...parts].join(''))
export const atRoot = (...parts: string[]): Script => script(AT_ROOT, ...parts)
export const byPointer = (...parts: string[]): Script => script(BY_POINTER, ...parts)

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
local ttl = math.max(past - now, 0) + SPARE
if not redis.call('SET', ARGV[13], ARGV[15], 'NX', 'EX', ttl) then return taken end
if not redis.call('SET', ARGV[14], ARGV[15], 'NX') or redis.call('EXISTS', key) == 1 then
  redis.call('DEL', ARGV[13])
  return taken
end
redis.call('HSET', key, 'user', ARGV[4], 'uh', ARGV[5], 'pair', ARGV[6], 'd', ARGV[7], 'role', ARGV[8],
  'seen', ARGV[9], 'access', ARGV[10], 'expires', ARGV[11], 'created', ARGV[3], 'last', 0)
redis.call('HSET', root .. ':k:' .. sid, ARGV[2], 0)
redis.call('EXPIRE', root .. ':k:' .. sid, ttl)
redis.call('ZADD', root .. ':live', ARGV[11], sid)
redis.call('ZADD', root .. ':keep', past, sid)
local mine, peers = root .. ':u:' .. ARGV[5], root .. ':c:' .. ARGV[6]
for _, index in ipairs({ mine, peers }) do
  redis.call('ZADD', index, ARGV[11], sid)
  redis.call('PERSIST', index) -- an older version has given it a TTL
end
redis.call('ZADD', root .. ':cred', 'GT', ARGV[11], ARGV[6])
local ended = {}
if most == 0 then return ended end
local others = {}
for _, other in ipairs(redis.call('ZRANGEBYSCORE', mine, '(' .. now, '+inf')) do
  local created = redis.call('HGET', root .. ':s:' .. other, 'created')
  -- One that a machine key opened is none of the user's own.
  if other ~= sid and created and string.sub(other, 1, 4) ~= 'key_' then table.insert(others, { other, number(created) }) end
end
table.sort(others, function(a, b)
  if a[2] ~= b[2] then return a[2] > b[2] end
  return a[1] < b[1]
end)
for at = most, #others do table.insert(ended, finish(others[at][1], 'limit', now)) end
return ended
`,
)

/** KEYS[1] a token's pointer; prefix, token hash → the session, the token's number; nil: unknown. */
export const FIND = byPointer(`
local at = redis.call('HGET', root .. ':k:' .. sid, ARGV[2])
local f = at and view(sid)
return f and { f, at }
`)

/** KEYS[1] a token's pointer; prefix, token hash, now, role, access, idle → state, session, its number; nil: unknown. */
export const RENEW = byPointer(
  STATE,
  `
local now = number(ARGV[3])
local at = redis.call('HGET', root .. ':k:' .. sid, ARGV[2])
local f = at and view(sid)
if not f or at ~= redis.call('HGET', root .. ':s:' .. sid, 'last') then return false end
local is = state(f, now, number(ARGV[6]))
if is == 'live' then f = touch(sid, f, ARGV[4], now, number(ARGV[5])) end
return { is, f, at }
`,
)

/**
 * KEYS[1] a token's pointer; prefix, token hash, now, role, access, idle, next hash, sealed, grace, key of the pointer
 * of the next token, grace while unseen, family, key of its pointer → outcome, session, the successor's number, sealed
 * or ended; nil: unknown.
 */
export const ROTATE = script(
  `
-- What a full server refuses: else a script that has written may go on.
redis.call('SET', ARGV[10] .. ':room', '', 'PX', 1)
`,
  BY_POINTER,
  STATE,
  FINISH,
  KEEP_FAMILY,
  `
local now = number(ARGV[3])
local key, sealedKey, unseenKey = root .. ':s:' .. sid, root .. ':p:' .. sid, root .. ':w:' .. sid
local at = redis.call('HGET', root .. ':k:' .. sid, ARGV[2])
local f = at and view(sid)
if not f then return false end
local is = state(f, now, number(ARGV[6]))
if is ~= 'live' then return { is, f } end
at = number(at)
local chain = redis.call('HMGET', key, 'last', 'rotated')
local last = number(chain[1])
if at == last then
  local ttl = math.max(number(keepUntil) - now, 0) + SPARE
  if not redis.call('SET', ARGV[10], pointer, 'NX', 'EX', ttl) then return taken end
  redis.call('HSET', key, 'last', last + 1, 'rotated', now)
  redis.call('HSET', root .. ':k:' .. sid, ARGV[7], last + 1)
  redis.call('SET', sealedKey, ARGV[8], 'EX', ${KEEP_SEALED})
  redis.call('SET', unseenKey, (last + 1) .. ' ' .. ARGV[8], 'EX', ${KEEP_UNSEEN})
  if ARGV[12] ~= '' then keepFamily(at, ttl, ARGV[12], ARGV[13]) end
  return { 'rotated', touch(sid, f, ARGV[4], now, number(ARGV[5])), last + 1 }
end
if at == last - 1 then
  local age = math.abs(now - number(chain[2]))
  local sealed = redis.call('GET', sealedKey)
  if sealed and age <= number(ARGV[9]) and age < ${KEEP_SEALED} then
    return { 'replayed', touch(sid, f, ARGV[4], now, number(ARGV[5])), last, sealed }
  end
  local of, unseen = string.match(redis.call('GET', unseenKey) or '', '^(%d+) (.*)$')
  if number(of) == last and age <= number(ARGV[11]) then
    return { 'recovered', touch(sid, f, ARGV[4], now, number(ARGV[5])), last, unseen }
  end
end
return { 'reused', f, 0, finish(sid, 'refresh_reused', now) }
`,
)

/**
 * KEYS[1] a sid's pointer; prefix, cause, now → the ended session; without a number where it was over already; nil:
 * there is none to end.
 */
export const END = byPointer(
  FINISH,
  `
local f = view(sid)
if not f then return false end
-- Another host ended it a moment ago: this one must know it before it says so too. No number: it ended nothing.
if f[5] then return { sid, f[7], f[6], f[4], '' } end
return finish(sid, ARGV[2], number(ARGV[3]))
`,
)

/** user's hash, cause, now → the ended sessions. */
export const END_ALL = atRoot(
  FINISH,
  `
local ended, now = {}, number(ARGV[3])
for _, sid in ipairs(redis.call('ZRANGE', root .. ':u:' .. ARGV[1], 0, -1)) do
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
