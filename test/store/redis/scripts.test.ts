import { createHash } from 'node:crypto'
import t from 'tap'

import * as scripts from '../../../src/store/redis/scripts.ts'
import { NEEDS_REDIS, startRedis } from '../../fixtures/redis.ts'

void t.test(
  'Redis compiles every script under the name that we call it by',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    for (const [name, script] of Object.entries(scripts)) {
      if (typeof script === 'function') continue // what makes one
      t.equal(server.cli('SCRIPT', 'LOAD', script.text), script.sha, name)
      t.equal(createHash('sha1').update(script.text).digest('hex'), script.sha)
    }
  },
)

void t.test('a replica answers no question about a session', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  server.cli('REPLICAOF', '127.0.0.1', '1')
  const { FIND, RENEW, END, DETAILS, MEMBERS, COUNT, SUBSCRIPTIONS, READ_FEED, TRY } = scripts
  const asking = { FIND, RENEW, END, DETAILS, MEMBERS, COUNT, SUBSCRIPTIONS, READ_FEED, TRY }
  for (const [name, { text }] of Object.entries(asking)) {
    t.match(server.cli('EVAL', text, '1', 'x{0}', 'a', 'b', 'c'), /^READONLY/, name)
  }
})
