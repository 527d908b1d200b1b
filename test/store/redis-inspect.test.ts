import t from 'tap'

import { inspectRedis } from '../../src/store/redis-inspect.ts'
import { openRedisStore } from '../../src/store/redis.ts'
import { NEEDS_REDIS, startRedis } from '../fixtures/redis.ts'

const SOUND =
  'redis_version:7.0.15\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\nrole:master\r\nconnected_slaves:0\r\n'

void t.test('what could un-revoke a token is warned of, with its cure', async (t) => {
  const cases = [
    ['', '', []],
    ['redis_version:7.0.15', 'redis_version:6.2.0', [/Redis 7/]],
    ['redis_version:7.0.15\r\n', '', [/Redis 7/]],
    ['aof_enabled:1', 'aof_enabled:0', [/appendfsync always/]],
    ['policy:noeviction', 'policy:allkeys-lru', [/once it has a maxmemory/]],
    ['0\r\nmaxmemory_policy:noeviction', '9\r\nmaxmemory_policy:allkeys-lru', [/evicts \(allkeys/]],
    ['role:master', 'role:slave', [/is a replica/]],
    ['slaves:0', 'slaves:1', [/min-replicas-to-write/]],
    ['slaves:0', 'slaves:1\r\nmin_slaves_good_slaves:1', []],
  ] as const
  for (const [from, to, warnings] of cases) {
    const info = (section: string) =>
      Promise.resolve(section === 'server' ? SOUND.replace(from, to) : '')
    const said = await inspectRedis({ info })
    t.equal(said.length, warnings.length, `${from} → ${to}: ${said.join('; ')}`)
    for (const [index, warning] of warnings.entries()) t.match(said[index], warning)
  }
})

void t.test('a sound server has nothing said of it', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t, { appendonly: 'yes' })
  const store = await openRedisStore({ url })
  t.teardown(() => store.close())
  t.same(await store.inspect(), [])
})
