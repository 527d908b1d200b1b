import { createHash } from 'node:crypto'
import t from 'tap'

import * as countedTime from '../../../src/store/redis/counted-time.ts'
import * as feed from '../../../src/store/redis/feed.ts'
import * as journal from '../../../src/store/redis/journal.ts'
import * as prune from '../../../src/store/redis/prune.ts'
import * as sessions from '../../../src/store/redis/scripts.ts'
import { SEE } from '../../../src/store/redis/sessions.ts'
import * as streams from '../../../src/store/redis/streams.ts'
import * as throttle from '../../../src/store/redis/throttle.ts'
import { NEEDS_REDIS, startRedis } from '../../fixtures/redis.ts'

void t.test(
  'Redis compiles every script under the name that we call it by',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const scripts = Object.entries({
      ...countedTime,
      ...feed,
      ...journal,
      ...prune,
      ...sessions,
      SEE,
      ...streams,
      ...throttle,
    })
    for (const [name, script] of scripts) {
      if (typeof script === 'function') continue // what makes one, and what calls them
      t.equal(server.cli('SCRIPT', 'LOAD', script.text), script.sha, name)
      t.equal(createHash('sha1').update(script.text).digest('hex'), script.sha)
    }
  },
)

void t.test('a replica answers no question about a session', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  server.cli('REPLICAOF', '127.0.0.1', '1')
  const { FIND, RENEW, END, DETAILS, MEMBERS, COUNT } = sessions
  const { COUNT_TIME } = countedTime
  const { SUBSCRIPTIONS } = streams
  const { READ_FEED } = journal
  const { TRY } = throttle
  const asking = {
    COUNT_TIME,
    FIND,
    RENEW,
    END,
    DETAILS,
    MEMBERS,
    COUNT,
    SUBSCRIPTIONS,
    READ_FEED,
    TRY,
  }
  for (const [name, { text }] of Object.entries(asking)) {
    t.match(server.cli('EVAL', text, '1', 'x{0}', 'a', 'b', 'c'), /^READONLY/, name)
  }
})
