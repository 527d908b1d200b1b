// A copy's scripts: that Redis takes them, that a replica answers none, and that a draft stops every daemon's.
import t from 'tap'

import * as daemons from '../../src/store/redis-scripts.ts'
import * as scripts from '../../src/store/redis-transfer-scripts.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'

void t.test('Redis compiles every script', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  for (const [name, script] of Object.entries(scripts)) {
    if (typeof script !== 'object') continue
    t.equal(server.cli('SCRIPT', 'LOAD', script.text), script.sha, name)
  }
})

void t.test('nothing is read from a replica', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t)
  server.cli('REPLICAOF', '127.0.0.1', '1')
  const { LOOK, READ_SESSIONS, READ_TICKETS, READ_NAMES, READ_SUBSCRIPTIONS } = scripts
  const asking = { LOOK, READ_SESSIONS, READ_TICKETS, READ_NAMES, READ_SUBSCRIPTIONS }
  for (const [name, { text }] of Object.entries(asking)) {
    t.match(server.cli('EVAL', text, '1', 'x{0}', '0', '1', '1'), /^READONLY/, name)
  }
})

void t.test(
  'no script of a daemon works on a draft, and none changes it',
  NEEDS_REDIS,
  async (t) => {
    const server = await startRedis(t)
    const text = `${scripts.DRAFT}id root`
    server.cli('SET', 'x{0}', text)
    // These work on keys of their own, or on the counts of failed logins, which no copy has.
    const own = ['LOOK_UP', 'POINT', 'UNPOINT', 'TELL', 'CLAIM', 'TRY', 'SETTLE', 'TAKE_BACK']
    const others = new Set(own)
    for (const [name, script] of Object.entries(daemons)) {
      if (typeof script !== 'object' || others.has(name)) continue
      const args = Array.from({ length: 12 }, () => '1')
      t.match(server.cli('EVAL', script.text, '1', 'x{0}', ...args), /^WRONGTYPE/, name)
    }
    t.equal(server.cli('GET', 'x{0}'), text)
  },
)
