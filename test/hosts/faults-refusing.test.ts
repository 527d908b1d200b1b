// F6 and F7: Redis answers, and what it says is no. Half of them; faults-refusing-more.test.ts has the others.

import t from 'tap'

import { until } from '../fixtures/postern.ts'
import { DURABLE, openBed, openHosts } from './bed.ts'
import { NEEDS_HOSTS } from './network.ts'
import { sufferAll } from './outage.ts'
import { spawnCli, untilItSays } from './redis-fault.ts'

const OPTIONS = {
  ...DURABLE,
  'busy-reply-threshold': '50',
  'loading-process-events-interval-bytes': '1024',
  rdbcompression: 'no',
}
const POLL = 1.3 // seconds in which what only the server's settings say is found out

void t.test('F6: of what it lacks', NEEDS_HOSTS, async (t) => {
  const { bed, hosts } = await openHosts(t, ['a'], {}, OPTIONS)
  const { redis } = bed
  const set = (name: string, value: string): string => redis.cli('CONFIG', 'SET', name, value)
  await sufferAll(t, bed, hosts[0], [
    {
      name: 'OOM: its memory is full',
      strike: () => set('maxmemory', '1mb'),
      heal: () => set('maxmemory', '0'),
      says: /OOM: its memory is full/,
      stillDone: ['refresh', 'logout'],
    },
    {
      name: 'NOREPLICAS: too few copies',
      strike: () => set('min-replicas-to-write', '1'),
      heal: () => set('min-replicas-to-write', '0'),
      says: /NOREPLICAS: too few replicas/,
    },
    {
      name: 'BUSY: a script that does not end',
      async strike() {
        void spawnCli(redis, 'EVAL', 'while true do end', '0')
        await untilItSays(redis, /^BUSY|silence/, 'PING')
      },
      heal: () => spawnCli(redis, 'SCRIPT', 'KILL'),
      says: /BUSY: a script keeps it busy/,
    },
    {
      name: 'LOADING: it reads its data',
      async strike() {
        // 15 ms a key, of 2 KiB that cannot be compressed away: 4.5 s.
        redis.cli('DEBUG', 'POPULATE', '300', 'padding', '2048')
        set('key-load-delay', '15000')
        void spawnCli(redis, 'DEBUG', 'RELOAD')
        await untilItSays(redis, /^LOADING/, 'PING')
      },
      heal: () => untilItSays(redis, /^PONG/, 'PING'),
      says: /LOADING: it is still loading/,
    },
    {
      name: 'F7: it evicts',
      strike() {
        set('maxmemory', '500mb')
        set('maxmemory-policy', 'allkeys-lru')
      },
      heal: () => set('maxmemory-policy', 'noeviction'),
      says: /EVICTS: it may evict/,
      noticedWithin: POLL,
    },
  ])
})

void t.test(
  'F7: a host that starts beside one that evicts decides nothing',
  NEEDS_HOSTS,
  async (t) => {
    const bed = await openBed(t, { maxmemory: '500mb', 'maxmemory-policy': 'allkeys-lru' })
    const host = await bed.host('a')
    await host.start()
    t.equal(await host.ready(), 503)
    t.equal((await host.tryLogin()).status, 503)
    await until('it says so', () =>
      host.storeLines().some((line) => /EVICTS: it may evict/.test(line)),
    )
    bed.redis.cli('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
    await until('it is ready', async () => (await host.ready()) === 200)
    t.equal((await host.tryLogin()).status, 200)
  },
)
