// The streams that the version before kept here, a hash for each nginx: taken over from it once, for one version more.

import type { Link } from './link.ts'
import { atRoot } from './scripts.ts'
import type { LeftSubscription, StoreVerbs } from '../store.ts'

/** kicks. */
export const UNSUBSCRIBE = atRoot(`
for _, kick in ipairs(ARGV) do redis.call('HDEL', root, kick) end
return 1
`)

export const SUBSCRIPTIONS = atRoot(`return redis.call('HVALS', root)`)

const CLOSE_SLICE = 500 // streams a script

/** `root`: of the streams of this instance's nginx. */
export const createRedisStreams = (run: Link['run'], root: string) =>
  ({
    // Of all instances beside that nginx: one that never comes back leaves them to whoever starts first.
    async listSubscriptions() {
      const texts = (await run(SUBSCRIPTIONS, root)) as string[]
      return texts.map((text) => JSON.parse(text) as LeftSubscription)
    },
    async closeSubscriptions(kicks) {
      for (let at = 0; at < kicks.length; at += CLOSE_SLICE) {
        await run(UNSUBSCRIBE, root, kicks.slice(at, at + CLOSE_SLICE))
      }
    },
  }) satisfies Partial<StoreVerbs>
