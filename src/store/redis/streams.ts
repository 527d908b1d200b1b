// What was handed out to nginx and is not closed: one list for each nginx, of all the instances beside it, and when
// each of those was last heard.

import type { Subscription } from '../../streams/subscription.ts'
import type { Link } from './link.ts'
import { atRoot, plain } from './scripts.ts'
import type { RedisSessions } from './sessions.ts'
import type { SharedVerbs } from '../shared-store.ts'
import { KEEP_SUBSCRIPTIONS, type StoreVerbs } from '../store.ts'

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

const CLOSE_SLICE = 500 // streams a script
const SILENT = 5 // seconds without a word: an instance that says something each second is gone

export const createRedisStreams = (parts: {
  run: Link['run']
  /** Of the streams of this instance's nginx. */
  root: string
  instance: string
  accessUntil: RedisSessions['accessUntil']
  now: () => number
}) => {
  const { run, root, instance, accessUntil, now } = parts

  const list = async (isMeant: (by: string | undefined) => boolean): Promise<Subscription[]> => {
    const texts = (await run(SUBSCRIPTIONS, root)) as string[]
    const all = texts
      .map((text) => JSON.parse(text) as Subscription & { by?: string })
      .filter(({ by }) => isMeant(by))
    const until = await accessUntil(all)
    return all
      .map(({ by: _by, ...one }) => ({
        ...one,
        until: Math.max(one.until, until.get(one.sid) ?? 0),
      }))
      .sort((one, two) => one.startedAt - two.startedAt || (one.kick < two.kick ? -1 : 1))
  }

  return {
    async openSubscription(subscription) {
      const { kick, startedAt, until } = subscription
      const ttl = Math.max(until - startedAt, 0) + KEEP_SUBSCRIPTIONS
      const by = instance === '' ? {} : { by: instance }
      const args = [kick, JSON.stringify({ ...subscription, ...by }), ttl]
      if ((await run(SUBSCRIBE, root, args)) === 0) {
        throw new Error('a subscription of this kick id is there already')
      }
    },
    async closeSubscriptions(kicks) {
      for (let at = 0; at < kicks.length; at += CLOSE_SLICE) {
        await run(UNSUBSCRIBE, root, kicks.slice(at, at + CLOSE_SLICE))
      }
    },
    // Its own, and an older version's, which are nobody's.
    listSubscriptions: () => list((by) => by === undefined || by === instance),
    subscriptionsOf: (instances) => list((by) => by !== undefined && instances.includes(by)),
    beat: async () => (await run(BEAT, `${root}:by`, [instance, now(), SILENT])) as string[],
  } satisfies Partial<StoreVerbs & SharedVerbs>
}
