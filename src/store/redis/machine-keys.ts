// Machine keys: one hash for all of them, read whole each second by every host, so it is sent only where it changed. What
// a key was made with stands in `key ID`, and what happens to it in fields of its own. The last change is told by what it
// was, not by a number: a primary that forgot one may make another in its place.

import { KEEP_MACHINE_KEY, type MachineKey } from '../machine-key.ts'
import type { StoreVerbs } from '../store.ts'
import type { Link } from './link.ts'
import { atRoot } from './scripts.ts'

/** The change that the caller knows → the last change, and all fields where it is another. */
export const LIST_MACHINE_KEYS = atRoot(`
local change = redis.call('HGET', root, 'change') or ''
if change == ARGV[1] then return { change } end
return { change, redis.call('HGETALL', root) }
`)

/** id, key, name, now, until, when the older ones end ('': there may be none), change → whether it was added. */
export const ADD_MACHINE_KEY = atRoot(`
local now, older = number(ARGV[4]), {}
local all = redis.call('HGETALL', root)
for at = 1, #all, 2 do
  local id = string.match(all[at], '^name (.*)$')
  if all[at] == 'key ' .. ARGV[1] then return taken end
  if id and all[at + 1] == ARGV[3] and redis.call('HEXISTS', root, 'removed ' .. id) == 0
    and number(redis.call('HGET', root, 'until ' .. id)) > now then table.insert(older, id) end
end
if (#older > 0) ~= (ARGV[6] ~= '') then return 0 end
for _, id in ipairs(older) do
  local field = 'until ' .. id
  redis.call('HSET', root, field, math.min(number(redis.call('HGET', root, field)), number(ARGV[6])))
end
redis.call('HSET', root, 'key ' .. ARGV[1], ARGV[2], 'name ' .. ARGV[1], ARGV[3], 'until ' .. ARGV[1], ARGV[5],
  'change', ARGV[7])
return 1
`)

/** now, change, ids. */
export const REMOVE_MACHINE_KEYS = atRoot(`
for at = 3, #ARGV do
  if redis.call('HEXISTS', root, 'key ' .. ARGV[at]) == 1 then
    redis.call('HSETNX', root, 'removed ' .. ARGV[at], ARGV[1])
  end
end
redis.call('HSET', root, 'change', ARGV[2])
return 1
`)

/** id, when, from where, change. */
export const USE_MACHINE_KEY = atRoot(`
if redis.call('HEXISTS', root, 'key ' .. ARGV[1]) == 1 then
  redis.call('HSET', root, 'used ' .. ARGV[1], ARGV[2] .. ' ' .. ARGV[3], 'change', ARGV[4])
end
return 1
`)

/** The instant up to which they are forgotten, change. */
export const PRUNE_MACHINE_KEYS = atRoot(`
local all = redis.call('HGETALL', root)
for at = 1, #all, 2 do
  local what, id = string.match(all[at], '^(%S+) (.*)$')
  if (what == 'until' or what == 'removed') and number(all[at + 1]) <= number(ARGV[1]) then
    for _, field in ipairs({ 'key ', 'name ', 'until ', 'removed ', 'used ' }) do
      redis.call('HDEL', root, field .. id)
    end
    redis.call('HSET', root, 'change', ARGV[2])
  end
end
return 1
`)

type Made = Pick<MachineKey, 'id' | 'name' | 'hash' | 'grants' | 'from' | 'createdAt'>

const toMachineKeys = (flat: readonly string[]): MachineKey[] => {
  const fields = new Map<string, string>()
  for (let at = 0; at < flat.length; at += 2) fields.set(String(flat[at]), String(flat[at + 1]))
  const made = [...fields].filter(([field]) => field.startsWith('key '))
  return made
    .map(([, text]) => {
      const key = JSON.parse(text) as Made
      const [usedAt = '0', usedFrom = ''] = fields.get(`used ${key.id}`)?.split(' ') ?? []
      return {
        ...key,
        until: Number(fields.get(`until ${key.id}`)),
        removedAt: Number(fields.get(`removed ${key.id}`) ?? 0),
        usedAt: Number(usedAt),
        usedFrom,
      }
    })
    .sort(
      (one, two) =>
        (one.name < two.name ? -1 : Number(one.name > two.name)) || one.createdAt - two.createdAt,
    )
}

/** `root`: the hash itself. */
export const createRedisMachineKeys = (run: Link['run'], root: string) => {
  let known = ''
  let keys: readonly MachineKey[] = []
  return {
    async listMachineKeys() {
      const reply = await run(LIST_MACHINE_KEYS, root, [known])
      const [change, flat] = reply as [change: string, flat?: string[]]
      if (flat) keys = toMachineKeys(flat)
      known = change
      return keys
    },
    async addMachineKey({ id, name, hash, grants, from, createdAt, until }, olderUntil) {
      const made: Made = { id, name, hash, grants, from, createdAt }
      const args = [id, JSON.stringify(made), name, createdAt, until, olderUntil ?? '']
      return (await run(ADD_MACHINE_KEY, root, [...args, `added ${id}`])) === 1
    },
    async removeMachineKeys(ids, now) {
      const change = `removed ${now} ${ids.join(' ')}`
      await run(REMOVE_MACHINE_KEYS, root, [now, change, ...ids])
    },
    async useMachineKey(id, now, address) {
      await run(USE_MACHINE_KEY, root, [id, now, address, `used ${id} ${now} ${address}`])
    },
    async pruneMachineKeys(past: number) {
      await run(PRUNE_MACHINE_KEYS, root, [past - KEEP_MACHINE_KEY, `pruned ${past}`])
    },
  } satisfies Partial<StoreVerbs> & { pruneMachineKeys(past: number): Promise<void> }
}
