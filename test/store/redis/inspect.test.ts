import t from 'tap'

import type * as inspection from '../../../src/store/redis/inspect.ts'
import { inspectRedis, inspectRedisAt } from '../../../src/store/redis/inspect.ts'
import { openRedisStore } from '../../../src/store/redis/redis.ts'
import { NEEDS_REDIS, startRedis } from '../../fixtures/redis.ts'

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
    ['aof_enabled:1', 'aof_enabled:1\r\nfsync:everysec', [/up to a second of logouts/]],
    ['aof_enabled:1', 'aof_enabled:1\r\nfsync:always', []],
    ['role:master', 'role:slave', [/is a replica/]],
    ['slaves:0', 'slaves:1', [/min-replicas-to-write/]],
    ['slaves:0', 'slaves:1\r\nmin_slaves_good_slaves:1', []],
  ] as const
  for (const [from, to, warnings] of cases) {
    const info = (section: string) =>
      Promise.resolve(section === 'server' ? SOUND.replace(from, to) : '')
    const setting = async () => /^fsync:(.*)$/m.exec(await info('server'))?.[1]
    const said = await inspectRedis({ info, setting })
    t.equal(said.length, warnings.length, `${from} → ${to}: ${said.join('; ')}`)
    for (const [index, warning] of warnings.entries()) t.match(said[index], warning)
  }
})

void t.test('a sound server has nothing said of it', NEEDS_REDIS, async (t) => {
  const { url } = await startRedis(t, { appendonly: 'yes', appendfsync: 'always' })
  const store = await openRedisStore({ url })
  t.teardown(() => store.close())
  t.same(await store.inspect(), [])
})

void t.test('a server is looked at and not written to', NEEDS_REDIS, async (t) => {
  const server = await startRedis(t, { maxmemory: '100mb', 'maxmemory-policy': 'allkeys-lru' })
  const look = () => inspectRedisAt({ url: server.url, timeout: 2 })
  t.match(await look(), [/evicts \(allkeys-lru\)/, /appendonly yes/])
  t.equal(server.cli('DBSIZE'), '0')
  server.cli(
    'CONFIG',
    'SET',
    'maxmemory',
    '0',
    'maxmemory-policy',
    'noeviction',
    'appendonly',
    'yes',
  )
  t.match(await look(), [/appendfsync always/])
  server.cli('ACL', 'SETUSER', 'default', '-config')
  t.same(await look(), [], 'what may not be asked is not guessed')
  await server.kill()
  t.match(await look(), [/is away: .*ECONNREFUSED/])
  await t.rejects(inspectRedisAt({ url: server.url, ca: '/none', timeout: 1 }), {
    code: 'missing',
  })
})

void t.test('a fault of the program is not passed off as one of the server', async (t) => {
  const { inspectRedisAt: mocked } = await t.mockImport<typeof inspection>(
    '../../../src/store/redis/inspect.ts',
    {
      '../../../src/store/redis/link.ts': {
        openLink: async () => ({
          info: async () => {
            throw new TypeError('a bug')
          },
          close() {},
        }),
      },
    },
  )
  await t.rejects(mocked({ url: 'redis://a', timeout: 1 }), TypeError)
})
